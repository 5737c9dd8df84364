//! What operators have: the records, over HTTP and from the command line, health and metrics.

use http::Method;
use onlyonce_e2e::{Call, Finished, Gate, Gateway, Reply, Settings, Upstream};
use serde_json::Value;

async fn state(gateway: &Gateway, id: &str) -> Option<Value> {
    let answer = gateway
        .admin(Method::GET, &format!("/api/keys/{id}"))
        .send()
        .await;
    (answer.status == 200).then(|| answer.json())
}

/// A key whose outcome nobody knows, and its ID.
async fn unknown(gateway: &Gateway) -> String {
    assert_eq!(
        gateway
            .post("/gone?token=hush")
            .key("a")
            .body("10")
            .send()
            .await
            .status,
        502
    );
    let list = gateway
        .admin(Method::GET, "/api/keys?state=unknown")
        .send()
        .await
        .json();
    list["keys"][0]["id"].as_str().unwrap().to_owned()
}

/// Breaks off at `/gone` the first time, holds at `/gated`, else answers 201.
async fn service() -> (Upstream, Gate) {
    let gate = Gate::closed();
    let inside = gate.clone();
    let upstream = Upstream::with(move |request| {
        let gate = inside.clone();
        async move {
            if request.path().starts_with("/gone") && request.number == 1 {
                return Reply::hang_up();
            }
            if request.path() == "/gated" {
                gate.pass().await;
            }
            Reply::new(201).body(request.number.to_string())
        }
    });
    (upstream.await, gate)
}

async fn keys(gateway: &Gateway, arguments: &[&str]) -> Finished {
    gateway.command([&["keys"], arguments].concat()).await
}

#[tokio::test]
async fn records_are_listed_shown_and_found_by_their_key() {
    let (upstream, gate) = service().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let id = unknown(&gateway).await;
    gateway
        .post("/charges")
        .key("b")
        .header("authorization", "Bearer x")
        .send()
        .await;
    let working = tokio::spawn(gateway.post("/gated").key("c").send());
    gate.arrived(1).await;

    let listed = keys(&gateway, &["list"]).await.good().out;
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(
        listed.contains("POST /gone") && !listed.contains("hush"),
        "{listed}"
    );
    let unknown = keys(&gateway, &["list", "--state", "unknown", "--json"])
        .await
        .good()
        .out;
    let unknown: Value = serde_json::from_str(&unknown).unwrap();
    assert_eq!(unknown["keys"][0]["id"], id.as_str());
    assert_eq!(unknown["keys"].as_array().unwrap().len(), 1);
    // Page by page.
    let first = keys(&gateway, &["list", "--limit", "2", "--json"])
        .await
        .good()
        .out;
    let first: Value = serde_json::from_str(&first).unwrap();
    let next = first["next"].as_str().unwrap();
    let rest = keys(&gateway, &["list", "--after", next, "--json"])
        .await
        .good()
        .out;
    let rest: Value = serde_json::from_str(&rest).unwrap();
    assert_eq!(rest["keys"].as_array().unwrap().len(), 1);
    assert_eq!(rest.get("next"), None);

    let shown = keys(&gateway, &["show", &id]).await.good().out;
    assert!(shown.contains("state:    unknown"), "{shown}");
    let by_key = ["show", "--key", "a", "--scope", "anonymous"];
    assert_eq!(keys(&gateway, &by_key).await.good().out, shown);
    let by_credential = [
        "show",
        "--key",
        "b",
        "--authorization",
        "Bearer x",
        "--json",
    ];
    let shown: Value =
        serde_json::from_str(&keys(&gateway, &by_credential).await.good().out).unwrap();
    assert_eq!(
        (&shown["state"], &shown["status"]),
        (&"completed".into(), &201.into())
    );
    let theirs = ["show", "--key", "b", "--authorization", "Bearer y"];
    let none = keys(&gateway, &theirs).await;
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("no live record"), "{}", none.err);

    let counts = gateway
        .admin(Method::GET, "/api/keys/count")
        .send()
        .await
        .json();
    assert_eq!(counts["unknown"], 1);
    assert_eq!(
        (&counts["completed"], &counts["in-progress"]),
        (&1.into(), &1.into())
    );
    gate.open();
    working.await.unwrap();
}

