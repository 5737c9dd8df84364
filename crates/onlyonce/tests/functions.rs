//! The engine as a function.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use onlyonce::{
    Concurrent, Engine, Fingerprint, Key, Outcome, Policy, Profile, Ran, RunError, Scope,
};
use support::{TestStore, until};
use tokio::sync::Notify;

type Result<T> = std::result::Result<Ran<T>, RunError<String>>;

fn key() -> Key {
    Key::new("job-1").unwrap()
}

fn policy() -> Policy {
    Policy::new(Profile::Standard)
}

async fn count(engine: &Engine, runs: &Arc<AtomicUsize>, input: &[u8]) -> Result<usize> {
    let runs = Arc::clone(runs);
    let work = async move { Ok(runs.fetch_add(1, Ordering::SeqCst) + 1) };
    engine
        .run(key(), Fingerprint::of(input), &policy(), work)
        .await
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_once_for_its_key() {
    let engine = Engine::new(TestStore::new());
    let (policy, runs) = (policy(), Arc::default());
    let first = count(&engine, &runs, b"a").await.unwrap();
    assert_eq!(
        (first.value, first.outcome, first.recorded),
        (1, Outcome::Executed, true)
    );
    let again = count(&engine, &runs, b"a").await.unwrap();
    assert_eq!((again.value, again.outcome), (1, Outcome::Replayed));
    assert!(matches!(
        count(&engine, &runs, b"b").await,
        Err(RunError::Mismatch)
    ));
    let scoped = engine.run(
        (Scope::principal("x"), key()),
        Fingerprint::OFF,
        &policy,
        async { Ok::<_, String>(7) },
    );
    assert_eq!(scoped.await.unwrap().value, 7);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_not_kept() {
    let engine = Engine::new(TestStore::new());
    let run = |result: std::result::Result<u8, String>| {
        let engine = engine.clone();
        async move {
            engine
                .run(key(), Fingerprint::OFF, &policy(), async { result })
                .await
        }
    };
    let failed = run(Err("broken".into())).await;
    assert!(matches!(failed, Err(RunError::Failed(error)) if error == "broken"));
    assert_eq!(run(Ok(1)).await.unwrap().value, 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_changes_nothing() {
    let store = TestStore::new();
    let engine = Engine::new(store.clone());
    let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let work = {
        let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
        async move {
            entered.notify_one();
            gate.notified().await;
            Ok::<_, String>(1)
        }
    };
    let caller = {
        let engine = engine.clone();
        tokio::spawn(async move { engine.run(key(), Fingerprint::OFF, &policy(), work).await })
    };
    entered.notified().await;
    caller.abort();
    let busy: Result<i32> = engine
        .run(key(), Fingerprint::OFF, &policy(), async { Ok(2) })
        .await;
    assert!(matches!(busy, Err(RunError::InProgress)));
    gate.notify_one();
    until("it is recorded", || !store.only_entry().in_progress()).await;
    let again: Result<i32> = engine
        .run(key(), Fingerprint::OFF, &policy(), async { Ok(2) })
        .await;
    assert_eq!(again.unwrap().value, 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_caller_waits_where_the_policy_says_so() {
    let engine = Engine::new(TestStore::new());
    let policy = policy().with_concurrent(Concurrent::Wait);
    let slow = engine.run(key(), Fingerprint::OFF, &policy, async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok::<_, String>("first".to_owned())
    });
    let second = engine.run(key(), Fingerprint::OFF, &policy, async {
        Ok("second".to_owned())
    });
    let (slow, second): (_, Result<String>) = tokio::join!(slow, second);
    assert_eq!(slow.unwrap().value, "first");
    assert_eq!(second.unwrap().value, "first");
}

#[tokio::test(start_paused = true)]
async fn another_type_is_an_error_not_a_second_run() {
    let engine = Engine::new(TestStore::new());
    let policy = policy();
    engine
        .run(key(), Fingerprint::OFF, &policy, async {
            Ok::<_, String>(1)
        })
        .await
        .unwrap();
    let other: Result<String> = engine
        .run(key(), Fingerprint::OFF, &policy, async {
            unreachable!("not run")
        })
        .await;
    assert!(matches!(other, Err(RunError::Decode(_))));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_long_is_given_once_and_not_kept() {
    let engine = Engine::new(TestStore::new());
    // As JSON it has two quotes more.
    let policy = policy().with_max_response_body(12);
    let run = async |key: &str, length: usize| -> Result<String> {
        let work = async move { Ok("x".repeat(length)) };
        let key = Key::new(key).unwrap();
        engine.run(key, Fingerprint::OFF, &policy, work).await
    };
    for _ in 0..2 {
        assert_eq!(run("fits", 10).await.unwrap().value, "xxxxxxxxxx");
    }
    let first = run("long", 11).await.unwrap();
    assert_eq!((first.value.len(), first.recorded), (11, true));
    assert!(matches!(run("long", 11).await, Err(RunError::NotKept)));
}
