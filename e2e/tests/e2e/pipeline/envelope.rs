//! One form for every answer.

use onlyonce_e2e::{Answer, Gateway, Reply, Settings, Upstream};

async fn gateway(upstream: &Upstream, lines: &str) -> Gateway {
    let settings = Settings::before(upstream)
        .in_memory()
        .section("envelope", lines);
    Gateway::start(settings).await
}

/// Checks the form of an answer in JSON, and gives its document.
fn document(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    assert!(document["timestamp"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(document["traceID"].as_str(), answer.header("trace-id"));
    document
}

#[tokio::test]
async fn bodies_of_the_upstream_pass_and_empty_answers_get_one() {
    let upstream = Upstream::answering(|request| match request.path() {
        "/own" => Reply::new(404).body("mine"),
        "/none" => Reply::new(404),
        "/denied" => Reply::new(403),
        "/gone" => Reply::new(410),
        "/no-content" => Reply::new(204),
        _ => Reply::new(200),
    })
    .await;
    let gateway = gateway(&upstream, "enabled = true").await;
    let own = gateway.get("/own").send().await;
    assert_eq!((own.status, own.text()), (404, "mine"));
    for (path, status, code) in [("/none", 404, 65), ("/denied", 403, 62), ("/", 200, 0)] {
        let answer = gateway.get(path).send().await;
        assert_eq!(
            (answer.status, &document(&answer)["code"]),
            (status, &code.into()),
            "{path}"
        );
    }
    for (path, status) in [("/gone", 410), ("/no-content", 204)] {
        let answer = gateway.get(path).send().await;
        assert_eq!((answer.status, answer.text()), (status, ""), "{path}");
    }
}

#[tokio::test]
async fn off_it_changes_nothing_and_routes_choose() {
    let upstream = Upstream::answering(|_| Reply::new(404)).await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .section("envelope", "enabled = true")
        .route("path = \"/raw\"\nenvelope = false")
        .route("path = \"/xml\"\nenvelope = { type = \"xml\" }")
        .route("path = \"/html\"\nenvelope = { type = \"html\" }")
        .route("path = \"/text\"\nenvelope = { type = \"text\" }");
    let gateway = Gateway::start(settings).await;
    assert_eq!(gateway.get("/raw").send().await.text(), "");
    assert!(
        gateway
            .get("/xml")
            .send()
            .await
            .text()
            .starts_with("<doc><code>65</code>")
    );
    let page = gateway.get("/html").send().await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(page.text().starts_with("<!DOCTYPE html>"));
    assert!(
        gateway
            .get("/text")
            .send()
            .await
            .text()
            .starts_with("404 - ")
    );
    assert_eq!(document(&gateway.get("/else").send().await)["code"], 65);
}

#[tokio::test]
async fn languages() {
    let upstream = Upstream::answering(|_| Reply::new(403)).await;
    let gateway = gateway(&upstream, "enabled = true").await;
    let chinese = gateway
        .get("/")
        .header("accept-language", "zh-CN")
        .send()
        .await;
    assert_eq!(document(&chinese)["message"], "403 - 网站拒绝显示此网页");
    let english = gateway.get("/").send().await;
    assert_eq!(
        document(&english)["message"],
        "403 - This page is not shown to you"
    );
}

#[tokio::test]
async fn refusals_of_the_idempotency_layer_say_the_same_in_it() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream, "enabled = true").await;
    let answer = gateway.post("/").key("").send().await;
    assert_eq!(answer.status, 400);
    let document = document(&answer);
    assert_eq!(document["code"], 53);
    assert_eq!(document["message"], document["error"]["detail"]);
    let kind = document["error"]["type"].as_str().unwrap();
    assert!(kind.ends_with("#key-invalid"), "{kind}");
    assert_eq!(document["error"]["instance"], document["traceID"]);
    assert_eq!(document["error"]["retryable"], false);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_told_in_it_and_the_key_stays_free() {
    // A port that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let settings = Settings::before_url(format!("http://{free}"))
        .in_memory()
        .section("envelope", "enabled = true");
    let gateway = Gateway::start(settings).await;
    for _ in 0..2 {
        let answer = gateway.post("/").key("k").send().await;
        assert_eq!(answer.status, 502);
        assert!(!answer.is_replay());
        assert_eq!(document(&answer)["code"], 63);
    }
}

#[tokio::test]
async fn always_200() {
    let upstream = Upstream::answering(|_| Reply::new(404)).await;
    let gateway = gateway(&upstream, "enabled = true\nstatus_mode = \"always-200\"").await;
    let answer = gateway.get("/").send().await;
    assert_eq!(
        (answer.status, &document(&answer)["code"]),
        (200, &65.into())
    );
    let refused = gateway.post("/").key("").send().await;
    assert_eq!(
        (refused.status, &document(&refused)["code"]),
        (200, &53.into())
    );
}

#[tokio::test]
async fn the_codes_of_an_always_200_upstream_decide_what_is_recorded() {
    for (code, executions) in [
        (0, 1),
        (51, 1),
        (30001, 1),
        (50, 2),
        (52, 2),
        (63, 2),
        (68, 2),
    ] {
        let upstream = Upstream::answering(move |_| {
            let body = format!("{{\"code\":{code},\"message\":\"m\"}}");
            Reply::new(200)
                .header("content-type", "application/json; charset=utf-8")
                .header("content-length", body.len().to_string())
                .body(body)
        })
        .await;
        let gateway = gateway(&upstream, "read_codes = true").await;
        for _ in 0..2 {
            let answer = gateway.post("/").key("k").send().await;
            assert_eq!((answer.status, &answer.json()["code"]), (200, &code.into()));
        }
        assert_eq!(upstream.total(), executions, "code {code}");
    }
}

#[tokio::test]
async fn refusals_of_the_idempotency_layer_come_in_the_routes_type_and_the_clients_language() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .section("envelope", "enabled = true")
        .route("path = \"/xml\"\nenvelope = { type = \"xml\" }");
    let gateway = Gateway::start(settings).await;
    let answer = gateway
        .post("/xml")
        .key("")
        .header("accept-language", "zh-CN")
        .send()
        .await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.header("content-type"),
        Some("text/xml; charset=utf-8")
    );
    let text = answer.text();
    assert!(text.starts_with("<doc><code>53</code><error>"), "{text}");
    assert!(text.contains("<message>幂等键无效</message>"), "{text}");
}
