//! The gateway's process dies, at the worst moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use onlyonce_e2e::{Answer, Gate, Gateway, Home, Settings, Upstream, eventually};
use rustix::process::Signal;

/// Short, so that a test sees a lease run out.
const SHORT_LEASE: &str = "lease = \"1s\"\nstore_timeout = \"300ms\"";

fn fence(upstream: &Upstream, place: usize) -> u64 {
    let seen = upstream.seen();
    seen[place]
        .header("idempotency-fence")
        .unwrap()
        .parse()
        .unwrap()
}

fn attempt(upstream: &Upstream, place: usize) -> String {
    let seen = upstream.seen();
    seen[place]
        .header("idempotency-attempt")
        .unwrap()
        .to_owned()
}

/// Kills the gateway after the upstream took effect and before it has answered.
async fn kill_in_between(settings: Settings, gate: &Gate) -> (Home, u64) {
    let gateway = Gateway::start(settings).await;
    tokio::select! {
        answer = gateway.post("/charges").key("a").body("10").send() => panic!("{answer:?}"),
        () = gate.arrived(1) => {}
    }
    let record = gateway.only_record().await;
    assert_eq!(record["state"], "in-progress");
    let fence = record["fence"].as_u64().unwrap();
    let home = gateway.kill().await;
    gate.open();
    (home, fence)
}

/// Asks until the answer is another than "in progress".
async fn settled(gateway: &Gateway) -> Answer {
    eventually("another answer than \"in progress\"", || async {
        let answer = gateway.post("/charges").key("a").body("10").send().await;
        (answer.problem().as_deref() != Some("in-progress")).then_some(answer)
    })
    .await
}

#[tokio::test]
async fn killed_between_effect_and_record_the_key_is_held() {
    let (upstream, gate) = Upstream::gated().await;
    let settings = Settings::before(&upstream).idempotency(SHORT_LEASE);
    let (home, _) = kill_in_between(settings, &gate).await;
    let gateway = home.start().await;
    // As long as the lease runs, the work may still go on somewhere.
    let answer = settled(&gateway).await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(answer.problem().as_deref(), Some("outcome-unknown"));
    assert_eq!(answer.header("retry-after"), None);
    assert_eq!(gateway.only_record().await["state"], "unknown");
    // Whoever sends something else under that key is told so, also now.
    let other = gateway.post("/charges").key("a").body("11").send().await;
    assert_eq!(
        (other.status, other.problem().as_deref()),
        (422, Some("key-reused"))
    );
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn killed_between_effect_and_record_a_retry_is_a_second_attempt_with_a_newer_fence() {
    let (upstream, gate) = Upstream::gated().await;
    let settings = Settings::before(&upstream)
        .idempotency(SHORT_LEASE)
        .idempotency("on_unknown = \"retry\"");
    let (home, first_fence) = kill_in_between(settings, &gate).await;
    assert_eq!(fence(&upstream, 0), first_fence);
    let gateway = home.start().await;
    let early = gateway.post("/charges").key("a").body("10").send().await;
    // Unless the start took longer than the lease, it still runs.
    if early.status == 409 {
        assert_eq!(early.problem().as_deref(), Some("in-progress"));
    }
    let answer = settled(&gateway).await;
    assert_eq!((answer.status, answer.text()), (201, "2"));
    assert_eq!(upstream.total(), 2);
    assert_eq!(
        (attempt(&upstream, 0), attempt(&upstream, 1)),
        ("1".into(), "2".into())
    );
    assert!(fence(&upstream, 1) > fence(&upstream, 0));
    let replay = gateway.post("/charges").key("a").body("10").send().await;
    assert!(replay.is_replay());
    assert_eq!((replay.text(), upstream.total()), ("2", 2));
}

#[tokio::test]
async fn hazard_14_after_a_crash_the_key_is_not_blocked_for_its_lifetime() {
    let (upstream, gate) = Upstream::gated().await;
    let settings = Settings::before(&upstream).idempotency(SHORT_LEASE);
    let (home, _) = kill_in_between(settings, &gate).await;
    let gateway = home.start().await;
    assert_eq!(
        settled(&gateway).await.problem().as_deref(),
        Some("outcome-unknown")
    );
    // An operator who has looked it up says that nothing happened, and the client goes on.
    let id = gateway.only_record().await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let resolved = gateway
        .command(["keys", "resolve", &id, "not-executed"])
        .await;
    assert_eq!(resolved.code, Some(0), "{resolved:?}");
    let answer = gateway.post("/charges").key("a").body("10").send().await;
    assert_eq!((answer.status, answer.text()), (201, "2"));
}

#[tokio::test]
async fn records_made_before_a_kill_replay_after_it() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let key = |number: usize| format!("key-{number}");
    let mut first = Vec::new();
    for number in 0..20 {
        first.push(
            gateway
                .post("/charges")
                .key(&key(number))
                .body("10")
                .send()
                .await,
        );
    }
    let home = gateway.kill().await;
    let gateway = home.start().await;
    for (number, first) in first.iter().enumerate() {
        let retry = gateway
            .post("/charges")
            .key(&key(number))
            .body("10")
            .send()
            .await;
        assert!(retry.is_replay(), "{retry:?}");
        assert_eq!((retry.status, &retry.body), (first.status, &first.body));
    }
    // And what comes after it is newer than all that was before.
    gateway.post("/charges").key("new").body("10").send().await;
    assert_eq!(upstream.total(), 21);
    let fences: Vec<u64> = (0..21).map(|place| fence(&upstream, place)).collect();
    assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
}

