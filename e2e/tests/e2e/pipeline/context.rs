//! Trace IDs.

use onlyonce_e2e::{Gateway, Reply, Settings, Upstream};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn gateway(upstream: &Upstream, lines: &str) -> Gateway {
    let settings = Settings::before(upstream)
        .in_memory()
        .section("context", lines);
    Gateway::start(settings).await
}

#[tokio::test]
async fn without_it_nothing_is_added() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    let answer = gateway.get("/").header("traceparent", PARENT).send().await;
    assert_eq!(answer.header("trace-id"), None);
    assert_eq!(upstream.last().header("traceparent"), Some(PARENT));
}

#[tokio::test]
async fn strangers_traces_are_ignored_unless_accepted() {
    let upstream = Upstream::counting().await;
    let ignoring = gateway(&upstream, "enabled = true").await;
    let answer = ignoring.get("/").header("traceparent", PARENT).send().await;
    let shown = answer.header("trace-id").expect("a trace ID").to_owned();
    assert!(shown.len() == 32 && shown != TRACE, "{shown}");
    let passed = upstream.last().header("traceparent").unwrap().to_owned();
    assert!(passed.starts_with(&format!("00-{shown}-")), "{passed}");

    let accepting = gateway(&upstream, "enabled = true\ntrace_context = \"accept\"").await;
    let answer = accepting
        .get("/")
        .header("traceparent", PARENT)
        .send()
        .await;
    assert_eq!(answer.header("trace-id"), Some(TRACE));
    assert_eq!(upstream.last().header("traceparent"), Some(PARENT));
}

#[tokio::test]
async fn a_replay_carries_a_trace_id_of_its_own() {
    let upstream =
        Upstream::answering(|_| Reply::new(201).header("trace-id", "the upstream's")).await;
    let gateway = gateway(&upstream, "enabled = true").await;
    let first = gateway.post("/").key("k").send().await;
    let again = gateway.post("/").key("k").send().await;
    assert!(again.is_replay());
    assert_ne!(first.header("trace-id"), again.header("trace-id"));
    assert_ne!(again.header("trace-id"), Some("the upstream's"));
}

#[tokio::test]
async fn a_failure_to_forward_is_logged_with_the_trace_id_that_the_client_got() {
    let settings = Settings::before_url("http://127.0.0.1:1")
        .in_memory()
        .section("context", "enabled = true");
    let gateway = Gateway::start(settings).await;
    let answer = gateway.get("/orders?token=hunter2").send().await;
    let shown = answer.header("trace-id").expect("a trace ID");
    let line = gateway.logs("not forwarded").await;
    assert!(line.contains(shown) && line.contains("/orders"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
}

#[tokio::test]
async fn refusals_name_the_request_by_its_trace_id() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream, "enabled = true").await;
    let answer = gateway.post("/").key("").send().await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json()["instance"].as_str(),
        answer.header("trace-id")
    );
}
