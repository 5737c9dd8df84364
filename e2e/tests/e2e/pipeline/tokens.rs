//! Tokens that nobody issued, and those that have ended.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use onlyonce_e2e::{Answer, Gateway, Home, Settings, Upstream};
use serde_json::{Value, json};

const SECRET: &str = "Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge";
const MODULES: &str = "module = [{ name = \"api\" }, { name = \"admin\", kind = \"login\" }, \
                       { name = \"websocket\" }]";

/// Seconds since 1970, as a server that issues tokens counts them.
#[expect(
    clippy::disallowed_methods,
    reason = "the gateway's clock is the machine's"
)]
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

fn claims() -> Value {
    json!({ "sub": "7", "app": "api", "exp": now() + 3600 })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn hs256(claims: &Value, secret: &[u8]) -> String {
    let key = EncodingKey::from_secret(secret);
    encode(&Header::new(Algorithm::HS256), claims, &key).expect("a token")
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

async fn shows(gateway: &Gateway, path: &str, token: &str) -> Answer {
    let call = gateway.get(path);
    call.header("authorization", format!("Bearer {token}"))
        .send()
        .await
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    shows(gateway, "/api/x", token).await.status
}

#[tokio::test]
async fn forged_tokens_open_nothing() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream).in_memory().section(
        "auth",
        &format!("secret = \"{SECRET}\"\naudience = \"shop\"\n{MODULES}"),
    );
    let gateway = Gateway::start(settings).await;
    let good = hs256(&with("aud", json!("shop")), SECRET.as_bytes());
    assert_eq!(status(&gateway, &good).await, 201);
    let (of_good, _) = good.rsplit_once('.').expect("three parts");
    let others = |name: &str, value: Value| {
        let mut claims = with("aud", json!(["shop"]));
        claims[name] = value;
        hs256(&claims, SECRET.as_bytes())
    };
    let none = json!({ "alg": "none", "typ": "JWT" });
    for (what, token) in [
        (
            "no algorithm",
            format!("{}.{}.", part(&none), part(&claims())),
        ),
        ("no signature", format!("{of_good}.")),
        ("a short signature", good[..good.len() - 2].to_owned()),
        (
            "another secret",
            hs256(
                &with("aud", json!("shop")),
                b"00000000000000000000000000000000",
            ),
        ),
        ("an expired one", others("exp", json!(now() - 31))),
        ("one that never ends", others("exp", Value::Null)),
        ("one of later", others("nbf", json!(now() + 3600))),
        ("another audience", others("aud", json!("bank"))),
        ("no audience", hs256(&claims(), SECRET.as_bytes())),
        ("another app", others("app", json!("admin"))),
        ("nobody", others("sub", json!(""))),
        ("a list of users", others("sub", json!(["7"]))),
        ("an oversized one", others("note", json!("x".repeat(9000)))),
        ("no token", "a.b.c".to_owned()),
    ] {
        let answer = shows(&gateway, "/api/x", &token).await;
        assert_eq!(answer.status, 401, "{what}");
        assert_eq!(answer.json()["code"], 61, "{what}");
    }
    assert_eq!(
        shows(&gateway, "/admin/x", &good).await.status,
        401,
        "another module"
    );
    assert_eq!(upstream.total(), 1);
    assert!(!gateway.log().contains(of_good), "no token is logged");
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    const PRIVATE: &str = include_str!("keys/ed25519.pem");
    const PUBLIC: &str = include_str!("keys/ed25519.pub.pem");
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream).in_memory().section(
        "auth",
        &format!("public_key = \"{{folder}}/public.pem\"\n{MODULES}"),
    );
    let home = Home::new(&settings);
    std::fs::write(home.path().join("public.pem"), PUBLIC).expect("written");
    let gateway = home.start().await;
    let key = EncodingKey::from_ed_pem(PRIVATE.as_bytes()).expect("a key");
    let good = encode(&Header::new(Algorithm::EdDSA), &claims(), &key).expect("a token");
    assert_eq!(status(&gateway, &good).await, 201);
    for public in [PUBLIC, PUBLIC.trim_end()] {
        let forged = hs256(&claims(), public.as_bytes());
        assert_eq!(status(&gateway, &forged).await, 401);
    }
    assert_eq!(upstream.total(), 1);
}

