//! The extractors and the layer, in an axum application as HotGo's guide has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::{FromRequest, State};
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use garde::Validate;
use http::header::{ACCEPT_LANGUAGE, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use onlyonce::{IdempotencyLayer, TraceId};
use onlyonce_core::Timestamp;
use onlyonce_memory::MemoryStore;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::context::Context;
use crate::envelope::{Envelope, EnvelopeLayer};
use crate::{Answers, Code, Error, Language, StatusMode};

#[derive(Debug, PartialEq, Serialize, Deserialize, Validate)]
struct Order {
    #[garde(skip)]
    id: Option<u64>,
    #[garde(length(chars, min = 2))]
    name: String,
    #[garde(range(max = 9))]
    #[serde(default)]
    amount: u32,
    #[garde(skip)]
    #[serde(default)]
    tags: Vec<String>,
    #[garde(skip)]
    gift: Option<bool>,
}

impl<S: Sync> Filter<S> for Order {
    async fn filter(&mut self, context: FilterContext<'_, S>) -> Result<(), Error> {
        self.name = self.name.trim().to_lowercase();
        match &*self.name {
            "taken" => Err(Error::new(Code::new(30002), "this name is taken")),
            "plain" => Err(Error::plain("something is wrong")),
            "wrapped" => Err(Error::new(7, "seven").wrap("outer")),
            "io" => Err(std::io::Error::other("db at 10.0.0.9 is down").into()),
            "path" => Err(Error::new(7, context.request().uri.path().to_owned())),
            "trace" => {
                let trace_id = context
                    .context()
                    .map(|context| context.trace_id().as_str().to_owned());
                Err(Error::new(7, trace_id.unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }
}

async fn show(Filtered(order): Filtered<Order>) -> Envelope<Order> {
    Envelope::new(order)
}

fn app() -> Router {
    app_with(Answers::new())
}

fn app_with(answers: Answers) -> Router {
    Router::new()
        .route("/orders", any(show))
        .route("/orders/{id}", any(show))
        .route(
            "/raw",
            post(async |Validated(items): Validated<Vec<Order>>| Envelope::new(items.len())),
        )
        .layer(EnvelopeLayer::new(answers))
}

#[expect(clippy::unwrap_used, reason = "a test's own request is sound")]
fn with_type(uri: &str, content_type: &str, body: &str) -> Request<Body> {
    Request::post(uri)
        .header(CONTENT_TYPE, content_type)
        .body(Body::from(body.to_owned()))
        .unwrap()
}

fn with_json(uri: &str, body: &Value) -> Request<Body> {
    with_type(uri, "application/json", &body.to_string())
}

fn with_form(uri: &str, body: &str) -> Request<Body> {
    with_type(uri, "application/x-www-form-urlencoded", body)
}

#[expect(clippy::unwrap_used, reason = "a test fails where it can't be")]
async fn ask(app: Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = app.oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&body);
    (
        status,
        value.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into()),
    )
}

async fn data(request: Request<Body>) -> Value {
    let (status, value) = ask(app(), request).await;
    assert_eq!(status, StatusCode::OK, "{value}");
    value["data"].clone()
}

/// Code, status and message of a refusal.
async fn refused(request: Request<Body>) -> (i64, u16, String) {
    let (status, value) = ask(app(), request).await;
    let message = value["message"].as_str().unwrap_or_default();
    (
        value["code"].as_i64().unwrap_or_default(),
        status.as_u16(),
        message.to_owned(),
    )
}

fn order(name: &str) -> Value {
    json!({"id": null, "name": name, "amount": 0, "tags": [], "gift": null})
}

#[tokio::test]
async fn from_json_a_form_and_the_query() {
    let wanted = json!({"id": 7, "name": "ann", "amount": 3, "tags": ["a", "b"], "gift": true});
    let body = json!({"id": 7, "name": " Ann ", "amount": 3, "tags": ["a", "b"], "gift": true});
    assert_eq!(data(with_json("/orders", &body)).await, wanted);
    let text = "id=7&name=+Ann+&amount=3&tags=a&tags=b&gift=on";
    assert_eq!(data(with_form("/orders", text)).await, wanted);
    let text = "id=7&name=Ann&amount=3&tags[]=a&tags%5B%5D=b&gift=1";
    assert_eq!(data(with_form("/orders", text)).await, wanted);
    let request = Request::get(format!("/orders?{text}"));
    assert_eq!(data(request.body(Body::empty()).unwrap()).await, wanted);
}

#[tokio::test]
async fn the_route_wins_over_the_body_and_the_body_over_the_query() {
    let body = json!({"id": 8, "name": "body"});
    let uri = "/orders/7?id=9&name=query&amount=3";
    let mut wanted = order("body");
    wanted["id"] = 7.into();
    wanted["amount"] = 3.into();
    assert_eq!(data(with_json(uri, &body)).await, wanted);
    assert_eq!(data(with_form(uri, "id=8&name=body")).await, wanted);
    wanted["id"] = 8.into();
    assert_eq!(
        data(with_json("/orders?id=9&amount=3", &body)).await,
        wanted
    );
}

#[tokio::test]
async fn a_body_that_is_no_object_is_the_input_alone() {
    let two = json!([order("ann"), order("bob")]);
    assert_eq!(data(with_json("/raw?name=x", &two)).await, 2);
    assert_eq!(refused(with_json("/raw", &json!("x"))).await.0, 51);
    let bad = json!([order("ann"), order("x")]);
    let (code, _, message) = refused(with_json("/raw", &bad)).await;
    assert_eq!(
        (code, &*message),
        (51, "[1].name: must not be shorter than 2")
    );
}

#[tokio::test]
async fn a_field_that_does_not_fit_its_type() {
    for (request, message) in [
        (with_json("/orders", &json!({})), "missing field `name`"),
        (
            with_json("/orders", &json!({"name": 7})),
            "name: expected a string",
        ),
        (
            with_json("/orders", &json!({"name": "ann", "amount": "7"})),
            "amount: expected u32",
        ),
        (
            with_json("/orders", &json!({"name": "ann", "tags": ["a", 1]})),
            "tags[1]: expected a string",
        ),
        (
            with_form("/orders", "name=ann&amount=x"),
            "amount: expected a whole number, not negative",
        ),
        (
            with_form("/orders", "name=ann&name=bob"),
            "name: given 2 times",
        ),
        (
            with_form("/orders", "name=ann&gift=maybe"),
            "gift: expected true or false",
        ),
        (
            with_form("/orders/x", "name=ann"),
            "id: expected a whole number, not negative",
        ),
    ] {
        assert_eq!(refused(request).await, (51, 400, message.to_owned()));
    }
}

#[tokio::test]
async fn hazard_34_what_was_sent_is_not_repeated() {
    let body = json!({"name": "ann", "amount": "hunter2"});
    let (_, value) = ask(app(), with_json("/orders", &body)).await;
    assert!(!value.to_string().contains("hunter2"), "{value}");
    let (_, value) = ask(app(), with_form("/orders", "name=ann&amount=hunter2")).await;
    assert!(!value.to_string().contains("hunter2"), "{value}");
}

#[tokio::test]
async fn a_broken_rule_says_which_in_the_client_s_language() {
    let request = || with_json("/orders", &json!({"name": "x", "amount": 10}));
    let message = "name: must not be shorter than 2".to_owned();
    assert_eq!(refused(request()).await, (51, 400, message));
    let mut chinese = request();
    chinese
        .headers_mut()
        .insert(ACCEPT_LANGUAGE, "zh-CN".parse().unwrap());
    assert_eq!(
        refused(chinese).await,
        (51, 400, "name：长度不能小于2".to_owned())
    );
}

#[tokio::test]
async fn a_client_s_mistake_has_no_place_in_the_program() {
    for (content_type, body, message) in [
        ("application/json", "{", "The body is not valid JSON"),
        ("application/json", "{}", "missing field `name`"),
        ("application/json", r#"{"name":"x"}"#, "name: must not be"),
        ("text/plain", "x", "The body must be JSON or a form"),
    ] {
        let request = with_type("/", content_type, body);
        let rejection = Filtered::<Order>::from_request(request, &())
            .await
            .unwrap_err();
        let lines = rejection.error().lines(Language::En);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with(&format!("1. {message}")), "{lines:?}");
    }
}

#[tokio::test]
async fn errors_of_a_filter_keep_their_code_and_plain_ones_are_68() {
    for (name, code, status, message) in [
        ("taken", 30002, 400, "this name is taken"),
        ("plain", 68, 500, "something is wrong"),
        ("wrapped", 7, 400, "outer"),
        ("io", 68, 500, "Operation failed, please try again later"),
        ("path", 7, 400, "/orders"),
    ] {
        let answer = refused(with_json("/orders", &json!({"name": name}))).await;
        assert_eq!(answer, (code, status, message.to_owned()));
    }
}

#[tokio::test]
async fn a_filter_sees_the_context() {
    let mut request = with_json("/orders", &json!({"name": "trace"}));
    let context = Context::new(TraceId::new("abc"), "/orders", Timestamp::from_millis(0));
    request.extensions_mut().insert(context);
    assert_eq!(refused(request).await, (7, 400, "abc".to_owned()));
}

#[tokio::test]
async fn a_filter_sees_the_state() {
    #[derive(Clone)]
    struct Taken(&'static str);
    #[derive(Deserialize, Validate)]
    struct Name {
        #[garde(skip)]
        name: String,
    }
    impl Filter<Taken> for Name {
        async fn filter(&mut self, context: FilterContext<'_, Taken>) -> Result<(), Error> {
            if self.name == context.state().0 {
                return Err(Error::new(9, "taken"));
            }
            Ok(())
        }
    }
    let app = Router::new()
        .route(
            "/",
            post(
                async |State(_): State<Taken>, Filtered(name): Filtered<Name>| {
                    Envelope::new(name.name)
                },
            ),
        )
        .layer(EnvelopeLayer::new(Answers::new()))
        .with_state(Taken("ann"));
    let (_, value) = ask(app.clone(), with_form("/", "name=ann")).await;
    assert_eq!(value["code"], 9);
    let (_, value) = ask(app, with_form("/", "name=bob")).await;
    assert_eq!(value["data"], "bob");
}

#[tokio::test]
async fn what_cannot_be_read() {
    for (request, code, status) in [
        (with_type("/orders", "application/json", "{"), 66, 400),
        (
            with_type("/orders", "application/json", r#"{"name":"a","name":"b"}"#),
            66,
            400,
        ),
        (with_type("/orders", "text/plain", "name=ann"), 66, 415),
        (
            with_type("/orders", "application/json; charset=gbk", "{}"),
            66,
            415,
        ),
        (with_type("/orders/%ff", "application/json", "{}"), 66, 400),
    ] {
        let answer = refused(request).await;
        assert_eq!((answer.0, answer.1), (code, status), "{answer:?}");
    }
    // Without a body its type does not matter.
    let request = with_type("/orders?name=ann", "text/plain", "");
    assert_eq!(data(request).await, order("ann"));
}

#[tokio::test]
async fn hazard_50_a_body_is_read_up_to_the_limit() {
    let limit = axum::extract::DefaultBodyLimit::max(20);
    let form = format!("name={}", "a".repeat(16));
    let (status, value) = ask(app().layer(limit), with_form("/orders", &form)).await;
    assert_eq!((status.as_u16(), &value["code"]), (413, &json!(66)));
    let (status, _) = ask(app().layer(limit), with_form("/orders", &form[1..])).await;
    assert_eq!(status.as_u16(), 400, "name is missing, as it is `ame`");

    // axum's own limit, unless it is lifted.
    let form = format!("name={}", "a".repeat(2 * 1024 * 1024));
    let (status, _) = ask(app(), with_form("/orders", &form)).await;
    assert_eq!(status.as_u16(), 413);
    let unlimited = app().layer(axum::extract::DefaultBodyLimit::disable());
    let (status, _) = ask(unlimited, with_form("/orders", &form)).await;
    assert_eq!(status.as_u16(), 200);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let frames = [Ok("name=an"), Err(std::io::Error::other("reset"))];
    let body = Body::from_stream(futures_util::stream::iter(frames));
    let request = with_form("/orders", "").map(|_| body);
    let (code, status, message) = refused(request).await;
    assert_eq!((code, status), (66, 400));
    assert_eq!(message, "The body could not be read to its end");
}

#[tokio::test]
async fn without_an_envelope_a_refusal_is_its_status() {
    let app = Router::new().route("/", post(show));
    assert_eq!(
        ask(app, with_form("/", "name=x")).await,
        (StatusCode::BAD_REQUEST, json!(""))
    );
}

#[expect(clippy::unwrap_used, reason = "a test's own request is sound")]
fn keyed(mut request: Request<Body>) -> Request<Body> {
    let headers = request.headers_mut();
    headers.insert("idempotency-key", "k".parse().unwrap());
    request
}

/// Refused alike, corrected under the same key, replayed.
async fn gives_the_key_back(service: Router, executed: &AtomicUsize) {
    for (name, status) in [
        ("x", 400),
        ("x", 400),
        ("plain", 500),
        ("ann", 200),
        ("ann", 200),
    ] {
        let request = keyed(with_json("/", &json!({"name": name})));
        let (found, value) = ask(service.clone(), request).await;
        assert_eq!(found.as_u16(), status, "{name}: {value}");
    }
    assert_eq!(executed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refusal_of_the_extractor_gives_the_key_back() {
    let executed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executed);
    let handler = async move |Filtered(order): Filtered<Order>| {
        count.fetch_add(1, Ordering::SeqCst);
        Envelope::new(order)
    };
    let service = Router::new()
        .route("/", post(handler))
        .layer(EnvelopeLayer::new(Answers::new()))
        .layer(IdempotencyLayer::new(MemoryStore::new()));
    gives_the_key_back(service, &executed).await;
}

#[tokio::test]
async fn a_refusal_of_the_layer_gives_the_key_back() {
    let executed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executed);
    let handler = async move |Extension(order): Extension<Arc<Order>>| {
        count.fetch_add(1, Ordering::SeqCst);
        order.name.clone()
    };
    let service = Router::new()
        .route("/", post(handler))
        .layer(FilterLayer::<Order>::new(Answers::new()))
        .layer(IdempotencyLayer::new(MemoryStore::new()));
    gives_the_key_back(service, &executed).await;
}

#[tokio::test]
async fn with_hotgo_s_statuses_a_refusal_gives_the_key_back_too() {
    let answers = Answers::new().with_status_mode(StatusMode::Always200);
    let service = Router::new()
        .route("/", post(show))
        .layer(EnvelopeLayer::new(answers))
        .layer(IdempotencyLayer::new(MemoryStore::new()));
    for (name, code) in [("x", 51), ("plain", 68), ("ann", 0)] {
        let request = keyed(with_json("/", &json!({"name": name})));
        let (status, value) = ask(service.clone(), request).await;
        assert_eq!(
            (status, &value["code"]),
            (StatusCode::OK, &json!(code)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_layer_gives_the_value_and_the_body_unchanged() {
    let handler = async |Extension(order): Extension<Arc<Order>>, body: String| {
        format!("{} {:?} {body}", order.name, order.id)
    };
    let layer = || FilterLayer::<Order>::new(Answers::new()).with_max_body(30);
    let app = Router::new().route("/{id}", post(handler).layer(layer()));
    let body = r#"{ "name":  " Ann " }"#;
    let (status, value) = ask(app.clone(), with_type("/7", "application/json", body)).await;
    assert_eq!(
        (status, value),
        (StatusCode::OK, format!("ann Some(7) {body}").into())
    );

    let (status, value) = ask(app.clone(), with_json("/7", &json!({"name": "taken"}))).await;
    assert_eq!((status.as_u16(), &value["code"]), (400, &json!(30002)));
    let (status, value) = ask(app.clone(), with_json("/7", &order("longer than thirty"))).await;
    assert_eq!((status.as_u16(), &value["code"]), (413, &json!(66)));
    let (status, value) = ask(app, with_type("/7", "text/plain", "x")).await;
    assert_eq!((status.as_u16(), &value["code"]), (415, &json!(66)));
}

#[tokio::test]
async fn the_layer_works_without_a_body_and_without_axum_s_router() {
    use tower::{Layer, service_fn};

    let service = FilterLayer::<Order>::new(Answers::new()).layer(service_fn(
        async |request: Request<FilterBody<Body>>| {
            let order: &Arc<Order> = request.extensions().get().unwrap();
            Ok::<_, std::convert::Infallible>(http::Response::new(order.name.clone()))
        },
    ));
    let request = Request::builder()
        .method(Method::GET)
        .uri("/orders?name=Ann")
        .body(Body::empty())
        .unwrap();
    let body = service.oneshot(request).await.unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "ann");
}

#[tokio::test]
async fn a_get_without_input() {
    #[derive(Deserialize, Validate)]
    struct Nothing {}
    let handler = async |Validated(Nothing {}): Validated<Nothing>| Envelope::empty();
    let app = Router::new()
        .route("/", get(handler))
        .layer(EnvelopeLayer::new(Answers::new()));
    let (status, value) = ask(app, Request::get("/?x=1").body(Body::empty()).unwrap()).await;
    assert_eq!((status, &value["code"]), (StatusCode::OK, &json!(0)));
}
