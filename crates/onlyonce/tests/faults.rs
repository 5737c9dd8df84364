//! What goes wrong between claim and record: lost replies, slow stores, vanished clients.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Response};
use http_body_util::{BodyExt, StreamBody};
use onlyonce::{
    Claimed, Concurrent, Control, IdempotencyLayer, OnStoreFailure, OnUnknown, Outcome, Policy,
    Profile,
};
use onlyonce_core::{EntryState, Fence, Operation, StoreErrorKind};
use support::{App, Fault, TestStore, full, post, until};
use tokio::sync::Notify;

fn layer_with(store: &TestStore, policy: Policy) -> IdempotencyLayer {
    IdempotencyLayer::new(store.clone())
        .with_policy(policy)
        .unwrap()
}

fn standard() -> Policy {
    Policy::new(Profile::Standard)
}

/// An app whose handler waits for the gate before it answers.
fn gated(layer: &IdempotencyLayer) -> (App, Arc<Notify>, Arc<Notify>) {
    let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inner_entered, inner_gate) = (Arc::clone(&entered), Arc::clone(&gate));
    let app = App::new(layer, move |number, _| {
        let (entered, gate) = (Arc::clone(&inner_entered), Arc::clone(&inner_gate));
        async move {
            entered.notify_one();
            gate.notified().await;
            Response::new(full(number.to_string()))
        }
    });
    (app, entered, gate)
}

#[tokio::test(start_paused = true)]
async fn hazard_15_a_client_that_hangs_up_changes_nothing() {
    let store = TestStore::new();
    let (app, entered, gate) = gated(&layer_with(&store, standard()));
    let call = tokio::spawn(app.start(post("k", "x")));
    entered.notified().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(
        app.send(post("k", "x")).await.outcome(),
        Outcome::InProgress
    );
    gate.notify_one();
    until("the record is written", || {
        !store.only_entry().in_progress()
    })
    .await;
    let retry = app.send(post("k", "x")).await;
    assert_eq!((retry.outcome(), retry.text()), (Outcome::Replayed, "1"));
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn hazard_03_a_claim_whose_reply_never_comes_is_given_back() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, standard()));
    store.order(Operation::Claim, Fault::NeverAnswers);
    let answer = app.send(post("k", "x")).await;
    assert_eq!(
        (answer.status, answer.problem_kind().as_str()),
        (503, "store-unavailable")
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.problem()["retryable"], true);
    until("the claim is given back", || store.entries().is_empty()).await;
    assert_eq!(app.send(post("k", "x")).await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_reply_was_lost_is_sent_again_under_its_nonce() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, standard()));
    store.order(Operation::Claim, Fault::ReplyLost);
    let answer = app.send(post("k", "x")).await;
    assert_eq!((answer.status, answer.text()), (200, "1"));
    assert_eq!(
        store.only_entry().fence,
        Fence::new(1),
        "the very same claim, not a second one"
    );
    assert_eq!(store.calls(Operation::Claim), 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_in_mid_claim_leaves_no_key_behind() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, standard()));
    store.order(Operation::Claim, Fault::NeverAnswers);
    let mut call = app.start(post("k", "x"));
    assert!((&mut call).now_or_never().is_none());
    assert_eq!(store.entries().len(), 1, "the claim has landed");
    drop(call);
    until("the claim is given back", || store.entries().is_empty()).await;
    assert_eq!(app.executions(), 0);
}

#[tokio::test(start_paused = true)]
async fn hazard_41_a_completion_whose_reply_was_lost_is_found_done() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, standard()));
    store.order(Operation::Complete, Fault::ReplyLost);
    let answer = app.send(post("k", "x")).await;
    assert_eq!(answer.outcome(), Outcome::Executed);
    assert!(answer.verdict.was_recorded());
    assert_eq!(app.send(post("k", "x")).await.outcome(), Outcome::Replayed);
}

