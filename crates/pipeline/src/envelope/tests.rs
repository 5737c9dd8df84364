use std::convert::Infallible;

use axum::body::Body;
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use onlyonce::{EffectiveStatus, IdempotencyLayer};
use onlyonce_memory::MemoryStore;
use serde::Serialize;
use tower::{Layer as _, ServiceBuilder, ServiceExt as _};

use super::*;
use crate::context::ContextLayer;
use crate::{AnswerNote, Answers, Code, ContentKind, Error, StatusMode, Text};

#[derive(Serialize)]
struct Tips {
    tips: &'static str,
}

const HI: Envelope<Tips> = Envelope::new(Tips { tips: "hi" });

fn app(answers: Answers) -> Router {
    Router::new()
        .route("/json", get(async || HI))
        .route(
            "/created",
            get(async || (StatusCode::CREATED, [("x-id", "7")], HI)),
        )
        .route("/nothing", get(async || Envelope::empty().with_message("")))
        .route("/xml", get(async || HI))
        .route(
            "/xml-by-header",
            get(async || ([(CONTENT_TYPE, "Text/XML; charset=utf-8")], HI)),
        )
        .route("/xml-error", get(async || Error::new(30001, "<no>")))
        .route(
            "/error",
            get(async || Error::new(30001, Text::both("no", "不"))),
        )
        .route(
            "/teapot",
            get(async || (StatusCode::IM_A_TEAPOT, Error::new(30001, "no"))),
        )
        .route("/plain", get(async || Error::plain("no")))
        .route("/page", get(async || Html("<p>hello</p>")))
        .route("/page-error", get(async || Error::new(30001, "<b>no</b>")))
        .route("/custom", get(async || Json([1, 2])))
        .route("/custom-404", get(async || (StatusCode::NOT_FOUND, "gone")))
        .route("/unit", get(async || ()))
        .route("/no-content", get(async || StatusCode::NO_CONTENT))
        .route(
            "/moved",
            get(async || (StatusCode::FOUND, [(LOCATION, "/json")])),
        )
        .route("/denied", get(async || StatusCode::FORBIDDEN))
        .route("/text", get(async || Envelope::new("plain words")))
        .route(
            "/events",
            get(async || ([(CONTENT_TYPE, "text/event-stream")], "data: 1\n\n")),
        )
        .layer(EnvelopeLayer::new(answers))
        .layer(ContextLayer::new())
}

fn answers() -> Answers {
    Answers::new()
        .with_kind("/xml", ContentKind::Xml)
        .and_then(|answers| answers.with_kind("/xml-error", ContentKind::Xml))
        .and_then(|answers| answers.with_kind("/page", ContentKind::Html))
        .and_then(|answers| answers.with_kind("/page-error", ContentKind::Html))
        .and_then(|answers| answers.with_kind("/text", ContentKind::Text))
        .unwrap()
}

async fn ask(app: Router, request: Request<Body>) -> (http::response::Parts, String) {
    let (head, body) = app.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    // Time and trace ID are never twice the same.
    let trace_id = head.headers["trace-id"].to_str().unwrap().to_owned();
    let mut body = body.replace(&trace_id, "TRACE");
    for (before, after) in [("\"timestamp\":", ","), ("<timestamp>", "<")] {
        if let Some(at) = body.find(before) {
            let at = at + before.len();
            let end = at + body[at..].find(after).unwrap();
            assert!(body[at..end].parse::<u64>().unwrap() > 1_700_000_000);
            body.replace_range(at..end, "TIME");
        }
    }
    (head, body)
}

async fn get_with(answers: Answers, path: &str) -> (http::response::Parts, String) {
    ask(
        app(answers),
        Request::get(path).body(Body::empty()).unwrap(),
    )
    .await
}

async fn fetch(path: &str) -> (http::response::Parts, String) {
    get_with(answers(), path).await
}

