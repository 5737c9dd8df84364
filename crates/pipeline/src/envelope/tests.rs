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

/// A body in pieces, of no known length.
fn pieces(parts: Vec<Result<&'static str, &'static str>>) -> Body {
    let parts = parts
        .into_iter()
        .map(|part| part.map(Bytes::from).map_err(std::io::Error::other));
    Body::from_stream(futures_util::stream::iter(parts))
}

/// How often a service behind, whose answer comes in pieces, executes two requests with one key;
/// and what the second client gets.
async fn twice_in_pieces(parts: Vec<Result<&'static str, &'static str>>) -> (u32, String) {
    let executed = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = executed.clone();
    let service = tower::service_fn(move |_: Request<_>| {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let response = Response::builder().header(CONTENT_TYPE, "application/json");
        let response = response.body(pieces(parts.clone())).unwrap();
        async { Ok::<_, Infallible>(response) }
    });
    let service = ServiceBuilder::new()
        .layer(IdempotencyLayer::new(MemoryStore::new()))
        .layer(ReadCodesLayer::new().with_limit(64))
        .service(service);
    let mut last = String::new();
    for _ in 0..2 {
        let request = Request::post("/").header("idempotency-key", "k");
        let request = request.body(Body::empty()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        last = String::from_utf8(body.to_vec()).unwrap();
    }
    (executed.load(std::sync::atomic::Ordering::SeqCst), last)
}

#[tokio::test]
async fn a_code_in_an_answer_in_pieces_decides_what_is_recorded() {
    let failed = vec![Ok("{\"code\":5"), Ok("2,\"message\":null}")];
    let (executions, body) = twice_in_pieces(failed).await;
    assert_eq!(
        (executions, &*body),
        (2, "{\"code\":52,\"message\":null}"),
        "a failure is not recorded"
    );
    let (executions, _) = twice_in_pieces(vec![Ok("{\"code\":0}")]).await;
    assert_eq!(executions, 1);
    let long = "{\"code\":0,\"data\":\"0123456789012345678901234567890123456789";
    let (executions, body) = twice_in_pieces(vec![Ok(long), Ok("0123456789"), Ok("\"}")]).await;
    assert_eq!((executions, body), (1, format!("{long}0123456789\"}}")));
}

#[tokio::test]
async fn an_answer_in_pieces_without_a_key_is_not_held_up() {
    let service = tower::service_fn(|_: Request<()>| {
        // Its second piece never comes.
        let first = futures_util::stream::once(async { Ok::<_, Infallible>("{\"code\":52") });
        let never = futures_util::stream::pending();
        let body = Body::from_stream(futures_util::StreamExt::chain(first, never));
        let response = Response::builder().header(CONTENT_TYPE, "application/json");
        let response = response.body(body).unwrap();
        async { Ok::<_, Infallible>(response) }
    });
    let service = ReadCodesLayer::new().layer(service);
    let mut response = service.oneshot(Request::new(())).await.unwrap();
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "{\"code\":52");
}

/// What the envelope makes of a service's answer.
async fn enveloped(response: Response<Body>) -> (http::response::Parts, String) {
    let response = std::sync::Mutex::new(Some(response));
    let service = tower::service_fn(move |_: Request<Body>| {
        let response = response.lock().unwrap().take().unwrap();
        async { Ok::<_, Infallible>(response) }
    });
    let service = ServiceBuilder::new()
        .layer(ContextLayer::new())
        .layer(EnvelopeLayer::new(Answers::new()))
        .service(service);
    let request = Request::get("/").body(Body::empty()).unwrap();
    let (head, body) = service.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_body_that_turns_out_to_be_none_is_none() {
    for parts in [vec![], vec![Ok(""), Ok("")]] {
        let response = Response::builder().status(404).body(pieces(parts)).unwrap();
        let (head, body) = enveloped(response).await;
        assert_eq!(head.status, 404);
        assert!(body.starts_with(r#"{"code":65,"#), "{body}");
    }
    let own = vec![Ok(""), Ok("not "), Ok("here")];
    let response = Response::builder().status(404).body(pieces(own)).unwrap();
    assert_eq!(enveloped(response).await.1, "not here");
}

#[tokio::test]
async fn a_page_that_breaks_off_breaks_off() {
    let service = tower::service_fn(|_: Request<()>| {
        let response = Response::builder().status(403);
        let response = response.body(pieces(vec![Err("broken")])).unwrap();
        async { Ok::<_, Infallible>(response) }
    });
    let service = EnvelopeLayer::new(Answers::new()).layer(service);
    let response = service.oneshot(Request::new(())).await.unwrap();
    assert!(
        http_body::Body::size_hint(response.body())
            .exact()
            .is_none()
    );
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn an_answer_without_a_body_gets_one_of_its_own_type_and_no_stale_fields() {
    let response = Response::builder()
        .status(404)
        .header(CONTENT_TYPE, "text/html; charset=utf-8")
        .header(http::header::CONTENT_ENCODING, "gzip")
        .header(http::header::ETAG, "\"of nothing\"")
        .header("x-own", "stays");
    let (head, body) = enveloped(response.body(Body::empty()).unwrap()).await;
    assert!(body.starts_with("<!DOCTYPE html>"), "{body}");
    let fields: Vec<_> = head.headers.keys().map(http::HeaderName::as_str).collect();
    for stale in ["content-encoding", "etag"] {
        assert!(!fields.contains(&stale), "{fields:?}");
    }
    assert_eq!(head.headers["x-own"], "stays");
}

/// What is logged: the names and values of fields, and whether a value stands as it is.
#[derive(Clone, Default)]
struct Logged(std::sync::Arc<std::sync::Mutex<Vec<(String, String, bool)>>>);

impl tracing::field::Visit for Logged {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        let entry = (field.name().to_owned(), value.to_owned(), false);
        self.0.lock().unwrap().push(entry);
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let entry = (field.name().to_owned(), format!("{value:?}"), true);
        self.0.lock().unwrap().push(entry);
    }
}

impl tracing::Subscriber for Logged {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn what_clients_put_into_a_message_cannot_forge_a_line_of_the_log() {
    let logged = Logged::default();
    let _guard = tracing::subscriber::set_default(logged.clone());
    for code in [-1, 30001] {
        enveloped(Error::new(code, "x\nERROR forged").into_http()).await;
    }
    let logged = logged.0.lock().unwrap();
    let forged: Vec<_> = logged
        .iter()
        .filter(|(_, value, _)| value.contains("forged"))
        .collect();
    assert!(forged.len() >= 4, "{logged:?}");
    for (name, _, is_raw) in forged {
        // Subscribers write the message, and what is recorded as it shows itself, unquoted.
        assert!(name != "message" && !is_raw, "{name}");
    }
}

#[tokio::test]
async fn a_layer_s_refusal_leaves_its_key_free_wherever_the_layer_stands() {
    let refusing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let switch = refusing.clone();
    let service = tower::service_fn(move |request: Request<_>| {
        let refused = switch.load(std::sync::atomic::Ordering::SeqCst);
        let answers = Answers::new();
        async move {
            Ok::<_, Infallible>(if refused {
                let refusal = crate::Refusal::new(Code::NOT_SUPPORTED);
                answers.refuse(&refusal, &request).map(Body::from)
            } else {
                Response::new(Body::from("done"))
            })
        }
    });
    let service = IdempotencyLayer::new(MemoryStore::new()).layer(service);
    for status in [403, 200] {
        let request = Request::post("/").header("idempotency-key", "k");
        let request = request.body(Body::empty()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        refusing.store(false, std::sync::atomic::Ordering::SeqCst);
    }
}
