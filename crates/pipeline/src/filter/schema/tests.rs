//! The layer, around a service that gives back what it got.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use onlyonce::IdempotencyLayer;
use onlyonce_memory::MemoryStore;
use serde_json::{Value, json};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use super::*;
use crate::filter::FilterBody;
use crate::{Answers, Language};

fn schema() -> Schema {
    Schema::new(&json!({
        "type": "object",
        "required": ["amount"],
        "properties": {
            "amount": { "type": "integer", "minimum": 1 },
            "items": { "type": "array", "items": { "type": "object", "required": ["sku"] } },
            "mail": { "type": "string", "format": "email" },
            "pin": { "type": "string", "maxLength": 4 },
        },
        "additionalProperties": false,
    }))
    .unwrap()
}

/// Gives back the body that it got.
async fn echo<B>(request: Request<FilterBody<B>>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let body = request.into_body().collect().await.unwrap();
    let trailers = body.trailers().map_or(0, HeaderMap::len);
    let mut response = Response::new(Full::new(body.to_bytes()));
    response.headers_mut().insert("x-trailers", trailers.into());
    Ok(response)
}

async fn ask<B>(layer: &SchemaLayer, request: Request<B>) -> Response<Bytes>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Debug + Into<onlyonce_core::BoxError>,
{
    let response = layer
        .layer(service_fn(echo))
        .oneshot(request)
        .await
        .unwrap();
    let (head, body) = response.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

fn post(body: &str) -> Request<Full<Bytes>> {
    Request::post("/charges")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::from(body.to_owned()))
        .unwrap()
}

fn layer() -> SchemaLayer {
    SchemaLayer::new(schema(), Answers::new())
}

/// What the refusal of `body` says: code, status, message.
async fn refusal(layer: &SchemaLayer, request: Request<Full<Bytes>>) -> (i64, u16, String) {
    let response = ask(layer, request).await;
    let value: Value = serde_json::from_slice(response.body()).unwrap();
    let message = value["message"].as_str().unwrap().to_owned();
    (
        value["code"].as_i64().unwrap(),
        response.status().as_u16(),
        message,
    )
}

#[tokio::test]
async fn a_body_that_fits_is_handed_on_unchanged() {
    let body = "{ \"amount\":1,\r\n \"items\":[{\"sku\":\"\\u00e9\"}] }\n";
    let response = ask(&layer(), post(body)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.body(), body);
}

#[tokio::test]
async fn trailers_and_frames_are_handed_on_too() {
    let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
    let frames: Vec<Result<Frame<Bytes>, Infallible>> = vec![
        Ok(Frame::data(Bytes::from("{\"amo"))),
        Ok(Frame::data(Bytes::from("unt\":1}"))),
        Ok(Frame::trailers(trailers)),
    ];
    let request = post("").map(|_| StreamBody::new(stream::iter(frames)));
    let response = ask(&layer(), request).await;
    assert_eq!(response.body(), "{\"amount\":1}");
    assert_eq!(response.headers()["x-trailers"], "1");
}

