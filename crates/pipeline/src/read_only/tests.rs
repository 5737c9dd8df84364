//! The layer, around a service that does whatever it is told.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::{AnswerNote, Answers, Code, Language, StatusMode};

fn layer(switch: &ReadOnly) -> ReadOnlyLayer {
    ReadOnlyLayer::new(switch.clone(), Answers::new())
        .with_exempt(["/login", "/sessions/{id}", "/open/{*rest}"])
        .unwrap()
}

/// The response's head, and its body as JSON; `null` when the service was reached.
async fn ask(layer: &ReadOnlyLayer, request: Request<()>) -> (Response<()>, serde_json::Value) {
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("null"))))
    }));
    let response = service.oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&body).unwrap();
    (Response::from_parts(head, ()), value)
}

async fn passes(layer: &ReadOnlyLayer, method: &str, path: &str) -> bool {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(())
        .unwrap();
    let (response, value) = ask(layer, request).await;
    let passes = value.is_null();
    assert_eq!(passes, response.status() == StatusCode::OK);
    passes
}

const UNSAFE: [&str; 6] = ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "PROPPATCH"];
const SAFE: [&str; 4] = ["GET", "HEAD", "OPTIONS", "TRACE"];

#[tokio::test]
async fn unsafe_methods_are_refused_while_it_is_on() {
    let layer = layer(&ReadOnly::on());
    for method in UNSAFE {
        assert!(!passes(&layer, method, "/orders").await, "{method}");
    }
    for method in SAFE {
        assert!(passes(&layer, method, "/orders").await, "{method}");
    }
}

#[tokio::test]
async fn nothing_is_refused_while_it_is_off() {
    let layer = layer(&ReadOnly::off());
    for method in SAFE.iter().chain(&UNSAFE) {
        assert!(passes(&layer, method, "/orders").await, "{method}");
    }
}

#[tokio::test]
async fn hotgo_refuses_post_alone() {
    let layer = layer(&ReadOnly::on()).with_refused(Refused::PostAlone);
    for method in SAFE.iter().chain(&UNSAFE) {
        assert_eq!(
            passes(&layer, method, "/orders").await,
            *method != "POST",
            "{method}"
        );
    }
}

#[tokio::test]
async fn it_can_be_switched_while_requests_come_in() {
    let switch = ReadOnly::off();
    let layer = layer(&switch);
    assert!(passes(&layer, "POST", "/orders").await);
    assert!(!switch.set(true));
    assert!(!passes(&layer, "POST", "/orders").await);
    assert!(switch.set(false));
    assert!(passes(&layer, "POST", "/orders").await);
}

#[tokio::test]
async fn allow_listed_routes_stay_open() {
    let layer = layer(&ReadOnly::on());
    for path in ["/login", "/sessions/7", "/open/a", "/open/a/b"] {
        assert!(passes(&layer, "POST", path).await, "{path}");
        assert!(passes(&layer, "DELETE", path).await, "{path}");
    }
    for path in [
        "/",
        "/loginx",
        "/login/x",
        "/sessions",
        "/sessions/7/x",
        "/open",
    ] {
        assert!(!passes(&layer, "POST", path).await, "{path}");
    }
}

#[tokio::test]
async fn hazard_54_path_tricks_open_no_route() {
    let layer = layer(&ReadOnly::on());
    for path in [
        "//login",
        "/./login",
        "/login/",
        "/Login",
        "/LOGIN",
        "/login;x=1",
        "/open/../orders",
        "/open/%2e%2e/orders",
        "/open/%2E%2e/orders",
        "/open/..%2forders",
        "/open/%252e%252e/orders",
        "/open/..;/orders",
        "/open/..\\orders",
        "/open/..%5Corders",
        "/open//orders",
        "/open/a%00",
    ] {
        assert!(!passes(&layer, "POST", path).await, "{path}");
    }
    // The query is no part of the path.
    assert!(!passes(&layer, "POST", "/orders?x=/login").await);
    assert!(passes(&layer, "POST", "/login?next=/../orders").await);
}

#[tokio::test]
async fn a_router_outside_can_open_a_route() {
    let layer = layer(&ReadOnly::on());
    for (path, opened) in [("/orders", true), ("/carts/../orders", false)] {
        let request = Request::post(path).extension(Exempt).body(()).unwrap();
        let (_, value) = ask(&layer, request).await;
        assert_eq!(value.is_null(), opened, "{path}");
    }
}

#[tokio::test]
async fn the_refusal_in_both_languages() {
    let zh = Answers::new().with_language(Language::ZhCn);
    for (answers, message) in [
        (
            Answers::new(),
            "Read-only mode is on: nothing can be changed",
        ),
        (zh, "演示系统禁止操作！"),
    ] {
        let layer = ReadOnlyLayer::new(ReadOnly::on(), answers);
        let (response, value) = ask(&layer, Request::post("/").body(()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(value["code"], 59);
        assert_eq!(value["message"], message);
        let note: &AnswerNote = response.extensions().get().unwrap();
        assert_eq!(note.code, Code::NOT_SUPPORTED);
    }
}

#[tokio::test]
async fn hotgo_s_status() {
    let answers = Answers::new().with_status_mode(StatusMode::Always200);
    let layer = ReadOnlyLayer::new(ReadOnly::on(), answers);
    let request = Request::builder().method(Method::PUT).body(()).unwrap();
    let (response, value) = ask(&layer, request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(value["code"], 59);
}

#[test]
fn a_pattern_that_cannot_work_is_an_error() {
    let layer = |patterns: &[&'static str]| {
        let layer = ReadOnlyLayer::new(ReadOnly::off(), Answers::new());
        layer.with_exempt(patterns.iter().copied()).map(drop)
    };
    for patterns in [
        &["/{a}", "/{b}"][..],
        &["/{*rest}/x"],
        &["/{"],
        &["/a", "/a"],
    ] {
        let error = layer(patterns).unwrap_err().to_string();
        let last = patterns.last().unwrap();
        assert!(
            error.starts_with(&format!("`{last}` is no pattern of routes: ")),
            "{error}"
        );
    }
}