#[tokio::test(start_paused = true)]
async fn hazard_19_a_store_that_takes_no_record_never_releases_the_key() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, standard()));
    store.order_times(
        Operation::Complete,
        Fault::Fails(StoreErrorKind::Unavailable),
        100_000,
    );
    let answer = app.send(post("k", "x")).await;
    assert_eq!(
        (answer.status, answer.text()),
        (200, "1"),
        "the client still gets its answer"
    );
    assert_eq!(answer.header("idempotency-outcome"), Some("unrecorded"));
    assert!(!answer.verdict.was_recorded());
    assert_eq!(
        app.send(post("k", "x")).await.outcome(),
        Outcome::InProgress
    );
    assert_eq!(store.calls(Operation::Release), 0);
    // The store recovers: the record is written after all.
    store.clear_faults();
    until("the record is written late", || {
        !store.only_entry().in_progress()
    })
    .await;
    assert_eq!(app.send(post("k", "x")).await.text(), "1");
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn hazard_09_the_lease_is_renewed_while_the_handler_works() {
    let store = TestStore::new();
    let policy = standard().with_on_unknown(OnUnknown::Retry);
    let (app, entered, gate) = gated(&layer_with(&store, policy));
    let call = tokio::spawn(app.start(post("k", "x")));
    entered.notified().await;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(
            app.send(post("k", "x")).await.outcome(),
            Outcome::InProgress
        );
    }
    assert!(
        store.calls(Operation::Renew) >= 25,
        "every third of ten seconds"
    );
    gate.notify_one();
    call.await.unwrap();
    let renewals = store.calls(Operation::Renew);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(store.calls(Operation::Renew), renewals, "and no longer");
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn hazard_12_the_lease_is_renewed_until_the_record_is_written() {
    let store = TestStore::new();
    let policy = standard().with_store_timeout(Duration::from_secs(3));
    let app = App::counting(&layer_with(&store, policy));
    store.order_times(Operation::Complete, Fault::Late(Duration::from_secs(4)), 3);
    let answer = app.send(post("k", "x")).await;
    assert!(answer.verdict.was_recorded() || answer.header("idempotency-outcome").is_some());
    assert!(
        store.calls(Operation::Renew) >= 2,
        "{}",
        store.calls(Operation::Renew)
    );
}