#[tokio::test]
async fn the_first_broken_rule_with_its_place() {
    for (body, place, rule) in [
        (r#"{"amount":0}"#, "/amount: ", "less than the minimum of 1"),
        (
            r#"{"amount":"1"}"#,
            "/amount: ",
            "is not of type \"integer\"",
        ),
        (
            r#"{"amount":1,"items":[{"sku":1},{}]}"#,
            "/items/1: ",
            "\"sku\" is a required",
        ),
        (r#"{}"#, "/: ", "\"amount\" is a required property"),
        (r#"[]"#, "/: ", "is not of type \"object\""),
        (
            r#"{"amount":1,"mail":"nobody"}"#,
            "/mail: ",
            "is not a \"email\"",
        ),
        (r#"{"amount":1,"more":1}"#, "/: ", "'more' was unexpected"),
    ] {
        let (code, status, message) = refusal(&layer(), post(body)).await;
        assert_eq!((code, status), (51, 400), "{body}");
        assert!(
            message.starts_with(place) && message.contains(rule),
            "{body}: {message}"
        );
    }
}

#[tokio::test]
async fn hazard_34_a_refusal_does_not_tell_the_value() {
    let (_, _, message) = refusal(&layer(), post(r#"{"amount":1,"pin":"hunter2"}"#)).await;
    assert!(message.starts_with("/pin: "), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn in_chinese() {
    let layer = SchemaLayer::new(schema(), Answers::new().with_language(Language::ZhCn));
    let (code, _, message) = refusal(&layer, post(r#"{"amount":0}"#)).await;
    assert_eq!((code, &*message), (51, "/amount：不符合规则 minimum"));
}

#[tokio::test]
async fn what_is_not_json_is_refused() {
    for body in ["", "{", r#"{"amount":1"#, r#"{"amount":1,"amount":2}"#] {
        let (code, status, message) = refusal(&layer(), post(body)).await;
        assert_eq!((code, status), (66, 400), "{body}");
        assert!(message.contains(" at line 1 column "), "{message}");
    }
}

#[tokio::test]
async fn hazard_54_no_other_form_of_body_slips_past() {
    let mut plain = post(r#"{"amount":0}"#);
    plain
        .headers_mut()
        .insert(CONTENT_TYPE, "text/plain".parse().unwrap());
    let mut unsaid = post(r#"{"amount":0}"#);
    unsaid.headers_mut().remove(CONTENT_TYPE);
    let mut packed = post(r#"{"amount":0}"#);
    packed
        .headers_mut()
        .insert(CONTENT_ENCODING, "gzip".parse().unwrap());
    let mut other = post(r#"{"amount":0}"#);
    other
        .headers_mut()
        .append(CONTENT_TYPE, "text/plain".parse().unwrap());
    for request in [plain, unsaid, packed, other] {
        let (code, status, _) = refusal(&layer(), request).await;
        assert_eq!((code, status), (66, 415));
    }
}

#[tokio::test]
async fn every_body_is_checked_and_requests_without_one_pass() {
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        let mut request = post("");
        *request.method_mut() = method.parse().unwrap();
        request.headers_mut().remove(CONTENT_TYPE);
        assert_eq!(
            ask(&layer(), request).await.status(),
            StatusCode::OK,
            "{method}"
        );
        let mut request = post(r#"{"amount":0}"#);
        *request.method_mut() = method.parse().unwrap();
        assert_eq!(refusal(&layer(), request).await.0, 51, "{method}");
    }
}

#[tokio::test]
async fn hazard_50_a_body_is_read_up_to_the_limit() {
    let exact = r#"{"amount":1}"#;
    let layer = layer().with_max_body(exact.len());
    assert_eq!(ask(&layer, post(exact)).await.status(), StatusCode::OK);
    let (code, status, message) = refusal(&layer, post(&format!("{exact} "))).await;
    assert_eq!((code, status), (66, 413));
    assert_eq!(message, "The body is longer than 12 bytes");
}

#[tokio::test]
async fn a_route_s_own_schema_holds_instead() {
    let strings = RouteSchema::new(Schema::parse(br#"{"type":"string"}"#).unwrap());
    let with = |mut request: Request<Full<Bytes>>, own: &RouteSchema| {
        request.extensions_mut().insert(own.clone());
        request
    };
    let by_route = SchemaLayer::by_route(Answers::new());
    for layer in [layer(), by_route.clone()] {
        let response = ask(&layer, with(post("\"x\""), &strings)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(refusal(&layer, with(post("{}"), &strings)).await.0, 51);
        let response = ask(&layer, with(post("no json"), &RouteSchema::off())).await;
        assert_eq!(response.body(), "no json");
    }
    assert_eq!(ask(&by_route, post("no json")).await.body(), "no json");
}

#[tokio::test]
async fn a_refusal_gives_the_key_back() {
    let executed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executed);
    let service = ServiceBuilder::new()
        .layer(IdempotencyLayer::new(MemoryStore::new()))
        .layer(layer())
        .service(service_fn(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("charged")))) }
        }));
    let keyed = |body: &str| {
        let mut request = post(body);
        request
            .headers_mut()
            .insert("idempotency-key", "k".parse().unwrap());
        request
    };
    // Refused twice alike, and then corrected under the same key: neither 409 nor 422.
    for (body, status) in [
        (r#"{"amount":0}"#, 400),
        (r#"{"amount":0}"#, 400),
        (r#"{"amount":1}"#, 200),
        (r#"{"amount":1}"#, 200),
        (r#"{"amount":0}"#, 422),
    ] {
        let response = service.clone().oneshot(keyed(body)).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{body}");
    }
    assert_eq!(executed.load(Ordering::SeqCst), 1, "and then replayed");
}

#[test]
fn a_text_that_is_no_schema_says_why() {
    for (text, part) in [
        ("{", "not JSON: EOF"),
        (r#"{"type":"objekt"}"#, "not a JSON Schema: at /type: "),
        (r#"{"minimum":"1"}"#, "not a JSON Schema: at /minimum: "),
        (r#"{"format":"emial"}"#, "not a JSON Schema: at /"),
        (r#"{"pattern":"("}"#, "not a JSON Schema: at /"),
        (
            r#"{"$ref":"http://127.0.0.1:1/x.json"}"#,
            "not a JSON Schema: at /",
        ),
        (
            r#"{"$ref":"file:///etc/passwd"}"#,
            "not a JSON Schema: at /",
        ),
        (r##"{"$ref":"#/nowhere"}"##, "not a JSON Schema: at /"),
    ] {
        let error = Schema::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(part), "{text}: {error}");
    }
}
