//! A line and a row for each request.

use http::Method;
use onlyonce_e2e::{Gateway, Settings, Upstream};
use serde_json::Value;

async fn rows(gateway: &Gateway, query: &str, at_least: usize) -> Vec<Value> {
    let path = format!("/api/access-log{query}");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let answer = gateway.admin(Method::GET, &path).send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let rows = answer.json()["rows"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if rows.len() >= at_least {
            return rows;
        }
        assert!(tokio::time::Instant::now() < deadline, "{rows:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn settings(upstream: &Upstream) -> Settings {
    Settings::before(upstream).in_memory().section(
        "access_log",
        "enabled = true\nlines = \"file:{folder}/access.log\"\nstore = \"sqlite:{folder}/log.db\"",
    )
}

#[tokio::test]
async fn requests_are_lines_and_rows_without_secrets() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(settings(&upstream)).await;
    let charge = || {
        let call = gateway
            .post("/v1/charges?token=hush-query&x=1")
            .key("hush-key");
        call.header("authorization", "Bearer hush-bearer")
            .header("cookie", "session=hush-cookie")
            .header("user-agent", b"curl\xc2\x9b31m\"")
            .json(r#"{"amount":5,"password":"hush-body"}"#)
            .send()
    };
    charge().await;
    assert!(charge().await.is_replay());
    let rows = rows(&gateway, "", 2).await;
    assert_eq!(rows.len(), 2);
    let id = rows[0]["id"].as_str().unwrap();
    let path = format!("/api/access-log/{id}");
    let detail = gateway.admin(Method::GET, &path).send().await;
    assert!(detail.text().contains("/v1/charges"), "{}", detail.text());
    assert!(detail.text().contains("replayed"), "{}", detail.text());
    assert!(!detail.text().contains("hush"), "{}", detail.text());
    let page = gateway
        .admin(Method::GET, &format!("/console/access-log/{id}"))
        .send()
        .await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("charges") && !page.text().contains("hush"));

    let home = gateway.stop().await;
    let lines = std::fs::read_to_string(home.path().join("access.log")).unwrap();
    assert!(!lines.contains("hush"), "{lines}");
    assert!(!lines.contains('\u{9b}'), "{lines:?}");
    let charges: Vec<&str> = lines
        .lines()
        .filter(|line| line.contains("/v1/charges"))
        .collect();
    assert_eq!(charges.len(), 2, "{lines}");
    for line in charges {
        assert!(line.contains("} 201 \"POST http "), "{line}");
    }
}

#[tokio::test]
async fn refusals_are_logged_with_their_code_and_rows_are_found_by_it() {
    let upstream = Upstream::counting().await;
    let settings = settings(&upstream).section("read_only", "enabled = true");
    let gateway = Gateway::start(settings).await;
    gateway.get("/fine").send().await;
    let refused = gateway.post("/orders").send().await;
    assert_eq!(refused.status, 403);
    let found = rows(&gateway, "?code=59", 1).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["trace_id"].as_str(), refused.header("trace-id"));
    let line = gateway.stop().await;
    let lines = std::fs::read_to_string(line.path().join("access.log")).unwrap();
    assert!(
        lines
            .lines()
            .any(|line| line.contains("/orders") && line.contains(", 59, ")),
        "{lines}"
    );
}