#[tokio::test]
async fn an_unknown_outcome_is_resolved_as_completed_and_replays() {
    let (upstream, _) = service().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let id = unknown(&gateway).await;
    let retry = || gateway.post("/gone?token=hush").key("a").body("10").send();
    assert_eq!(retry().await.problem().as_deref(), Some("outcome-unknown"));
    let body = gateway.home().path().join("body.json");
    std::fs::write(&body, "{\"charge\":\"ch_1\"}").unwrap();
    let body = body.to_str().unwrap();
    let completed = [
        "resolve",
        &id,
        "completed",
        "--status",
        "202",
        "--body-file",
        body,
    ];
    let resolved = keys(&gateway, &completed).await.good();
    assert!(resolved.out.contains("resolved as completed"));
    let replay = retry().await;
    assert_eq!(
        (replay.status, replay.text()),
        (202, "{\"charge\":\"ch_1\"}")
    );
    assert_eq!(replay.header("content-type"), Some("application/json"));
    assert!(replay.is_replay());
    // Each change is in the log, with who made it.
    let line = gateway.logs("onlyonce::audit").await;
    assert!(
        line.contains("resolve completed") && line.contains(&id),
        "{line}"
    );
    assert_eq!(upstream.total(), 1);
    // Once is enough.
    let again = keys(&gateway, &["resolve", &id, "not-executed"]).await;
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("unknown"), "{}", again.err);
    // It is as durable as any other.
    let gateway = gateway.kill().await.start().await;
    let replay = gateway
        .post("/gone?token=hush")
        .key("a")
        .body("10")
        .send()
        .await;
    assert_eq!((replay.status, replay.is_replay()), (202, true));
}

#[tokio::test]
async fn resolved_as_completed_without_a_body_it_says_so() {
    let (upstream, _) = service().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let id = unknown(&gateway).await;
    keys(&gateway, &["resolve", &id, "completed"]).await.good();
    let retry = gateway
        .post("/gone?token=hush")
        .key("a")
        .body("10")
        .send()
        .await;
    assert_eq!(retry.problem().as_deref(), Some("response-not-kept"));
    assert_eq!(retry.json()["original_status"], 200);
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn an_unknown_outcome_is_resolved_as_not_executed_and_executes() {
    let (upstream, _) = service().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let id = unknown(&gateway).await;
    keys(&gateway, &["resolve", &id, "not-executed"])
        .await
        .good();
    let retry = || gateway.post("/gone?token=hush").key("a").body("10").send();
    assert_eq!(retry().await.text(), "2");
    assert!(retry().await.is_replay());
    assert_eq!(upstream.total(), 2);
}

#[tokio::test]
async fn a_record_is_forgotten_unless_its_owner_is_at_work() {
    let (upstream, gate) = service().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let call = || gateway.post("/charges").key("a").send();
    assert_eq!(call().await.text(), "1");
    let id = gateway.only_record().await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    keys(&gateway, &["forget", &id]).await.good();
    assert_eq!(call().await.text(), "2");
    keys(&gateway, &["forget", &id]).await.good();
    let again = keys(&gateway, &["forget", &id]).await;
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("no live record"), "{}", again.err);

    let working = tokio::spawn(gateway.post("/gated").key("b").send());
    gate.arrived(1).await;
    let record = gateway.only_record().await;
    let id = record["id"].as_str().unwrap();
    assert!(record["lease_left_seconds"].as_u64().unwrap() > 0);
    let refused = keys(&gateway, &["forget", id]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("at work"), "{}", refused.err);
    gate.open();
    assert_eq!(working.await.unwrap().status, 201);
    assert_eq!(state(&gateway, id).await.unwrap()["state"], "completed");
}