/// What a service behind asks of the gateway's admin listener.
async fn ask(gateway: &Gateway, what: &str, body: &Value) -> Answer {
    let call = gateway.admin(Method::POST, &format!("/api/auth/{what}"));
    let call = call.header("onlyonce-admin", "1").json(&body.to_string());
    call.send().await
}

fn token_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["token"].as_str().expect("a token").to_owned()
}

async fn with_sessions(upstream: &Upstream, more: &str) -> Gateway {
    let settings = Settings::before(upstream).in_memory().section(
        "auth",
        &format!("secret = \"{SECRET}\"\nstate = \"memory:\"\n{more}{MODULES}"),
    );
    Gateway::start(settings).await
}

#[tokio::test]
async fn a_token_ends_with_its_logout_and_its_refresh() {
    let upstream = Upstream::counting().await;
    let gateway = with_sessions(&upstream, "").await;
    let first = token_of(&ask(&gateway, "api/login", &json!({ "id": "7" })).await);
    assert_eq!(status(&gateway, &first).await, 201);
    // Signed well, but nobody logged in with it.
    let signed = hs256(&claims(), SECRET.as_bytes());
    assert_eq!(status(&gateway, &signed).await, 401);
    let second = token_of(&ask(&gateway, "api/refresh", &json!({ "token": first })).await);
    assert_eq!(
        status(&gateway, &first).await,
        401,
        "its successor has its place"
    );
    assert_eq!(status(&gateway, &second).await, 201);
    let out = ask(&gateway, "api/logout", &json!({ "token": second })).await;
    assert_eq!(out.json(), json!({ "ended": true }));
    let refused = shows(&gateway, "/api/x", &second).await;
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.json()["message"],
        "Your login is no longer valid, please log in again!"
    );
    assert_eq!(
        ask(&gateway, "api/refresh", &json!({ "token": second }))
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn with_a_single_login_the_later_ends_the_earlier() {
    let upstream = Upstream::counting().await;
    let gateway = with_sessions(&upstream, "multi_login = false\n").await;
    let user = json!({ "id": "7" });
    let login = || ask(&gateway, "api/login", &user);
    let first = token_of(&login().await);
    let second = token_of(&login().await);
    let chinese = gateway
        .get("/api/x")
        .header("authorization", format!("Bearer {first}"))
        .header("accept-language", "zh-CN")
        .send()
        .await;
    assert_eq!(chinese.status, 401);
    assert_eq!(
        chinese.json()["message"],
        "账号已在其他地方登录，如非本人操作请及时修改登录密码！"
    );
    assert_eq!(status(&gateway, &second).await, 201);
}

#[tokio::test]
async fn a_ticket_opens_a_websocket_s_route_once() {
    let upstream = Upstream::counting().await;
    let gateway = with_sessions(&upstream, "").await;
    let token = token_of(&ask(&gateway, "websocket/login", &json!({ "id": "7" })).await);
    let issued = ask(&gateway, "websocket/ticket", &json!({ "token": token })).await;
    let ticket = issued.json()["ticket"]
        .as_str()
        .expect("a ticket")
        .to_owned();
    let path = format!("/socket/chat?room=1&ticket={ticket}");
    assert_eq!(gateway.get("/socket/chat").send().await.status, 401);
    assert_eq!(gateway.get(&path).send().await.status, 201);
    assert_eq!(
        gateway.get(&path).send().await.status,
        401,
        "it was for one use"
    );
    // The token itself has no place in a URL.
    let in_query = format!("/socket/chat?token={token}");
    assert_eq!(gateway.get(&in_query).send().await.status, 401);
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn the_audit_names_who_was_logged_in_and_nobody_else() {
    let upstream = Upstream::counting().await;
    let gateway = with_sessions(&upstream, "").await;
    let long = format!("wordy-{}", "x".repeat(100_000));
    let refused = ask(&gateway, "api/login", &json!({ "id": long })).await;
    assert_eq!(refused.status, 400, "no token holds that");
    let ended = ask(&gateway, "api/logout", &json!({ "id": long })).await;
    assert_eq!(ended.status, 200);
    assert_eq!(
        ask(&gateway, "api/login", &json!({ "id": "alice" }))
            .await
            .status,
        200
    );
    gateway.logs("alice").await;
    let log = gateway.log();
    let about = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(about("wordy-"), 1, "of the logout alone");
    assert!(log.lines().all(|line| line.len() < 2_000));
}
