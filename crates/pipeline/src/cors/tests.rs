//! The layer, around a service that says which method it was asked with.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt, service_fn};

use super::*;

/// What came back: the status, the CORS headers and `Vary`, and the body.
struct Answer {
    response: Response<()>,
    body: String,
}

impl Answer {
    fn header(&self, name: HeaderName) -> Option<&str> {
        let values: Vec<_> = self.response.headers().get_all(name).iter().collect();
        assert!(values.len() <= 1, "{values:?}");
        values.first().map(|value| value.to_str().unwrap())
    }

    fn list(&self, name: HeaderName) -> Vec<String> {
        let values = self.response.headers().get_all(name).iter();
        let names = values.flat_map(|value| value.to_str().unwrap().split(','));
        names.map(|name| name.trim().to_ascii_lowercase()).collect()
    }

    fn reached_the_service(&self) -> bool {
        !self.body.is_empty()
    }

    fn cors_headers(&self) -> usize {
        let names = self.response.headers().keys();
        names
            .filter(|name| name.as_str().starts_with("access-control-"))
            .count()
    }
}

/// A service that would let everybody do everything.
async fn generous(request: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = Response::builder()
        .status(StatusCode::ACCEPTED)
        .header(ACCESS_CONTROL_ALLOW_ORIGIN, "*")
        .header(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true")
        .header(ACCESS_CONTROL_EXPOSE_HEADERS, "x-secret")
        .header(VARY, "accept");
    let body = Bytes::from(request.method().to_string());
    Ok(response.body(Full::new(body)).unwrap())
}

async fn ask(cors: Cors, request: http::request::Builder) -> Answer {
    let service = CorsLayer::new(&cors).unwrap().layer(service_fn(generous));
    let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        response: Response::from_parts(head, ()),
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

fn shop() -> Cors {
    Cors::new()
        .with_origins(["https://shop.example", ".shop.example"])
        .unwrap()
}

fn preflight(origin: &str) -> http::request::Builder {
    Request::builder()
        .method(Method::OPTIONS)
        .uri("/charges")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
}

fn post(origin: &str) -> http::request::Builder {
    Request::post("/charges").header("origin", origin)
}

#[tokio::test]
async fn a_preflight_of_an_allowed_origin_is_answered_here() {
    for origin in ["https://shop.example", "https://m.shop.example"] {
        let answer = ask(shop(), preflight(origin)).await;
        assert!(!answer.reached_the_service());
        assert_eq!(answer.response.status(), StatusCode::OK);
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), Some(origin));
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_CREDENTIALS), None);
        assert_eq!(
            answer.header(ACCESS_CONTROL_ALLOW_METHODS),
            Some("GET,HEAD,POST,PUT,PATCH,DELETE")
        );
        assert_eq!(
            answer.list(ACCESS_CONTROL_ALLOW_HEADERS),
            [
                "accept",
                "authorization",
                "content-type",
                "idempotency-key",
                "x-idempotency-key"
            ]
        );
        assert_eq!(answer.header(ACCESS_CONTROL_MAX_AGE), Some("600"));
        assert!(answer.list(VARY).contains(&"origin".to_owned()));
    }
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_read_the_answer() {
    let answer = ask(shop(), post("https://shop.example")).await;
    assert_eq!(answer.body, "POST");
    assert_eq!(answer.response.status(), StatusCode::ACCEPTED);
    assert_eq!(
        answer.header(ACCESS_CONTROL_ALLOW_ORIGIN),
        Some("https://shop.example")
    );
    assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_CREDENTIALS), None);
    assert_eq!(
        answer.list(ACCESS_CONTROL_EXPOSE_HEADERS),
        ["trace-id", "retry-after", "idempotent-replayed"]
    );
    assert_eq!(answer.list(VARY), ["accept", "origin"]);
}

#[tokio::test]
async fn hazard_54_an_origin_that_is_not_allowed_gets_no_cors_header() {
    for origin in [
        "https://evil-shop.example",
        "https://shop.example.evil.test",
        "null",
    ] {
        for (request, reaches) in [(preflight(origin), false), (post(origin), true)] {
            let answer = ask(shop(), request).await;
            assert_eq!(answer.cors_headers(), 0, "{:?}", answer.response);
            assert_eq!(answer.reached_the_service(), reaches);
            assert!(answer.list(VARY).contains(&"origin".to_owned()));
        }
    }
}

#[tokio::test]
async fn vary_is_said_to_requests_without_an_origin_too() {
    let answer = ask(shop(), Request::get("/charges")).await;
    assert_eq!(answer.body, "GET");
    assert_eq!(answer.cors_headers(), 0);
    assert_eq!(answer.list(VARY), ["accept", "origin"]);
}

#[tokio::test]
async fn only_a_real_preflight_is_answered_here() {
    let options = || Request::builder().method(Method::OPTIONS).uri("/charges");
    let no_method = options().header("origin", "https://shop.example");
    let no_origin = options().header("access-control-request-method", "POST");
    let bad_method = options()
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "P OST");
    for (request, allowed) in [
        (options(), None),
        (no_origin, None),
        (no_method, Some("https://shop.example")),
        (bad_method, Some("https://shop.example")),
    ] {
        let answer = ask(shop(), request).await;
        assert_eq!(answer.body, "OPTIONS");
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), allowed);
    }
}

