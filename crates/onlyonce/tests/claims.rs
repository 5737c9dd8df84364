//! Claims under way when something else happens: shutdown, hang-ups, a store that falters.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::Response;
use onlyonce::{
    Concurrent, Engine, Fence, Fingerprint, IdempotencyLayer, Key, OnUnknown, Outcome, Policy,
    Profile, RunError,
};
use onlyonce_core::{
    Attempt, Changes, Claim, Completion, EntryState, Fenced, Lease, Operation, RecordId, Renewal,
    Store, StoreError, StoreErrorKind, Timestamp,
};
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

/// An owner that vanished, its lease run out, under a policy that lets it be succeeded.
async fn vanished(store: &TestStore) -> App {
    let policy = Policy::new(Profile::Standard).with_on_unknown(OnUnknown::Retry);
    let layer = IdempotencyLayer::new(store.clone());
    let app = App::counting(&layer.with_policy(policy).unwrap());
    app.send(post("k", "x")).await;
    store.meddle(|entry| {
        entry.state = EntryState::InProgress {
            lease_until: Timestamp::from_millis(0),
            keep: Duration::from_secs(3600),
        };
    });
    app
}

#[tokio::test(start_paused = true)]
async fn looking_after_a_claim_that_failed_takes_nothing_over() {
    let store = TestStore::new();
    let app = vanished(&store).await;
    let before = store.only_entry();
    let fails = Fault::Fails(StoreErrorKind::Unavailable);
    store.order_times(Operation::Claim, fails, 20);
    assert_eq!(app.send(post("k", "x")).await.status, 503);
    until("it has been looked after", || {
        store.calls(Operation::Claim) > 21
    })
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(store.only_entry(), before);
    assert_eq!(app.send(post("k", "x")).await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_superseded_owner_that_looks_takes_nothing_over() {
    let store = TestStore::new();
    let policy = Policy::new(Profile::Standard).with_on_unknown(OnUnknown::Retry);
    let layer = IdempotencyLayer::new(store.clone());
    let meddled = store.clone();
    let app = App::new(&layer.with_policy(policy).unwrap(), move |_, _| {
        // Succeeded by one that has vanished, too.
        meddled.meddle(|entry| {
            (entry.fence, entry.attempt) = (Fence::new(99), 2);
            entry.state = EntryState::InProgress {
                lease_until: Timestamp::from_millis(0),
                keep: Duration::from_secs(3600),
            };
        });
        async { Response::new(full("1")) }
    });
    let answer = app.send(post("k", "x")).await;
    assert_eq!(answer.problem_kind(), "outcome-unknown");
    let entry = store.only_entry();
    assert_eq!((entry.fence, entry.attempt), (Fence::new(99), 2));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_tried_again_behind_the_answer() {
    let store = TestStore::new();
    let app = App::new(
        &IdempotencyLayer::new(store.clone()),
        |number, _| async move {
            let status = if number == 1 { 503 } else { 200 };
            Response::builder().status(status).body(full("")).unwrap()
        },
    );
    let fails = Fault::Fails(StoreErrorKind::Unavailable);
    store.order_times(Operation::Release, fails, 9);
    assert_eq!(app.send(post("k", "x")).await.status, 503);
    assert!(store.only_entry().in_progress());
    until("it is released", || store.entries().is_empty()).await;
    assert_eq!(app.send(post("k", "x")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_again_before_the_lease_has_run_out() {
    let store = TestStore::new();
    let app = App::new(&IdempotencyLayer::new(store.clone()), |_, _| async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        Response::new(full("1"))
    });
    store.order_times(
        Operation::Renew,
        Fault::Fails(StoreErrorKind::Unavailable),
        3,
    );
    let first = tokio::spawn(app.start(post("k", "x")));
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(
        app.send(post("k", "x")).await.outcome(),
        Outcome::InProgress
    );
    assert_eq!(first.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn shutdown_wakes_those_who_wait() {
    let store = TestStore::new();
    let policy = Policy::new(Profile::Standard).with_concurrent(Concurrent::Wait);
    let layer = IdempotencyLayer::new(store.clone());
    let layer = layer.with_policy(policy).unwrap();
    let app = App::new(&layer, |_, _| std::future::pending());
    let _owner = tokio::spawn(app.start(post("k", "x")));
    until("it is claimed", || app.executions() == 1).await;
    let waiter = tokio::spawn(app.start(post("k", "x")));
    until("it waits", || store.watching() == 1).await;
    // No time to drain: nothing but the shutdown itself can wake it.
    assert!(!layer.engine().shutdown(Duration::ZERO).await);
    let at = tokio::time::Instant::now();
    assert_eq!(waiter.await.unwrap().status(), 409);
    assert_eq!(at.elapsed(), Duration::ZERO);
}

/// A store some of whose claims are still on their way when their caller has given them up.
#[derive(Clone)]
struct Slow {
    store: TestStore,
    /// Which ones, counted from 1.
    late: &'static [usize],
    claims: Arc<AtomicUsize>,
    on_their_way: Arc<Mutex<Vec<Attempt>>>,
    /// Says so, instead of nothing.
    gives_up: bool,
}

impl Slow {
    fn new(late: &'static [usize], gives_up: bool) -> Self {
        Self {
            store: TestStore::new(),
            late,
            claims: Arc::default(),
            on_their_way: Arc::default(),
            gives_up,
        }
    }

    /// The claim that was the last to be given up arrives after all.
    async fn arrive(&self) -> Claim {
        let attempt = self.on_their_way.lock().unwrap().pop().unwrap();
        Store::claim(&self.store, &attempt).await.unwrap()
    }

    async fn released(&self, times: usize) {
        until("the claim was given back", || {
            self.store.calls(Operation::Release) == times
        })
        .await;
    }
}

impl Store for Slow {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        let number = self.claims.fetch_add(1, Ordering::SeqCst) + 1;
        if !self.late.contains(&number) {
            return Store::claim(&self.store, attempt).await;
        }
        self.on_their_way.lock().unwrap().push(attempt.clone());
        if self.gives_up {
            let kind = StoreErrorKind::Timeout;
            return Err(StoreError::new(Operation::Claim, kind, "given up"));
        }
        std::future::pending().await
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        Store::renew(&self.store, lease, renewal).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        Store::complete(&self.store, lease, completion, keep).await
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        Store::release(&self.store, lease).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        Store::watch(&self.store, id).await
    }
}

/// The key is free again long before the lease of a claim that nobody owns has run out.
async fn is_given_back(slow: &Slow) {
    let before = slow.store.now();
    until("the straggler is given back", || {
        slow.store.entries().is_empty()
    })
    .await;
    let lease = Policy::new(Profile::Standard).lease;
    assert!(slow.store.now().since(before) < lease / 2);
}

#[tokio::test(start_paused = true)]
async fn hazard_03_a_claim_that_arrives_after_it_was_given_back_is_given_back_again() {
    let slow = Slow::new(&[1], false);
    let app = App::counting(&IdempotencyLayer::new(slow.clone()));
    let mut call = app.start(post("k", "x"));
    assert!((&mut call).now_or_never().is_none());
    drop(call);
    slow.released(1).await;
    assert!(matches!(slow.arrive().await, Claim::Won(_)));
    is_given_back(&slow).await;
    assert_eq!(app.send(post("k", "x")).await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn hazard_03_a_claim_that_arrives_after_its_repetition_was_released_is_given_back() {
    let slow = Slow::new(&[1], true);
    let app = App::new(&IdempotencyLayer::new(slow.clone()), |n, _| async move {
        let status = if n == 1 { 500 } else { 200 };
        let response = Response::builder().status(status);
        response.body(full(n.to_string())).unwrap()
    });
    assert_eq!(app.send(post("k", "x")).await.status, 500);
    assert!(slow.store.entries().is_empty(), "it was released");
    assert!(matches!(slow.arrive().await, Claim::Won(_)));
    is_given_back(&slow).await;
    assert_eq!(app.send(post("k", "x")).await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn hazard_03_looking_for_a_late_claim_leaves_none_behind_itself() {
    // The request's own call, and the first one of the second look, are late.
    let slow = Slow::new(&[1, 3], false);
    let app = App::counting(&IdempotencyLayer::new(slow.clone()));
    let mut call = app.start(post("k", "x"));
    assert!((&mut call).now_or_never().is_none());
    drop(call);
    slow.released(2).await;
    assert!(matches!(slow.arrive().await, Claim::Won(_)));
    is_given_back(&slow).await;
    assert_eq!(app.send(post("k", "x")).await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn hazard_03_a_claim_that_arrives_very_late_is_given_back_after_a_lease() {
    let slow = Slow::new(&[1], false);
    let app = App::counting(&IdempotencyLayer::new(slow.clone()));
    let mut call = app.start(post("k", "x"));
    assert!((&mut call).now_or_never().is_none());
    drop(call);
    slow.released(2).await;
    assert!(matches!(slow.arrive().await, Claim::Won(_)));
    until("it is given back", || slow.store.entries().is_empty()).await;
    assert_eq!(app.send(post("k", "x")).await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn hazard_03_a_claim_that_arrives_after_its_repetition_was_refused_is_given_back() {
    // The owner's claim is in time; the duplicate's first call is not.
    let slow = Slow::new(&[2], true);
    let done = Arc::new(tokio::sync::Notify::new());
    let waits = Arc::clone(&done);
    let app = App::new(&IdempotencyLayer::new(slow.clone()), move |n, _| {
        let waits = Arc::clone(&waits);
        async move {
            if n == 1 {
                waits.notified().await;
            }
            let status = if n == 1 { 500 } else { 200 };
            let response = Response::builder().status(status);
            response.body(full(n.to_string())).unwrap()
        }
    });
    let owner = tokio::spawn(app.start(post("k", "x")));
    until("it is executed", || app.executions() == 1).await;
    let refused = app.send(post("k", "x")).await;
    assert_eq!(refused.outcome(), Outcome::InProgress);
    done.notify_one();
    assert_eq!(owner.await.unwrap().status(), 500);
    assert!(slow.store.entries().is_empty(), "it was released");
    assert!(matches!(slow.arrive().await, Claim::Won(_)));
    is_given_back(&slow).await;
    assert_eq!(app.send(post("k", "x")).await.text(), "2");
}