#[tokio::test]
async fn wrong_calls_are_refused_with_what_is_wrong() {
    let (upstream, _) = service().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    let id = unknown(&gateway).await;
    let resolve = format!("/api/keys/{id}/resolve");
    let cases: [(Call, u16); 7] = [
        (gateway.admin(Method::GET, "/api/keys?state=nonsense"), 400),
        (gateway.admin(Method::GET, "/api/keys?stat=unknown"), 400),
        (gateway.admin(Method::GET, "/api/keys/xyz"), 400),
        (
            gateway.admin(Method::GET, &format!("/api/keys/{}", "0".repeat(64))),
            404,
        ),
        (
            gateway
                .admin(Method::POST, &resolve)
                .json("{\"outcome\":\"maybe\"}"),
            422,
        ),
        (
            gateway
                .admin(Method::POST, &resolve)
                .json("{\"outcome\":\"completed\",\"status\":99}"),
            400,
        ),
        (gateway.admin(Method::GET, "/nowhere"), 404),
    ];
    for (call, status) in cases {
        let answer = call.send().await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    assert_eq!(state(&gateway, &id).await.unwrap()["state"], "unknown");
}

#[tokio::test]
async fn web_pages_cannot_call_the_admin_api() {
    let (upstream, _) = service().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    let id = unknown(&gateway).await;
    let path = format!("/api/keys/{id}");
    let plain = |method, path: &str| Call::new(gateway.admin_addr(), method, path);
    // Without the header that a page of another origin can't send.
    for call in [
        plain(Method::DELETE, &path),
        plain(Method::POST, "/-/reload"),
    ] {
        assert_eq!(call.send().await.status, 403);
    }
    // By a name that somebody else gave this machine.
    let rebound = gateway
        .admin(Method::GET, "/api/keys")
        .header("host", "evil.example");
    assert_eq!(rebound.send().await.status, 403);
    assert!(state(&gateway, &id).await.is_some());
}

#[tokio::test]
async fn the_public_listener_has_none_of_it() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    for path in ["/livez", "/readyz", "/metrics", "/api/keys", "/-/reload"] {
        let answer = gateway
            .post(path)
            .header("onlyonce-admin", "1")
            .send()
            .await;
        assert_eq!(answer.status, 201, "{path} is the upstream's");
    }
    assert_eq!(upstream.total(), 5);
}

#[tokio::test]
async fn the_admin_listener_can_be_off() {
    let upstream = Upstream::counting().await;
    let home = onlyonce_e2e::Home::new(&Settings::before(&upstream).in_memory());
    let text = std::fs::read_to_string(home.config()).unwrap();
    let off = text.replace(
        "[admin]\nlisten = \"127.0.0.1:0\"",
        "[admin]\nlisten = \"off\"",
    );
    assert_ne!(text, off);
    std::fs::write(home.config(), off).unwrap();
    let gateway = home.start().await;
    assert_eq!(gateway.post("/").send().await.status, 201);
    let asked = home.run(["keys", "list"]).await;
    assert_eq!(asked.code, Some(2));
    assert!(asked.err.contains("--admin URL"), "{}", asked.err);
}

#[tokio::test]
async fn health_and_metrics() {
    let (upstream, gate) = service().await;
    let gateway =
        Gateway::start(Settings::before(&upstream).route("path = \"/charges/{id}\"")).await;
    let live = gateway.admin(Method::GET, "/livez").send().await;
    assert_eq!((live.status, live.text()), (200, "ok\n"));
    let ready = gateway.admin(Method::GET, "/readyz").send().await;
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &true.into()));
    let health = gateway.command(["health"]).await.good();
    assert!(health.out.contains("\"ready\":true"), "{}", health.out);

    unknown(&gateway).await;
    for body in ["1", "1", "2"] {
        gateway.post("/charges/7").key("b").body(body).send().await;
    }
    gateway.get("/charges/7").send().await;
    let working = tokio::spawn(gateway.post("/gated").key("c").send());
    gate.arrived(1).await;
    let metrics = gateway.admin(Method::GET, "/metrics").send().await;
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    for line in [
        "onlyonce_requests_total{outcome=\"executed\",route=\"/charges/{id}\"} 1",
        "onlyonce_requests_total{outcome=\"replayed\",route=\"/charges/{id}\"} 1",
        "onlyonce_requests_total{outcome=\"mismatch\",route=\"/charges/{id}\"} 1",
        "onlyonce_requests_total{outcome=\"bypassed\",route=\"/charges/{id}\"} 1",
        "onlyonce_unknown_outcomes_total 1",
        "onlyonce_in_progress 1",
        "onlyonce_records{state=\"completed\"} 1",
        "onlyonce_records{state=\"unknown\"} 1",
        "onlyonce_records{state=\"in-progress\"} 1",
        "onlyonce_upstream_failures_total{kind=\"reset\"} 1",
    ] {
        assert!(
            metrics.text().lines().any(|own| own == line),
            "{line}\n{}",
            metrics.text()
        );
    }
    let series = "onlyonce_store_duration_seconds_count{operation=\"claim\",result=\"ok\"} ";
    let claims = metrics
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(series));
    assert_eq!(claims, Some("5"), "{}", metrics.text());
    gate.open();
    working.await.unwrap();
}
