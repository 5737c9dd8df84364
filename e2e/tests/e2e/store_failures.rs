//! The records can't be written any more: a broken disk, or a full one.

use http::Method;
use onlyonce_e2e::{Answer, Gateway, Settings, Upstream, eventually};

async fn post(gateway: &Gateway, key: &str) -> Answer {
    gateway
        .post("/charges")
        .header("authorization", "Bearer one")
        .header("x-idempotency-key", key)
        .header("idempotency-key", key)
        .body("10")
        .send()
        .await
}

/// A gateway whose disk breaks once the first request is recorded.
async fn broken(upstream: &Upstream, profile: &str, more: &str) -> Gateway {
    let settings = Settings::before(upstream)
        .profile(profile)
        .idempotency(more);
    let gateway = Gateway::start(settings).await;
    assert_eq!(post(&gateway, KEY).await.status, 201);
    gateway.fail_writes();
    gateway
}

const KEY: &str = "0b8b5c1e-5a0e-4d8e-9f5c-2f2f6d6f8a10";
const OTHER: &str = "5e0f0f66-98a7-4c65-9a0b-6a1d3b7f2c11";

#[tokio::test]
async fn without_a_store_nothing_is_executed_unless_the_profile_wants_it_so() {
    for (profile, status) in [
        ("standard", Some(503)),
        ("ietf", Some(503)),
        ("stripe", Some(503)),
        ("fiber", Some(500)),
        ("redis-gin", None),
        ("payments", Some(503)),
    ] {
        let upstream = Upstream::counting().await;
        let syntax = "syntax = \"lenient\"";
        let gateway = broken(&upstream, profile, syntax).await;
        let answer = post(&gateway, OTHER).await;
        match status {
            Some(status) => {
                assert_eq!(answer.status, status, "{profile}: {answer:?}");
                assert_eq!(
                    answer.problem().as_deref(),
                    Some("store-unavailable"),
                    "{profile}"
                );
                assert_eq!(answer.header("retry-after"), Some("1"), "{profile}");
                assert_eq!(upstream.total(), 1, "{profile}");
            }
            None => {
                assert_eq!((answer.status, answer.text()), (201, "2"), "{profile}");
                // Without protection, and counted.
                let metrics = gateway.admin(Method::GET, "/metrics").send().await;
                let counted = "onlyonce_unprotected_total 1";
                assert!(metrics.text().contains(counted), "{}", metrics.text());
            }
        }
        // Requests without a key need no store.
        let safe = gateway.get("/charges").send().await;
        assert_eq!(safe.status, 201, "{profile}");
        // What was recorded is there again on a sound disk.
        let total = upstream.total();
        let gateway = gateway.kill().await.start().await;
        assert_eq!(post(&gateway, KEY).await.text(), "1", "{profile}");
        assert_eq!(upstream.total(), total, "{profile}");
    }
}

#[tokio::test]
async fn hazard_19_when_recording_fails_after_the_effect_it_is_not_executed_again() {
    let (upstream, gate) = Upstream::gated().await;
    let settings =
        Settings::before(&upstream).idempotency("lease = \"1s\"\nstore_timeout = \"300ms\"");
    let gateway = Gateway::start(settings).await;
    let first = tokio::spawn(gateway.post("/charges").key(KEY).body("10").send());
    gate.arrived(1).await;
    gateway.fail_writes();
    gate.open();
    // It was executed, and the client is told so.
    let first = first.await.unwrap();
    assert_eq!((first.status, first.text()), (201, "1"));
    assert_eq!(first.header("idempotency-outcome"), Some("unrecorded"));
    for _ in 0..3 {
        let retry = gateway.post("/charges").key(KEY).body("10").send().await;
        assert!([409, 503].contains(&retry.status), "{retry:?}");
    }
    // Nor after a restart on a sound disk.
    let gateway = gateway.kill().await.start().await;
    let retry = eventually("the end of the lease", || async {
        let answer = gateway.post("/charges").key(KEY).body("10").send().await;
        (answer.problem().as_deref() != Some("in-progress")).then_some(answer)
    })
    .await;
    assert_eq!(retry.problem().as_deref(), Some("outcome-unknown"));
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn a_broken_store_is_not_ready_but_alive() {
    let upstream = Upstream::counting().await;
    let gateway = broken(&upstream, "standard", "").await;
    post(&gateway, OTHER).await;
    let live = gateway.admin(Method::GET, "/livez").send().await;
    assert_eq!(live.status, 200);
    let ready = gateway.admin(Method::GET, "/readyz").send().await;
    assert_eq!(
        (ready.status, &ready.json()["ready"]),
        (503, &false.into()),
        "{ready:?}"
    );
}

#[tokio::test]
async fn hazard_49_a_full_store_takes_no_new_keys_and_drops_no_old_ones() {
    let upstream = Upstream::answering(|request| {
        onlyonce_e2e::Reply::new(201).body(format!("{:050000}", request.number))
    })
    .await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .section("store", "max_bytes = \"4MiB\"");
    let gateway = Gateway::start(settings).await;
    let mut kept = Vec::new();
    let full = loop {
        let answer = post(&gateway, &format!("key-{}", kept.len())).await;
        if answer.status == 201 {
            kept.push(answer);
            assert!(kept.len() < 1000, "never full");
        } else {
            break answer;
        }
    };
    assert_eq!(
        (full.status, full.problem().as_deref()),
        (503, Some("store-full"))
    );
    assert_eq!(full.header("retry-after"), Some("1"));
    assert!(kept.len() >= 20);
    let total = upstream.total();
    for (number, kept) in kept.iter().enumerate() {
        let replay = post(&gateway, &format!("key-{number}")).await;
        assert!(replay.is_replay() && replay.body == kept.body);
    }
    assert_eq!(upstream.total(), total);
}