#[tokio::test(start_paused = true)]
async fn hazard_42_a_zombie_gives_the_winners_answer() {
    let store = TestStore::new();
    let policy = standard().with_on_unknown(OnUnknown::Retry);
    let (app, entered, gate) = gated(&layer_with(&store, policy));
    let zombie = tokio::spawn(app.start(post("k", "x")));
    entered.notified().await;
    // Its renewals do not get through, as if the process were stopped.
    store.order_times(
        Operation::Renew,
        Fault::Fails(StoreErrorKind::Unavailable),
        100_000,
    );
    tokio::time::sleep(Duration::from_secs(11)).await;
    let successor = tokio::spawn(app.start(post("k", "x")));
    entered.notified().await;
    assert_eq!(app.executions(), 2, "taken over");
    gate.notify_waiters();
    let first = support::read(zombie.await.unwrap()).await;
    let second = support::read(successor.await.unwrap()).await;
    assert_eq!(store.only_entry().attempt, 2);
    assert_eq!((second.outcome(), second.text()), (Outcome::Executed, "2"));
    // The zombie came first, found its fence too old, and says so; it never gives its own answer.
    assert_ne!(first.text(), "1");
    assert_eq!(
        (first.status, first.problem_kind().as_str()),
        (409, "outcome-unknown")
    );
    assert_eq!(app.send(post("k", "x")).await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn hazard_10_a_zombie_that_wakes_after_its_successor_replays_its_record() {
    let store = TestStore::new();
    let (app, entered, gate) = gated(&layer_with(&store, standard()));
    let zombie = tokio::spawn(app.start(post("k", "x")));
    entered.notified().await;
    let stored = onlyonce_core::codec::encode_response(&onlyonce_core::StoredResponse {
        status: 201,
        body: "the winner's".into(),
        ..Default::default()
    });
    store.meddle(|entry| {
        entry.fence = Fence::new(99);
        entry.attempt = 2;
        entry.state = EntryState::Completed {
            status: 201,
            kept: Some(stored),
        };
    });
    gate.notify_one();
    let answer = support::read(zombie.await.unwrap()).await;
    assert_eq!((answer.status, answer.text()), (201, "the winner's"));
    assert_eq!(answer.outcome(), Outcome::Replayed);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_forgotten_says_that_the_outcome_is_unknown() {
    let store = TestStore::new();
    let (app, entered, gate) = gated(&layer_with(&store, standard()));
    let call = tokio::spawn(app.start(post("k", "x")));
    entered.notified().await;
    store.meddle(|entry| entry.expires = onlyonce_core::Timestamp::from_millis(0));
    gate.notify_one();
    let answer = support::read(call.await.unwrap()).await;
    assert_eq!(answer.problem_kind(), "outcome-unknown");
    until("the look is given back", || {
        store
            .entries()
            .iter()
            .all(|entry| entry.is_expired(store.now()))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_vanished_is_held_or_succeeded_by_policy() {
    for (on_unknown, executions) in [(OnUnknown::Hold, 1), (OnUnknown::Retry, 2)] {
        let store = TestStore::new();
        let layer = layer_with(&store, standard().with_on_unknown(on_unknown));
        let app = App::new(&layer, |number, request| async move {
            let claimed = request.extensions().get::<Claimed>().unwrap();
            assert_eq!(claimed.attempt() as usize, number);
            Response::new(full(number.to_string()))
        });
        app.send(post("k", "x")).await;
        // As after `kill -9`: in progress, and nobody renews.
        let lease_until = store.now().plus(Duration::from_secs(10));
        store.meddle(|entry| {
            let keep = Duration::from_secs(3600);
            entry.state = EntryState::InProgress { lease_until, keep };
        });
        assert_eq!(
            app.send(post("k", "x")).await.outcome(),
            Outcome::InProgress
        );
        tokio::time::sleep(Duration::from_secs(10)).await;
        let other = app.send(post("k", "other")).await;
        assert_eq!(
            other.outcome(),
            Outcome::Mismatch,
            "never taken over by another request"
        );
        let after = app.send(post("k", "x")).await;
        assert_eq!(app.executions(), executions);
        match on_unknown {
            OnUnknown::Hold => assert_eq!(after.problem_kind(), "outcome-unknown"),
            OnUnknown::Retry => assert_eq!(after.text(), "2"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_failure_is_held_at_once_or_taken_over_after_the_lease() {
    for on_unknown in [OnUnknown::Hold, OnUnknown::Retry] {
        let store = TestStore::new();
        let layer = layer_with(&store, standard().with_on_unknown(on_unknown));
        let app = App::new(&layer, |number, _| async move {
            let mut response = Response::new(full(number.to_string()));
            if number == 1 {
                *response.status_mut() = http::StatusCode::GATEWAY_TIMEOUT;
                response.extensions_mut().insert(Control::Ambiguous);
            }
            response
        });
        assert_eq!(app.send(post("k", "x")).await.status, 504);
        let soon = app.send(post("k", "x")).await;
        match on_unknown {
            OnUnknown::Hold => assert_eq!(soon.problem_kind(), "outcome-unknown"),
            OnUnknown::Retry => {
                assert_eq!(
                    soon.problem_kind(),
                    "in-progress",
                    "the upstream may still work"
                );
                tokio::time::sleep(Duration::from_secs(10)).await;
                let later = app.send(post("k", "x")).await;
                assert_eq!((later.text(), later.verdict.attempt()), ("2", Some(2)));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_keeps_an_earlier_unknown_attempt_in_mind() {
    let store = TestStore::new();
    let layer = layer_with(&store, standard().with_on_unknown(OnUnknown::Retry));
    let app = App::new(&layer, |number, request| async move {
        let attempt = request.extensions().get::<Claimed>().unwrap().attempt();
        let mut response = Response::new(full(attempt.to_string()));
        let control = match number {
            1 => Some(Control::Ambiguous),
            2 => Some(Control::NotExecuted),
            _ => None,
        };
        control.map(|control| response.extensions_mut().insert(control));
        response
    });
    app.send(post("k", "x")).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(app.send(post("k", "x")).await.text(), "2");
    assert_eq!(
        app.send(post("k", "x")).await.text(),
        "3",
        "not 1: the first may have run"
    );
}

#[tokio::test(start_paused = true)]
async fn a_take_over_that_is_not_stored_keeps_an_earlier_unknown_attempt_in_mind() {
    let store = TestStore::new();
    let layer = layer_with(&store, standard().with_on_unknown(OnUnknown::Retry));
    let app = App::new(&layer, |number, request| async move {
        let attempt = request.extensions().get::<Claimed>().unwrap().attempt();
        let mut response = Response::new(full(attempt.to_string()));
        match number {
            1 => drop(response.extensions_mut().insert(Control::Ambiguous)),
            2 => *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE,
            3 => drop(response.extensions_mut().insert(Control::NoStore)),
            4 => panic!("on purpose"),
            _ => {}
        }
        response
    });
    app.send(post("k", "x")).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    for attempt in ["2", "3"] {
        assert_eq!(app.send(post("k", "x")).await.text(), attempt);
        // Another request is refused, as long as nobody knows whether the first one took effect.
        let other = app.send(post("k", "another")).await;
        assert_eq!(other.outcome(), Outcome::Mismatch);
    }
    let panics = AssertUnwindSafe(app.send(post("k", "x")));
    assert!(panics.catch_unwind().await.is_err());
    assert_eq!(app.send(post("k", "x")).await.text(), "5");
    assert_eq!(app.send(post("k", "x")).await.outcome(), Outcome::Replayed);
    assert_eq!(store.calls(Operation::Release), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_longer_than_a_lease_does_not_make_a_release_unknown() {
    let store = TestStore::new();
    let app = App::new(&layer_with(&store, standard()), |number, _| async move {
        let status = if number == 1 { 503 } else { 200 };
        let response = Response::builder().status(status);
        response.body(full(number.to_string())).unwrap()
    });
    let away = Fault::Fails(StoreErrorKind::Unavailable);
    store.order_times(Operation::Release, away, 100_000);
    assert_eq!(app.send(post("k", "x")).await.status, 503);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let meanwhile = app.send(post("k", "x")).await;
    assert_eq!(meanwhile.outcome(), Outcome::InProgress);
    store.clear_faults();
    until("it is released", || store.entries().is_empty()).await;
    assert_eq!(app.send(post("k", "x")).await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_refused_or_bypassed_by_policy() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, standard()));
    store.order_times(
        Operation::Claim,
        Fault::Fails(StoreErrorKind::Unavailable),
        1000,
    );
    let answer = app.send(post("k", "x")).await;
    assert_eq!(
        (answer.status, answer.problem_kind().as_str()),
        (503, "store-unavailable")
    );
    assert_eq!(app.executions(), 0);

    let policy = standard().with_on_store_failure(OnStoreFailure::Bypass);
    let app = App::new(&layer_with(&store, policy), |_, request| async move {
        assert!(request.extensions().get::<Claimed>().is_none());
        Response::new(full(
            request.into_body().collect().await.unwrap().to_bytes(),
        ))
    });
    let answer = app.send(post("k", "the body")).await;
    assert_eq!(
        (answer.outcome(), answer.text()),
        (Outcome::Bypassed, "the body")
    );
    let long = "x".repeat(200_000);
    assert_eq!(app.send(post("k", long.clone())).await.text(), long);
}

#[tokio::test(start_paused = true)]
async fn a_full_store_is_never_bypassed() {
    let store = TestStore::new();
    let policy = standard().with_on_store_failure(OnStoreFailure::Bypass);
    let app = App::counting(&layer_with(&store, policy));
    store.order(Operation::Claim, Fault::Fails(StoreErrorKind::Full));
    let answer = app.send(post("k", "x")).await;
    assert_eq!(
        (answer.status, answer.problem_kind().as_str()),
        (503, "store-full")
    );
    assert_eq!(app.executions(), 0);
}

#[tokio::test(start_paused = true)]
async fn hazard_17_a_panic_releases_the_key_and_is_carried_over() {
    let store = TestStore::new();
    let app = App::new(&layer_with(&store, standard()), |number, _| async move {
        assert!(number > 1, "the first one panics");
        Response::new(full("second"))
    });
    let panic = AssertUnwindSafe(app.start(post("k", "x")))
        .catch_unwind()
        .await
        .unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the first one panics"));
    assert_eq!(app.send(post("k", "x")).await.text(), "second");
}

#[tokio::test(start_paused = true)]
async fn a_panic_counts_as_a_500_where_those_are_stored() {
    let store = TestStore::new();
    let policy = standard().with_store(onlyonce::StatusSet::ALL);
    let app = App::new(&layer_with(&store, policy), |number, _| async move {
        assert!(number > 1, "the first one panics");
        Response::new(full("second"))
    });
    let _ = AssertUnwindSafe(app.start(post("k", "x")))
        .catch_unwind()
        .await
        .unwrap_err();
    let retry = app.send(post("k", "x")).await;
    assert_eq!((retry.status, retry.outcome()), (500, Outcome::Replayed));
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn hazard_21_a_response_that_breaks_off_is_never_taken_for_final() {
    let store = TestStore::new();
    let app = App::new(&layer_with(&store, standard()), |_, _| async {
        let frames = [
            Ok(http_body::Frame::data(Bytes::from_static(b"half"))),
            Err(std::io::Error::other("cut")),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        Response::new(BodyExt::boxed_unsync(body))
    });
    let answer = app.send(post("k", "x")).await;
    assert_eq!(
        (answer.status, answer.problem_kind().as_str()),
        (502, "outcome-unknown")
    );
    let retry = app.send(post("k", "x")).await;
    assert_eq!(
        (retry.status, retry.problem_kind().as_str()),
        (409, "outcome-unknown")
    );
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_what_runs_and_takes_nothing_new() {
    let store = TestStore::new();
    let layer = layer_with(&store, standard());
    let (app, entered, gate) = gated(&layer);
    let call = tokio::spawn(app.start(post("k", "x")));
    entered.notified().await;
    let engine = layer.engine().clone();
    let shutdown = tokio::spawn(async move { engine.shutdown(Duration::from_secs(30)).await });
    tokio::task::yield_now().await;
    let refused = app.send(post("new", "")).await;
    assert_eq!(
        (refused.status, refused.problem_kind().as_str()),
        (503, "store-unavailable")
    );
    assert!(!shutdown.is_finished());
    gate.notify_one();
    assert!(shutdown.await.unwrap(), "all of it ended");
    assert_eq!(support::read(call.await.unwrap()).await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn shutdown_leaves_what_does_not_end_to_become_unknown() {
    let store = TestStore::new();
    let layer = layer_with(&store, standard());
    let (app, entered, _gate) = gated(&layer);
    let _call = tokio::spawn(app.start(post("k", "x")));
    entered.notified().await;
    assert!(!layer.engine().shutdown(Duration::from_secs(5)).await);
    assert!(
        store.only_entry().in_progress(),
        "neither released nor completed"
    );
}

#[tokio::test(start_paused = true)]
async fn hazard_49_a_caller_has_only_so_many_requests_at_work() {
    let store = TestStore::new();
    let policy = standard().with_max_in_progress(Some(2));
    let (app, entered, gate) = gated(&layer_with(&store, policy));
    let mut calls = Vec::new();
    for key in ["a", "b"] {
        calls.push(tokio::spawn(app.start(post(key, ""))));
        entered.notified().await;
    }
    let third = app.send(post("c", "")).await;
    assert_eq!(
        (third.status, third.problem_kind().as_str()),
        (429, "too-many-in-progress")
    );
    let mut other = post("c", "");
    other
        .headers_mut()
        .insert("authorization", HeaderValue::from_static("other"));
    let other = tokio::spawn(app.start(other));
    entered.notified().await;
    gate.notify_waiters();
    for call in calls {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    gate.notify_waiters();
    assert_eq!(other.await.unwrap().status(), 200);
    gate.notify_one();
    assert_eq!(app.send(post("c", "")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn hazard_07_a_refused_duplicate_leaves_the_owner_alone() {
    let store = TestStore::new();
    let (app, entered, gate) = gated(&layer_with(&store, standard()));
    let call = tokio::spawn(app.start(post("k", "x")));
    entered.notified().await;
    for _ in 0..3 {
        assert_eq!(
            app.send(post("k", "x")).await.outcome(),
            Outcome::InProgress
        );
        assert_eq!(
            app.send(post("k", "other")).await.outcome(),
            Outcome::Mismatch
        );
    }
    assert_eq!(store.calls(Operation::Release), 0);
    gate.notify_one();
    call.await.unwrap();
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn hazard_08_a_waiter_whose_patience_ends_leaves_the_claim_alone() {
    let store = TestStore::new();
    let policy = standard()
        .with_concurrent(Concurrent::Wait)
        .with_wait_timeout(Duration::from_secs(3));
    let (app, entered, gate) = gated(&layer_with(&store, policy));
    let call = tokio::spawn(app.start(post("k", "x")));
    entered.notified().await;
    let waiter = app.send(post("k", "x")).await;
    assert_eq!(
        (waiter.status, waiter.outcome()),
        (409, Outcome::InProgress)
    );
    assert_eq!(waiter.header("retry-after"), Some("1"));
    assert!(store.only_entry().in_progress());
    gate.notify_one();
    call.await.unwrap();
    assert_eq!(app.send(post("k", "x")).await.text(), "1");
}
