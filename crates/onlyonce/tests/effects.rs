//! Stores where what the handler did takes effect with its record or not at all.

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use onlyonce::{Engine, Fingerprint, IdempotencyLayer, Key, Outcome, Policy, Profile, RunError};
use onlyonce_core::{Effects, Operation, StoreErrorKind};
use support::{App, Fault, TestBody, TestStore, full, post, until};

fn bound() -> TestStore {
    TestStore::with_effects(Effects::WithRecord)
}

fn layer(store: &TestStore) -> IdempotencyLayer {
    IdempotencyLayer::new(store.clone())
}

#[tokio::test(start_paused = true)]
async fn what_was_not_committed_is_not_told() {
    let store = bound();
    let app = App::counting(&layer(&store));
    store.order(Operation::Complete, Fault::Fails(StoreErrorKind::Poisoned));
    let answer = app.send(post("k", "x")).await;
    assert_eq!(
        (answer.status, answer.problem_kind().as_str()),
        (503, "store-unavailable")
    );
    assert_eq!(answer.problem()["retryable"], true);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(!answer.verdict.was_recorded());
    // Nor is it recorded behind the client's back: it has been told that it has no effect.
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(store.calls(Operation::Complete), 1);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_never_answers_is_not_told_either() {
    let store = bound();
    let app = App::counting(&layer(&store));
    store.order_times(
        Operation::Complete,
        Fault::Fails(StoreErrorKind::Timeout),
        1000,
    );
    let answer = app.send(post("k", "x")).await;
    assert_eq!(answer.problem_kind(), "store-unavailable");
    let tries = store.calls(Operation::Complete);
    assert!(tries > 1, "asked again as long as the lease holds");
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(store.calls(Operation::Complete), tries);
}

#[tokio::test(start_paused = true)]
async fn without_such_effects_the_client_gets_what_happened() {
    let store = TestStore::new();
    let app = App::counting(&layer(&store));
    store.order(Operation::Complete, Fault::Fails(StoreErrorKind::Poisoned));
    let answer = app.send(post("k", "x")).await;
    assert_eq!((answer.status, answer.text()), (200, "1"));
    assert_eq!(answer.header("idempotency-outcome"), Some("unrecorded"));
}

#[tokio::test(start_paused = true)]
async fn a_success_that_the_policy_does_not_store_is_not_told() {
    let store = bound();
    let mut policy = Policy::new(Profile::Standard);
    policy.store = onlyonce_core::StatusSet::EMPTY.with(400..=499);
    let app = App::counting(&layer(&store).with_policy(policy).unwrap());
    let answer = app.send(post("k", "x")).await;
    assert_eq!(answer.problem_kind(), "store-unavailable");
    assert_eq!(store.calls(Operation::Release), 1);
    assert!(store.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_not_stored_is_undone_and_told() {
    let store = bound();
    let app = App::new(&layer(&store), |_, _| async {
        let mut response = Response::new(full("sorry"));
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        response
    });
    let answer = app.send(post("k", "x")).await;
    assert_eq!((answer.status, answer.text()), (502, "sorry"));
    assert_eq!(store.calls(Operation::Release), 1);
    assert!(store.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_another_owner_took_is_not_told_as_done() {
    let store = bound();
    let meddler = store.clone();
    let app = App::new(&layer(&store), move |_, _| {
        let meddler = meddler.clone();
        async move {
            meddler.meddle(|entry| entry.fence = onlyonce_core::Fence::new(99));
            Response::new(full("done"))
        }
    });
    let answer = app.send(post("k", "x")).await;
    assert_eq!(answer.problem_kind(), "store-unavailable");
    assert_eq!(answer.outcome(), Outcome::Rejected);
}

#[tokio::test(start_paused = true)]
async fn a_response_cut_short_is_undone_not_held() {
    let store = bound();
    let app = App::new(&layer(&store), |_, _| async { Response::new(cut_short()) });
    let answer = app.send(post("k", "x")).await;
    assert_eq!(answer.problem_kind(), "store-unavailable");
    until("the claim is given up", || store.entries().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_commit_fails_is_cut_short() {
    let store = bound();
    let app = App::new(&layer(&store), |_, _| async {
        let mut response = Response::new(full("data: paid\n\n"));
        let kind = HeaderValue::from_static("text/event-stream");
        response.headers_mut().insert("content-type", kind);
        response
    });
    store.order(Operation::Complete, Fault::Fails(StoreErrorKind::Poisoned));
    let response = app.start(post("k", "x")).await;
    assert_eq!(response.status(), 200);
    response
        .into_body()
        .collect()
        .await
        .expect_err("its end would say that all is well");
    // Committed, it comes to its end.
    let answer = app.send(post("other", "x")).await;
    assert_eq!(answer.text(), "data: paid\n\n");
}

#[tokio::test(start_paused = true)]
async fn a_function_learns_that_its_work_has_no_effect() {
    let store = bound();
    let engine = Engine::new(store.clone());
    store.order(Operation::Complete, Fault::Fails(StoreErrorKind::Poisoned));
    let work = async { Ok::<_, std::io::Error>(7) };
    let policy = Policy::new(Profile::Standard);
    let key = Key::new("job").unwrap();
    let error = engine
        .run(key, Fingerprint::OFF, &policy, work)
        .await
        .unwrap_err();
    assert!(matches!(error, RunError::Uncommitted(_)), "{error:?}");
}

/// A body that breaks off behind its first half.
fn cut_short() -> TestBody {
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"half"))),
        Err(std::io::Error::other("cut")),
    ];
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}
