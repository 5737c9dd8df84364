//! Claims under way when something else happens: shutdown, hang-ups, a store that falters.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::Response;
use onlyonce::{Engine, Fingerprint, IdempotencyLayer, Key, Outcome, Policy, Profile, RunError};
use onlyonce_core::{Operation, StoreErrorKind};
use support::{App, Fault, TestStore, full, post, until};
use tower::{Layer as _, ServiceExt as _};

fn key() -> Key {
    Key::new("job-1").unwrap()
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_a_claim_under_way_and_sees_it_given_back() {
    let store = TestStore::new();
    let layer = IdempotencyLayer::new(store.clone());
    let app = App::counting(&layer);
    store.order(Operation::Claim, Fault::Late(Duration::from_millis(500)));
    let call = tokio::spawn(app.start(post("k", "x")));
    until("the claim is under way", || {
        store.calls(Operation::Claim) == 1
    })
    .await;
    assert!(layer.engine().shutdown(Duration::from_secs(30)).await);
    assert!(
        call.is_finished() || store.calls(Operation::Release) == 1,
        "nothing is left under way"
    );
    assert!(store.entries().is_empty(), "not left to be held as unknown");
    assert_eq!(call.await.unwrap().status(), 503);
    assert_eq!(app.executions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_while_its_claim_is_given_back_leaves_no_key_behind() {
    let store = TestStore::new();
    let layer = IdempotencyLayer::new(store.clone());
    let app = App::counting(&layer);
    store.order(Operation::Claim, Fault::Late(Duration::from_millis(500)));
    store.order(Operation::Release, Fault::Late(Duration::from_millis(500)));
    let call = tokio::spawn(app.start(post("k", "x")));
    until("the claim is under way", || {
        store.calls(Operation::Claim) == 1
    })
    .await;
    let engine = layer.engine().clone();
    let shutdown = tokio::spawn(async move { engine.shutdown(Duration::from_secs(30)).await });
    until("it is being given back", || {
        store.calls(Operation::Release) == 1
    })
    .await;
    call.abort();
    assert!(shutdown.await.unwrap());
    assert!(store.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn hazard_03_a_claim_that_may_have_landed_is_given_back_whatever_came_after() {
    let store = TestStore::new();
    let app = App::counting(&IdempotencyLayer::new(store.clone()));
    store.order(Operation::Claim, Fault::ReplyLost);
    store.order(Operation::Claim, Fault::Fails(StoreErrorKind::Full));
    let answer = app.send(post("k", "x")).await;
    assert_eq!(answer.status, 503);
    until("the claim is given back", || store.entries().is_empty()).await;
    assert_eq!(app.send(post("k", "x")).await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_long_does_not_gather_work_without_end() {
    let store = TestStore::new();
    let layer = IdempotencyLayer::new(store.clone());
    let app = App::counting(&layer);
    let fails = Fault::Fails(StoreErrorKind::Unavailable);
    store.order_times(Operation::Claim, fails, 6_000);
    for n in 0..6_000 {
        let call = app.start(post(&n.to_string(), ""));
        let mut call = Box::pin(call);
        assert!((&mut call).now_or_never().is_none());
    }
    assert!(
        layer.engine().running() <= 5_000,
        "{}",
        layer.engine().running()
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_policy_cannot_work_is_refused() {
    let engine = Engine::new(TestStore::new());
    let policy = Policy::new(Profile::Standard).with_lease(Duration::ZERO);
    let work = async { Ok::<_, String>(1) };
    let ran = engine.run(key(), Fingerprint::OFF, &policy, work).await;
    assert!(
        matches!(&ran, Err(error) if error.to_string().contains("lease")),
        "{ran:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_making_of_a_job_releases_the_key() {
    let store = TestStore::new();
    let engine = Engine::new(store.clone());
    let policy = Policy::new(Profile::Standard);
    let ran = engine.run_with(
        key(),
        Fingerprint::OFF,
        &policy,
        |_| -> std::future::Ready<Result<u8, String>> { panic!("no job") },
    );
    let panic = AssertUnwindSafe(ran).catch_unwind().await.unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"no job"));
    assert!(store.entries().is_empty());
    let work = async { Ok::<_, RunError<String>>(2) };
    let ran = engine.run(key(), Fingerprint::OFF, &policy, work).await;
    assert_eq!(ran.unwrap().value, 2);
}

#[tokio::test(start_paused = true)]
async fn a_layer_within_a_layer_leaves_the_request_to_the_outer_one() {
    let store = TestStore::new();
    let layer = IdempotencyLayer::new(store.clone());
    let executions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&executions);
    let handler = tower::service_fn(move |_| {
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok::<_, Infallible>(Response::new(full(number.to_string()))) }
    });
    let service = layer.layer(layer.layer(handler));
    for outcome in [Outcome::Executed, Outcome::Replayed] {
        let response = service.clone().oneshot(post("k", "x")).await.unwrap();
        let answer = support::read(response).await;
        assert_eq!((answer.outcome(), answer.text()), (outcome, "1"));
    }
    assert_eq!(store.calls(Operation::Claim), 2);
    assert_eq!(executions.load(Ordering::SeqCst), 1);
}
