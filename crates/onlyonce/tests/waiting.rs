//! Many requests with one key at once.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::{Response, StatusCode};
use onlyonce::{Concurrent, IdempotencyLayer, Outcome, Policy, Profile};
use onlyonce_core::Operation;
use support::{App, Fault, TestStore, full, post, until};
use tokio::sync::Notify;

fn waiting() -> Policy {
    Policy::new(Profile::Standard).with_concurrent(Concurrent::Wait)
}

fn layer_with(store: &TestStore, policy: Policy) -> IdempotencyLayer {
    IdempotencyLayer::new(store.clone())
        .with_policy(policy)
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn all_waiters_get_the_one_answer_without_polling() {
    let store = TestStore::new();
    let gate = Arc::new(Notify::new());
    let app = App::new(&layer_with(&store, waiting()), {
        let gate = Arc::clone(&gate);
        move |number, _| {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Response::new(full(number.to_string()))
            }
        }
    });
    let calls: Vec<_> = (0..50)
        .map(|_| tokio::spawn(app.start(post("k", "x"))))
        .collect();
    until("all wait", || store.calls(Operation::Watch) >= 49).await;
    gate.notify_one();
    let mut outcomes = Vec::new();
    for call in calls {
        let answer = support::read(call.await.unwrap()).await;
        assert_eq!(answer.text(), "1");
        outcomes.push(answer.outcome());
    }
    assert_eq!(
        outcomes.iter().filter(|o| **o == Outcome::Executed).count(),
        1
    );
    assert_eq!(
        outcomes.iter().filter(|o| **o == Outcome::Replayed).count(),
        49
    );
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn hazard_18_when_the_owner_releases_exactly_one_waiter_executes() {
    let store = TestStore::new();
    let gate = Arc::new(Notify::new());
    let app = App::new(&layer_with(&store, waiting()), {
        let gate = Arc::clone(&gate);
        move |number, _| {
            let gate = Arc::clone(&gate);
            async move {
                if number == 1 {
                    gate.notified().await;
                    let mut failed = Response::new(full("busy"));
                    *failed.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    return failed;
                }
                Response::new(full(number.to_string()))
            }
        }
    });
    let calls: Vec<_> = (0..20)
        .map(|_| tokio::spawn(app.start(post("k", "x"))))
        .collect();
    until("all wait", || store.calls(Operation::Watch) >= 19).await;
    gate.notify_one();
    let answers = join_all(calls).await.into_iter().map(Result::unwrap);
    let statuses: Vec<u16> = answers.map(|answer| answer.status().as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 19);
    assert_eq!(app.executions(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_notification_is_made_up_for_by_the_slow_poll() {
    let store = TestStore::new();
    let gate = Arc::new(Notify::new());
    let app = App::new(&layer_with(&store, waiting()), {
        let gate = Arc::clone(&gate);
        move |_, _| {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Response::new(full("1"))
            }
        }
    });
    let first = tokio::spawn(app.start(post("k", "x")));
    until("it is claimed", || !store.entries().is_empty()).await;
    let fails = Fault::Fails(onlyonce_core::StoreErrorKind::Unavailable);
    store.order_times(Operation::Watch, fails, 1000);
    let waiter = tokio::spawn(app.start(post("k", "x")));
    until("it waits", || store.calls(Operation::Watch) >= 1).await;
    gate.notify_one();
    first.await.unwrap();
    assert_eq!(waiter.await.unwrap().status(), 200);
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn hazard_40_waiters_are_capped_and_leave_no_trace() {
    let store = TestStore::new();
    let policy = waiting()
        .with_max_waiters(2)
        .with_wait_timeout(Duration::from_secs(5));
    let gate = Arc::new(Notify::new());
    let app = App::new(&layer_with(&store, policy), {
        let gate = Arc::clone(&gate);
        move |_, _| {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Response::new(full("1"))
            }
        }
    });
    let first = tokio::spawn(app.start(post("k", "x")));
    until("it is claimed", || !store.entries().is_empty()).await;
    let waiters: Vec<_> = (0..2)
        .map(|_| tokio::spawn(app.start(post("k", "x"))))
        .collect();
    until("both wait", || store.calls(Operation::Watch) >= 2).await;
    assert_eq!(
        app.send(post("k", "x")).await.outcome(),
        Outcome::InProgress
    );
    for waiter in waiters {
        waiter.abort();
        let _ = waiter.await;
    }
    let waiter = tokio::spawn(app.start(post("k", "x")));
    until("its place was free", || store.calls(Operation::Watch) >= 3).await;
    gate.notify_one();
    first.await.unwrap();
    assert_eq!(waiter.await.unwrap().status(), 200);
}