#[tokio::test]
async fn without_settings_nobody_may_do_anything() {
    let answer = ask(Cors::new(), preflight("https://shop.example")).await;
    assert_eq!(answer.cors_headers(), 0);
}

#[tokio::test]
async fn any_origin_is_a_star_and_depends_on_nothing() {
    let answer = ask(Cors::new().with_any_origin(), post("https://whoever.test")).await;
    assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), Some("*"));
    assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_CREDENTIALS), None);
    assert_eq!(answer.list(VARY), ["accept"]);
}

#[test]
fn hazard_54_any_origin_with_credentials_is_refused_when_it_is_made() {
    let cors = Cors::new().with_any_origin().with_credentials(true);
    assert_eq!(cors.check(), Err(CorsError::AnyOriginWithCredentials));
    let error = CorsLayer::new(&cors).unwrap_err().to_string();
    assert_eq!(
        error,
        "any origin and credentials exclude each other; list the origins, or do without credentials"
    );
}

#[tokio::test]
async fn all_that_can_be_set() {
    let cors = shop()
        .with_credentials(true)
        .with_methods([Method::POST])
        .with_headers([HeaderName::from_static("x-app")])
        .with_exposed([
            HeaderName::from_static("x-total"),
            HeaderName::from_static("trace-id"),
        ])
        .with_max_age(Duration::from_secs(5));
    let answer = ask(cors.clone(), preflight("https://shop.example")).await;
    assert_eq!(
        answer.header(ACCESS_CONTROL_ALLOW_CREDENTIALS),
        Some("true")
    );
    assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_METHODS), Some("POST"));
    assert_eq!(
        answer.list(ACCESS_CONTROL_ALLOW_HEADERS),
        ["x-app", "idempotency-key", "x-idempotency-key"]
    );
    assert_eq!(answer.header(ACCESS_CONTROL_MAX_AGE), Some("5"));
    let answer = ask(cors, post("https://shop.example")).await;
    assert_eq!(
        answer.header(ACCESS_CONTROL_ALLOW_CREDENTIALS),
        Some("true")
    );
    assert_eq!(
        answer.list(ACCESS_CONTROL_EXPOSE_HEADERS),
        ["x-total", "trace-id", "retry-after", "idempotent-replayed"]
    );
}

#[tokio::test]
async fn the_preset_of_hotgo() {
    let request = preflight("https://whoever.test").header(
        "access-control-request-headers",
        "x-custom, accept,X-Other,b@d",
    );
    let answer = ask(Cors::hotgo(), request).await;
    assert!(!answer.reached_the_service());
    assert_eq!(
        answer.header(ACCESS_CONTROL_ALLOW_ORIGIN),
        Some("https://whoever.test")
    );
    assert_eq!(
        answer.header(ACCESS_CONTROL_ALLOW_CREDENTIALS),
        Some("true")
    );
    assert_eq!(answer.header(ACCESS_CONTROL_MAX_AGE), Some("3628800"));
    assert_eq!(
        answer.header(ACCESS_CONTROL_ALLOW_METHODS),
        Some("GET,PUT,POST,DELETE,PATCH,HEAD,CONNECT,OPTIONS,TRACE")
    );
    assert_eq!(
        answer.list(ACCESS_CONTROL_ALLOW_HEADERS),
        [
            "origin",
            "content-type",
            "accept",
            "user-agent",
            "cookie",
            "authorization",
            "x-auth-token",
            "x-requested-with",
            "idempotency-key",
            "x-idempotency-key",
            "x-custom",
            "x-other",
        ]
    );
    assert!(answer.list(VARY).contains(&"origin".to_owned()));

    let answer = ask(Cors::hotgo(), preflight("https://whoever.test")).await;
    assert_eq!(answer.list(ACCESS_CONTROL_ALLOW_HEADERS).len(), 10);
    let answer = ask(Cors::hotgo(), post("https://whoever.test")).await;
    assert_eq!(
        answer.header(ACCESS_CONTROL_ALLOW_ORIGIN),
        Some("https://whoever.test")
    );
}

#[tokio::test]
async fn a_route_s_own_rules_hold_instead() {
    let other = Cors::new().with_origins(["https://other.example"]).unwrap();
    let own = || RouteCors::new(CorsLayer::new(&other).unwrap());
    let with_own = |request: http::request::Builder| request.extension(own());

    let answer = ask(shop(), with_own(preflight("https://shop.example"))).await;
    assert_eq!(answer.cors_headers(), 0);
    let answer = ask(shop(), with_own(preflight("https://other.example"))).await;
    assert!(!answer.reached_the_service());
    assert_eq!(
        answer.header(ACCESS_CONTROL_ALLOW_ORIGIN),
        Some("https://other.example")
    );
    let answer = ask(shop(), with_own(post("https://other.example"))).await;
    assert_eq!(answer.body, "POST");
    assert_eq!(
        answer.header(ACCESS_CONTROL_ALLOW_ORIGIN),
        Some("https://other.example")
    );
}

#[tokio::test]
async fn a_route_without_rules_is_left_to_the_service() {
    let answer = ask(
        shop(),
        preflight("https://x.test").extension(RouteCors::off()),
    )
    .await;
    assert_eq!(answer.body, "OPTIONS");
    assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), Some("*"));
    assert_eq!(answer.list(VARY), ["accept"]);
}
