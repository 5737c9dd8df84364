//! Sessions that two gateways share: a logout on either counts on both, at once.

use http::Method;
use onlyonce_e2e::{Answer, Gateway, Settings, Upstream};
use onlyonce_servers::postgres::start_postgres;
use onlyonce_servers::redis::start_redis;
use serde_json::{Value, json};

async fn ask(gateway: &Gateway, what: &str, body: &Value) -> Answer {
    let call = gateway.admin(Method::POST, &format!("/api/auth/api/{what}"));
    let call = call.header("onlyonce-admin", "1").json(&body.to_string());
    call.send().await
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    let call = gateway.get("/api/x");
    let call = call.header("authorization", format!("Bearer {token}"));
    call.send().await.status
}

async fn one_login(state: &str) {
    let upstream = Upstream::counting().await;
    let settings = || {
        let auth = format!(
            "secret = \"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge\"\nstate = \"{state}\"\n\
             multi_login = false\nmodule = [{{ name = \"api\" }}]"
        );
        Settings::before(&upstream)
            .in_memory()
            .section("auth", &auth)
    };
    let (one, other) = (
        Gateway::start(settings()).await,
        Gateway::start(settings()).await,
    );
    let token_of = |answer: Answer| answer.json()["token"].as_str().expect("a token").to_owned();
    let first = token_of(ask(&one, "login", &json!({ "id": "7" })).await);
    assert_eq!(status(&other, &first).await, 201);
    let second = token_of(ask(&other, "login", &json!({ "id": "7" })).await);
    assert_eq!(
        status(&one, &first).await,
        401,
        "a later login has ended it"
    );
    assert_eq!(status(&one, &second).await, 201);
    let out = ask(&one, "logout", &json!({ "token": second })).await;
    assert_eq!(out.json(), json!({ "ended": true }));
    assert_eq!(status(&other, &second).await, 401);
    assert_eq!(upstream.total(), 2);
}

#[tokio::test]
async fn sessions_on_redis_are_shared() {
    let redis = start_redis();
    one_login(&redis.url()).await;
}

#[tokio::test]
async fn sessions_on_postgres_are_shared() {
    let postgres = start_postgres();
    one_login(&format!("{}?migrate=auto&connections=4", postgres.url())).await;
}

/// Who can't be asked for a session lets nobody in, and says so.
#[tokio::test]
async fn without_the_sessions_store_nobody_is_let_in() {
    let upstream = Upstream::counting().await;
    let mut redis = start_redis();
    let auth = format!(
        "secret = \"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge\"\nstate = \"{}\"\nmodule = [{{ name = \"api\" }}]",
        redis.url()
    );
    let settings = Settings::before(&upstream)
        .in_memory()
        .section("auth", &auth);
    let gateway = Gateway::start(settings).await;
    let issued = ask(&gateway, "login", &json!({ "id": "7" })).await;
    let token = issued.json()["token"].as_str().expect("a token").to_owned();
    assert_eq!(status(&gateway, &token).await, 201);
    redis.kill();
    assert_eq!(status(&gateway, &token).await, 503);
    assert_eq!(
        ask(&gateway, "login", &json!({ "id": "8" })).await.status,
        503
    );
    assert_eq!(upstream.total(), 1);
}