#[tokio::test]
async fn typed_results_are_json() {
    let (head, body) = fetch("/json").await;
    assert_eq!(head.status, 200);
    assert_eq!(head.headers[CONTENT_TYPE], "application/json");
    assert_eq!(
        body,
        r#"{"code":0,"message":"OK","data":{"tips":"hi"},"timestamp":TIME,"traceID":"TRACE"}"#
    );
    let (_, body) = fetch("/nothing").await;
    assert_eq!(body, r#"{"code":0,"timestamp":TIME,"traceID":"TRACE"}"#);
}

#[tokio::test]
async fn status_and_headers_of_the_handler_are_kept() {
    let (head, body) = fetch("/created").await;
    assert_eq!(
        (head.status.as_u16(), &head.headers["x-id"]),
        (201, &"7".parse().unwrap())
    );
    assert!(body.contains("hi"));
    assert!(
        !head
            .headers
            .get_all(CONTENT_LENGTH)
            .iter()
            .any(|length| length == "0")
    );
    let (head, _) = fetch("/teapot").await;
    assert_eq!(head.status, 418);
}

#[tokio::test]
async fn xml_by_declared_type_and_by_header() {
    for path in ["/xml", "/xml-by-header"] {
        let (head, body) = fetch(path).await;
        assert_eq!(head.headers[CONTENT_TYPE], "text/xml; charset=utf-8");
        assert_eq!(
            body,
            "<doc><code>0</code><data><tips>hi</tips></data><message>OK</message><timestamp>TIME</timestamp><traceID>TRACE</traceID></doc>"
        );
    }
    let (_, body) = fetch("/xml-error").await;
    assert!(
        body.starts_with("<doc><code>30001</code><message>&lt;no&gt;</message>"),
        "{body}"
    );
}

#[tokio::test]
async fn errors_have_code_and_mapped_status() {
    let (head, body) = fetch("/error").await;
    assert_eq!(head.status, 400);
    assert_eq!(
        body,
        r#"{"code":30001,"message":"no","timestamp":TIME,"traceID":"TRACE"}"#
    );
    let note = head.extensions.get::<AnswerNote>().unwrap();
    assert_eq!(note.code, Code::new(30001));
    let (_, body) = fetch("/plain").await;
    assert!(body.starts_with(r#"{"code":-1,"message":"no","#));
}

#[tokio::test]
async fn always_200_says_what_it_means() {
    let (head, body) = get_with(answers().with_status_mode(StatusMode::Always200), "/error").await;
    assert_eq!(head.status, 200);
    assert!(body.contains("30001"));
    let meant = head.extensions.get::<EffectiveStatus>().unwrap();
    assert_eq!(meant.0, 400);
}

#[tokio::test]
async fn pages_pass_and_their_errors_are_escaped_pages() {
    let (_, body) = fetch("/page").await;
    assert_eq!(body, "<p>hello</p>");
    let (head, body) = fetch("/page-error").await;
    assert_eq!(head.headers[CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(body.contains("&lt;b&gt;no&lt;&#x2f;b&gt;"), "{body}");
    assert!(!body.contains("<b>"));
}

#[tokio::test]
async fn what_has_a_body_of_its_own_passes() {
    let (head, body) = fetch("/custom").await;
    assert_eq!((body.as_str(), head.status.as_u16()), ("[1,2]", 200));
    let (head, body) = fetch("/custom-404").await;
    assert_eq!((body.as_str(), head.status.as_u16()), ("gone", 404));
    let (head, body) = fetch("/events").await;
    assert_eq!(head.headers[CONTENT_TYPE], "text/event-stream");
    assert_eq!(body, "data: 1\n\n");
    let (_, body) = fetch("/text").await;
    assert_eq!(body, "plain words");
}

#[tokio::test]
async fn bodyless_answers() {
    let (head, body) = fetch("/nowhere").await;
    assert_eq!(head.status, 404);
    assert!(
        body.starts_with(r#"{"code":65,"message":"404 - "#),
        "{body}"
    );
    let (head, body) = fetch("/denied").await;
    assert_eq!(head.status, 403);
    assert!(
        body.starts_with(r#"{"code":62,"message":"403 - "#),
        "{body}"
    );
    let (_, body) = fetch("/unit").await;
    assert_eq!(
        body,
        r#"{"code":0,"message":"OK","timestamp":TIME,"traceID":"TRACE"}"#
    );
    for path in ["/no-content", "/moved"] {
        let (_, body) = fetch(path).await;
        assert_eq!(body, "", "{path}");
    }
    let chinese = Request::get("/nowhere").header("accept-language", "zh");
    let (_, body) = ask(app(answers()), chinese.body(Body::empty()).unwrap()).await;
    assert!(body.contains("404 - 你似乎来到了没有知识存在的荒原…"));
}

#[tokio::test]
async fn head_has_no_body() {
    let request = Request::head("/nowhere").body(Body::empty()).unwrap();
    let (head, body) = ask(app(answers()), request).await;
    assert_eq!((head.status.as_u16(), body.as_str()), (404, ""));
}

/// A shop that counts its orders, under the idempotency layer and an always-200 envelope.
fn shop(code: i32) -> (Router, std::sync::Arc<std::sync::atomic::AtomicU32>) {
    let orders = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = orders.clone();
    let order = async move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if code == 0 {
            HI.into_response()
        } else {
            Error::new(code, "no").into_response()
        }
    };
    let envelope = EnvelopeLayer::new(Answers::new().with_status_mode(StatusMode::Always200));
    let app = Router::new()
        .route("/orders", post(order))
        .layer(envelope)
        .layer(IdempotencyLayer::new(MemoryStore::new()))
        .layer(ContextLayer::new());
    (app, orders)
}

#[tokio::test]
async fn the_code_decides_what_is_recorded() {
    for (code, executions) in [
        (0, 1),
        (51, 1),
        (30001, 1),
        (300, 1),
        (50, 2),
        (52, 2),
        (63, 2),
        (68, 2),
    ] {
        let (app, orders) = shop(code);
        let mut answers = Vec::new();
        for _ in 0..2 {
            let request = Request::post("/orders").header("idempotency-key", "k");
            let (head, _) = ask(app.clone(), request.body(Body::empty()).unwrap()).await;
            assert_eq!(head.status, 200, "code {code}");
            answers.push(head);
        }
        let orders = orders.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(orders, executions, "code {code}");
        let replayed = answers[1].headers.contains_key("idempotent-replayed");
        assert_eq!(replayed, executions == 1, "code {code}");
    }
}

#[tokio::test]
async fn a_replay_has_a_new_trace_id_and_the_old_body() {
    let (app, _) = shop(0);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let request = Request::post("/orders").header("idempotency-key", "k");
        let response = app
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let trace_id = response.headers()["trace-id"].clone();
        assert_eq!(response.headers().get_all("trace-id").iter().count(), 1);
        seen.push((
            trace_id,
            response.into_body().collect().await.unwrap().to_bytes(),
        ));
    }
    assert_ne!(seen[0].0, seen[1].0);
    assert_eq!(seen[0].1, seen[1].1);
}

async fn read_codes(content_type: &str, body: &'static str) -> (http::response::Parts, Bytes) {
    let content_type = content_type.to_owned();
    let service = tower::service_fn(move |_: Request<()>| {
        let response = Response::builder().header(CONTENT_TYPE, &content_type);
        let response = response.body(http_body_util::Full::from(body)).unwrap();
        async { Ok::<_, Infallible>(response) }
    });
    let service = ReadCodesLayer::new().with_limit(64).layer(service);
    let response = service.oneshot(Request::new(())).await.unwrap();
    let (head, body) = response.into_parts();
    (head, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn codes_of_a_service_behind_are_read() {
    let json = "application/json; charset=utf-8";
    for (content_type, body, meant) in [
        (json, r#"{"code":52,"message":"db"}"#, Some(500)),
        (json, r#"{"code":0,"data":1}"#, None),
        (json, r#"{"code":"52"}"#, None),
        (json, "[52]", None),
        (json, "", None),
        ("text/plain", r#"{"code":52}"#, None),
        (
            json,
            r#"{"code":52,"message":"longer than the limit of sixty-four bytes by a few"}"#,
            None,
        ),
    ] {
        let (head, got) = read_codes(content_type, body).await;
        assert_eq!(got, body);
        let effective = head.extensions.get::<EffectiveStatus>();
        assert_eq!(effective.map(|status| status.0.as_u16()), meant, "{body}");
    }
}

#[tokio::test]
async fn trailers_and_errors_follow_what_was_read() {
    use http_body::Frame;
    for broken in [false, true] {
        let service = ServiceBuilder::new()
            .layer(ReadCodesLayer::new())
            .service_fn(move |_: Request<()>| async move {
                let trailers =
                    http::HeaderMap::from_iter([("x-t".parse().unwrap(), "1".parse().unwrap())]);
                let last = if broken {
                    Err("broken")
                } else {
                    Ok(Frame::trailers(trailers))
                };
                let frames = [Ok(Frame::data(Bytes::from(r#"{"code":52}"#))), last];
                let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
                let body = Sized11(body);
                let response = Response::builder().header(CONTENT_TYPE, "application/json");
                Ok::<_, Infallible>(response.body(body).unwrap())
            });
        let response = service.oneshot(Request::new(())).await.unwrap();
        let meant = response.extensions().get::<EffectiveStatus>().is_some();
        assert_eq!(meant, !broken, "what broke off says nothing");
        match response.into_body().collect().await {
            Ok(body) => assert_eq!(body.trailers().unwrap()["x-t"], "1"),
            Err(error) => assert_eq!((error, broken), ("broken", true)),
        }
    }
}

/// A body whose length is known to be eleven.
struct Sized11<B>(B);

impl<B: http_body::Body + Unpin> http_body::Body for Sized11<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<B::Data>, B::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(11)
    }
}