#[tokio::test]
async fn killed_under_load_every_answer_that_was_seen_stays_and_nothing_executes_twice() {
    const KEYS: usize = 60;
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream).idempotency(SHORT_LEASE);
    let home = Home::new(&settings);
    let mut seen: Vec<Option<Answer>> = (0..KEYS).map(|_| None).collect();
    for round in 1..=3 {
        let gateway = home.start().await;
        let dying = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let calls = (0..KEYS).map(|number| {
            let call = gateway
                .post("/charges")
                .key(&format!("key-{number}"))
                .body("10");
            let (dying, answered) = (Arc::clone(&dying), Arc::clone(&answered));
            async move {
                let answer = call.try_send().await;
                assert!(answer.is_ok() || dying.load(Ordering::SeqCst), "{answer:?}");
                answered.fetch_add(1, Ordering::SeqCst);
                (number, answer.ok())
            }
        });
        let calls = tokio::spawn(calls.collect::<FuturesUnordered<_>>().collect::<Vec<_>>());
        // In the middle of it: some have their answer, many have not.
        eventually("some answers", || async {
            (answered.load(Ordering::SeqCst) >= 5 * round).then_some(())
        })
        .await;
        dying.store(true, Ordering::SeqCst);
        gateway.kill().await;
        for (number, answer) in calls.await.unwrap() {
            check(&mut seen[number], answer);
        }
    }
    let gateway = home.start().await;
    for (number, seen) in seen.iter_mut().enumerate() {
        let call = || {
            gateway
                .post("/charges")
                .key(&format!("key-{number}"))
                .body("10")
                .send()
        };
        let last = eventually("a settled key", || async {
            let answer = call().await;
            (answer.problem().as_deref() != Some("in-progress")).then_some(answer)
        })
        .await;
        check(seen, Some(last));
        let executions = upstream.executions(&format!("key-{number}"));
        assert!(executions <= 1, "key-{number} executed {executions} times");
    }
}

/// Once an answer was seen, there is no other.
fn check(seen: &mut Option<Answer>, answer: Option<Answer>) {
    let Some(answer) = answer else { return };
    match (answer.status, answer.problem().as_deref()) {
        (201, _) => match seen {
            Some(seen) => assert_eq!(seen.body, answer.body),
            None => *seen = Some(answer),
        },
        (409, Some("outcome-unknown" | "in-progress")) => {
            assert!(seen.is_none(), "was {seen:?}, and is unknown now");
        }
        _ => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn hazard_02_a_second_gateway_on_the_same_records_is_refused() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    gateway.post("/").key("a").send().await;
    let second = gateway.home().fail_to_start().await;
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains("records"), "{}", second.err);
    // The first one does not notice.
    assert!(gateway.post("/").key("a").send().await.is_replay());
    let home = gateway.kill().await;
    // A kill leaves no lock behind.
    let gateway = home.start().await;
    assert!(gateway.post("/").key("a").send().await.is_replay());
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn hazard_42_waking_from_a_pause_longer_than_the_lease_it_overwrites_nothing() {
    for on_unknown in ["hold", "retry"] {
        let (upstream, gate) = Upstream::gated().await;
        let settings = Settings::before(&upstream)
            .idempotency(SHORT_LEASE)
            .idempotency(&format!("on_unknown = {on_unknown:?}"));
        let gateway = Gateway::start(settings).await;
        let call = || gateway.post("/charges").key("a").body("10").send();
        let first = tokio::spawn(call());
        gate.arrived(1).await;
        gateway.signal(Signal::STOP);
        // Sent while it sleeps, so that it is there at once when it wakes.
        let second = tokio::spawn(call());
        // The lease runs out on the clock alone: time itself is what is waited for.
        tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
        gateway.signal(Signal::CONT);
        gate.open();
        let (first, second) = (first.await.unwrap(), second.await.unwrap());
        let last = settled(&gateway).await;
        // Either it got its lease back, or another took over; there is one answer in any case.
        for answer in [&first, &second] {
            match answer.status {
                201 => assert_eq!(answer.body, last.body, "{on_unknown}"),
                409 => {}
                status => panic!("{on_unknown}: {status}"),
            }
        }
        let most = if on_unknown == "hold" { 1 } else { 2 };
        assert!(
            upstream.total() <= most,
            "{on_unknown}: {}",
            upstream.total()
        );
    }
}
