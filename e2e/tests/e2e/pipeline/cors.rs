//! Pages of other origins.

use http::Method;
use onlyonce_e2e::{Call, Gateway, Settings, Upstream};

fn preflight(gateway: &Gateway, path: &str, origin: &str, method: &str) -> Call {
    gateway
        .call(Method::OPTIONS, path)
        .header("origin", origin)
        .header("access-control-request-method", method)
}

#[tokio::test]
async fn listed_origins_alone_are_let_in() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .section(
            "cors",
            "origins = [\"https://shop.example\", \"https://*.shop.example\"]",
        )
        .route("path = \"/raw\"\ncors = false");
    let gateway = Gateway::start(settings).await;
    for (origin, allowed) in [
        ("https://shop.example", true),
        ("https://a.shop.example", true),
        ("https://evil-shop.example", false),
        ("http://shop.example", false),
        ("null", false),
    ] {
        let answer = gateway.get("/").header("origin", origin).send().await;
        assert_eq!(answer.status, 201, "the upstream answers either way");
        let said = answer.header("access-control-allow-origin");
        assert_eq!(said, allowed.then_some(origin), "{origin}");
        assert!(
            answer
                .header("vary")
                .unwrap_or_default()
                .to_lowercase()
                .contains("origin")
        );
    }
    let before = upstream.total();
    let answer = preflight(&gateway, "/", "https://shop.example", "POST")
        .send()
        .await;
    assert_eq!(upstream.total(), before, "a preflight is answered here");
    let allowed = answer
        .header("access-control-allow-headers")
        .unwrap_or_default()
        .to_lowercase();
    assert!(allowed.contains("idempotency-key"), "{allowed}");
    // An OPTIONS request that is no preflight is the upstream's business, and so is a route of
    // its own.
    gateway.call(Method::OPTIONS, "/").send().await;
    preflight(&gateway, "/raw", "https://shop.example", "POST")
        .send()
        .await;
    assert_eq!(upstream.total(), before + 2);
}

#[tokio::test]
async fn a_replay_is_for_the_page_that_asks() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream).in_memory().section(
        "cors",
        "origins = [\"https://one.example\", \"https://two.example\"]",
    );
    let gateway = Gateway::start(settings).await;
    for origin in ["https://one.example", "https://two.example"] {
        let answer = gateway
            .post("/")
            .key("k")
            .header("origin", origin)
            .send()
            .await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        let exposed = answer
            .header("access-control-expose-headers")
            .unwrap_or_default();
        assert!(
            exposed.to_lowercase().contains("idempotent-replayed"),
            "{exposed}"
        );
    }
    assert_eq!(upstream.total(), 1);
}
