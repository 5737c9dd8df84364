//! Two gateways before one service, on one store, and one of them is killed in the middle.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_e2e::{Answer, Gateway, Reply, Settings, Upstream, eventually};
use onlyonce_servers::postgres::start_postgres;
use onlyonce_servers::redis::start_redis;
use rustix::process::Signal;
use tokio::sync::Notify;

const KEYS: usize = 40;
/// Requests for each key, to either gateway in turn, all at once.
const COPIES: usize = 6;
const SETTINGS: &str = "secret = \"0123456789abcdef\"\nlease = \"2s\"\nstore_timeout = \"600ms\"\n\
                        concurrent = \"wait\"\nwait_timeout = \"10s\"";

/// Each key is executed once at most, and whoever was told its result is told the same again.
async fn one_effect(store: &str) {
    let upstream = Upstream::with(|received| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Reply::new(201).body(received.number.to_string())
    })
    .await;
    let settings = || {
        let settings = Settings::before(&upstream).store(store);
        settings.idempotency(SETTINGS)
    };
    let (one, two) = (
        Gateway::start(settings()).await,
        Gateway::start(settings()).await,
    );
    let mut calls = Vec::new();
    for copy in 0..COPIES {
        for number in 0..KEYS {
            let gateway = if (copy + number) % 2 == 0 { &one } else { &two };
            let key = format!("key-{number}");
            let call = gateway.post("/charges").key(&key).body("10");
            // One key after the other, so that some are done, some under way and some still to
            // come when the gateway is killed.
            let turn = Duration::from_millis(15) * u32::try_from(number).unwrap();
            calls.push(tokio::spawn(async move {
                tokio::time::sleep(turn).await;
                (key, call.try_send().await)
            }));
        }
    }
    eventually("some of it is done", || async {
        (upstream.total() >= KEYS / 4).then_some(())
    })
    .await;
    let dead = one.kill().await;

    let mut told: HashMap<String, String> = HashMap::new();
    let mut answered = 0;
    for call in calls {
        let (key, answer) = call.await.unwrap();
        // The connections of the one that was killed break off.
        let Ok(answer) = answer else { continue };
        answered += 1;
        if answer.status == 201 {
            let result = answer.text().to_owned();
            let before = told.insert(key.clone(), result.clone());
            assert!(before.is_none_or(|before| before == result), "{key}");
        }
    }
    assert!(answered >= KEYS, "{answered} answers");

    // It comes back, and every key is settled: with its result, or with the reason why not.
    let one = dead.start().await;
    let mut unknown = 0;
    for number in 0..KEYS {
        let key = format!("key-{number}");
        for gateway in [&one, &two] {
            let settled: Answer = eventually("an end", || async {
                let answer = gateway.post("/charges").key(&key).body("10").send().await;
                (answer.problem().as_deref() != Some("in-progress")).then_some(answer)
            })
            .await;
            match (settled.status, settled.problem().as_deref()) {
                (201, None) => {
                    let first = told
                        .entry(key.clone())
                        .or_insert_with(|| settled.text().to_owned());
                    assert_eq!(first, settled.text(), "{key}");
                    assert_eq!(upstream.executions(&key), 1, "{key}");
                }
                (409, Some("outcome-unknown")) => {
                    unknown += 1;
                    assert!(!told.contains_key(&key), "{key} had a result");
                }
                _ => panic!("{key}: {settled:?}"),
            }
        }
        assert!(upstream.executions(&key) <= 1, "{key}");
    }
    assert!(
        unknown < KEYS,
        "{unknown} of {} answers are unknown",
        2 * KEYS
    );
}

/// A gateway that is frozen past its lease, in the middle of a request, and wakes up: another has
/// taken over meanwhile, so that its late result is refused, and its client gets the winner's.
async fn frozen(store: &str) {
    let gate = Arc::new(Notify::new());
    let waiting = Arc::clone(&gate);
    let upstream = Upstream::with(move |received| {
        let gate = Arc::clone(&waiting);
        async move {
            if received.number == 1 {
                gate.notified().await;
            }
            Reply::new(201).body(format!("result {}", received.number))
        }
    })
    .await;
    let settings = || {
        let settings = Settings::before(&upstream).store(store);
        settings.idempotency(
            "secret = \"0123456789abcdef\"\nlease = \"1s\"\nstore_timeout = \"300ms\"\n\
             on_unknown = \"retry\"",
        )
    };
    let (one, two) = (
        Gateway::start(settings()).await,
        Gateway::start(settings()).await,
    );
    let post = |gateway: &Gateway| gateway.post("/charges").key("a").body("10");
    let call = post(&one);
    let first = tokio::spawn(async move { call.send().await });
    eventually("the first execution", || async {
        (upstream.total() == 1).then_some(())
    })
    .await;
    one.signal(Signal::STOP);
    let second = eventually("the lease's end", || async {
        let answer = post(&two).send().await;
        (answer.problem().as_deref() != Some("in-progress")).then_some(answer)
    })
    .await;
    assert_eq!((second.status, second.text()), (201, "result 2"));
    let seen = upstream.seen();
    let fence = |place: usize| -> u64 {
        let fence = seen[place].header("idempotency-fence").unwrap();
        fence.parse().unwrap()
    };
    assert!(fence(1) > fence(0), "the successor's fence is newer");
    assert_eq!(seen[1].header("idempotency-attempt"), Some("2"));

    gate.notify_one();
    one.signal(Signal::CONT);
    let first = first.await.unwrap();
    assert_eq!(
        (first.status, first.text(), first.is_replay()),
        (201, "result 2", true),
        "{first:?}"
    );
    for gateway in [&one, &two] {
        let retry = post(gateway).send().await;
        assert_eq!((retry.text(), retry.is_replay()), ("result 2", true));
    }
    assert_eq!(upstream.total(), 2);
}

#[tokio::test]
async fn hazard_42_a_gateway_that_was_frozen_changes_nothing_on_redis() {
    let redis = start_redis();
    frozen(&redis.url()).await;
}

#[tokio::test]
async fn hazard_42_a_gateway_that_was_frozen_changes_nothing_on_postgres() {
    let postgres = start_postgres();
    frozen(&format!("{}?migrate=auto&connections=4", postgres.url())).await;
}

#[tokio::test]
async fn two_gateways_on_redis_have_one_effect() {
    let redis = start_redis();
    one_effect(&redis.url()).await;
}

#[tokio::test]
async fn two_gateways_on_postgres_have_one_effect() {
    let postgres = start_postgres();
    one_effect(&format!("{}?migrate=auto&connections=4", postgres.url())).await;
}
