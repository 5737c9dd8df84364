//! A system that can be looked at, and not changed.

use http::Method;
use onlyonce_e2e::{Gateway, Settings, Upstream};

#[tokio::test]
async fn it_is_switched_while_requests_come() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .section("read_only", "switchable = true\nexempt = [\"/login\"]");
    let gateway = Gateway::start(settings).await;
    let switch = async |on: bool| {
        let call = gateway
            .admin(Method::POST, "/-/read-only")
            .header("onlyonce-admin", "1");
        let answer = call
            .json(&serde_json::json!({ "on": on }).to_string())
            .send()
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    assert_eq!(gateway.post("/orders").key("k").send().await.status, 201);
    switch(true).await;
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let refused = gateway.call(method, "/orders").key("k").send().await;
        assert_eq!((refused.status, &refused.json()["code"]), (403, &59.into()));
    }
    assert_eq!(gateway.get("/orders").send().await.status, 201);
    assert_eq!(gateway.post("/login").send().await.status, 201);
    let disguised = || {
        gateway
            .get("/orders")
            .header("x-http-method-override", "POST")
    };
    assert_eq!(disguised().send().await.status, 201);
    assert_eq!(upstream.last().header("x-http-method-override"), None);
    switch(false).await;
    disguised().send().await;
    assert_eq!(
        upstream.last().header("x-http-method-override"),
        Some("POST")
    );
    assert!(gateway.post("/orders").key("k").send().await.is_replay());
}

#[tokio::test]
async fn hotgo_refuses_post_alone() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .section("read_only", "enabled = true\nmethods = \"post\"")
        .section(
            "envelope",
            "status_mode = \"always-200\"\nlanguage = \"zh-CN\"",
        );
    let gateway = Gateway::start(settings).await;
    let refused = gateway.post("/").send().await;
    assert_eq!((refused.status, &refused.json()["code"]), (200, &59.into()));
    assert_eq!(refused.json()["message"], "演示系统禁止操作！");
    assert_eq!(gateway.call(Method::DELETE, "/").send().await.status, 201);
}
