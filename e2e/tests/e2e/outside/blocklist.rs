//! One blocklist before two gateways: a change on either is in force on the other at once.

use http::Method;
use onlyonce_e2e::{Gateway, Settings, Upstream, eventually};
use onlyonce_servers::postgres::start_postgres;
use onlyonce_servers::redis::start_redis;

async fn one_blocklist(store: &str) {
    let upstream = Upstream::counting().await;
    let settings = || {
        let settings = Settings::before(&upstream).store(store);
        settings.section("blocklist", "enabled = true\npoll = \"1h\"")
    };
    let (one, other) = (
        Gateway::start(settings()).await,
        Gateway::start(settings()).await,
    );
    assert_eq!(other.get("/").send().await.status, 201);
    let body = serde_json::json!({"ip": "127.0.0.0/8"}).to_string();
    let call = one.admin(Method::POST, "/api/blocklist");
    let added = call.header("onlyonce-admin", "1").json(&body).send().await;
    assert!(added.status < 300, "{added:?}");
    assert_eq!(
        one.get("/").send().await.status,
        403,
        "at once where it was said"
    );
    // The poll would come in an hour: this is the announcement.
    eventually("the other one hears of it", || async {
        (other.get("/").send().await.status == 403).then_some(())
    })
    .await;
    let id = added.json()["id"].to_string();
    let removed = other
        .command(["blocklist", "remove", id.trim_matches('"')])
        .await;
    assert_eq!(removed.code, Some(0), "{removed:?}");
    eventually("the first one hears of it", || async {
        (one.get("/").send().await.status == 201).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_blocklist_on_redis_is_one() {
    let redis = start_redis();
    one_blocklist(&redis.url()).await;
}

#[tokio::test]
async fn a_blocklist_on_postgres_is_one() {
    let postgres = start_postgres();
    one_blocklist(&format!("{}?migrate=auto&connections=4", postgres.url())).await;
}
