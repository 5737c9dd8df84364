//! What clients get.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use onlyonce_core::ManualClock;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::super::*;
use super::support::ip;
use crate::context::{Context, random_trace_id};
use crate::{AnswerNote, Answers, Code, Language, PipelineBody, StatusMode};

fn answers() -> Answers {
    Answers::new().with_clock(Arc::new(ManualClock::new()))
}

async fn passed(_: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("passed")))
}

async fn blocklist(ip: &str) -> Blocklist {
    let list = Blocklist::load(MemoryBlocklist::new()).await.unwrap();
    list.add(&Draft::new(ip)).await.unwrap();
    list
}

fn from(peer: &str) -> Request<()> {
    let peer = SocketAddr::new(ip(peer), 49_152);
    Request::get("/orders").extension(peer).body(()).unwrap()
}

async fn send(layer: &BlocklistLayer, request: Request<()>) -> Response<PipelineBody<Full<Bytes>>> {
    layer
        .layer(service_fn(passed))
        .oneshot(request)
        .await
        .unwrap()
}

async fn text(response: Response<PipelineBody<Full<Bytes>>>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_hit_is_refused_with_code_63_and_status_403() {
    let list = blocklist("203.0.113.0/24").await;
    let layer = BlocklistLayer::new(list.clone(), answers());
    let response = send(&layer, from("203.0.113.9")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let blocked = *response.extensions().get::<Blocked>().unwrap();
    assert_eq!(
        (blocked.address, blocked.entry),
        (ip("203.0.113.9"), EntryId(1))
    );
    assert_eq!(
        response.extensions().get::<AnswerNote>().unwrap().code,
        Code::SERVER_BUSY
    );
    assert_eq!(
        text(response).await,
        r#"{"code":63,"message":"This request is abnormal and has been blocked; if in doubt, ask the administrator","timestamp":1767225600}"#
    );
    let chinese = answers().with_language(Language::ZhCn);
    let layer = BlocklistLayer::new(
        list.clone(),
        chinese.with_status_mode(StatusMode::Always200),
    );
    let response = send(&layer, from("203.0.113.9")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        text(response).await,
        r#"{"code":63,"message":"请求异常，已被封禁，如有疑问请联系管理员！","timestamp":1767225600}"#
    );
    assert_eq!(list.entries(None, 1).await.unwrap()[0].hits, 2);
}

#[tokio::test]
async fn others_pass_untouched() {
    let layer = BlocklistLayer::new(blocklist("203.0.113.0/24").await, answers());
    let response = send(&layer, from("203.0.114.9")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, "passed");
}

#[tokio::test]
async fn mapped_addresses_are_caught() {
    let layer = BlocklistLayer::new(blocklist("203.0.113.9").await, answers());
    let response = send(&layer, from("::ffff:203.0.113.9")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

/// The address is the one that the layers outside found, never what the client says.
#[tokio::test]
async fn hazard_54_a_forged_header_neither_lets_in_nor_shuts_out() {
    let layer = BlocklistLayer::new(blocklist("203.0.113.9").await, answers());
    let forged = |peer: &str, said: &str| {
        let mut request = from(peer);
        for name in ["x-forwarded-for", "x-real-ip"] {
            request.headers_mut().insert(name, said.parse().unwrap());
        }
        request
    };
    let response = send(&layer, forged("203.0.113.9", "198.51.100.1")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let response = send(&layer, forged("198.51.100.1", "203.0.113.9")).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_context_knows_better_than_the_connection() {
    let layer = BlocklistLayer::new(blocklist("203.0.113.9").await, answers());
    let context = Context::new(random_trace_id(), "/", Default::default());
    context.set_client_addr(ip("203.0.113.9"));
    let mut request = from("10.0.0.1");
    request.extensions_mut().insert(context);
    assert_eq!(send(&layer, request).await.status(), StatusCode::FORBIDDEN);

    let layer = layer.with_client_addr(|_| Some("198.51.100.1".parse().unwrap()));
    let response = send(&layer, from("203.0.113.9")).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn nobody_knows_whom_passes() {
    let layer = BlocklistLayer::new(blocklist("*").await, answers());
    let response = send(&layer, Request::new(())).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn hazard_54_an_open_route_is_open_by_its_plain_path_alone() {
    let list = blocklist("203.0.113.0/24").await;
    let layer = BlocklistLayer::new(list, answers()).on_open_route();
    let status = async |path: &str| {
        let mut request = from("203.0.113.9");
        *request.uri_mut() = path.parse().unwrap();
        send(&layer, request).await.status().as_u16()
    };
    for path in ["/hooks", "/hooks/", "/hooks/a%20b?x=/../"] {
        assert_eq!(status(path).await, 200, "{path}");
    }
    for path in [
        "/hooks/..%2forders",
        "/hooks/..;/orders",
        "/hooks/..%5corders",
        "/hooks/%252e%252e/orders",
        "/orders/../hooks",
        "//hooks",
        "/h%6foks",
    ] {
        assert_eq!(status(path).await, 403, "{path}");
    }
}
