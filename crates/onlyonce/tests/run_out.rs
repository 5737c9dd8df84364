//! A claim that is let run out, and renewals that come late.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Response, StatusCode};
use onlyonce::{Claimed, Control, IdempotencyLayer, OnUnknown, Outcome, Policy, Profile};
use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Fenced, Lease, Operation, RecordId, Renewal, Store,
    StoreError, StoreErrorKind,
};
use support::{App, TestStore, full, post};

/// On its way for so long.
const SLOW: Duration = Duration::from_millis(300);

/// Renewals reach it late, even if nobody waits for them any more.
#[derive(Clone)]
struct Behind {
    store: TestStore,
    /// And then the answer is lost.
    loses: bool,
    slow: Arc<AtomicBool>,
}

impl Store for Behind {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        Store::claim(&self.store, attempt).await
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        if renewal.extend.is_zero() || !self.slow.load(Ordering::SeqCst) {
            return Store::renew(&self.store, lease, renewal).await;
        }
        let (store, lease, renewal) = (self.store.clone(), lease.clone(), *renewal);
        let renewed = tokio::spawn(async move {
            tokio::time::sleep(SLOW).await;
            Store::renew(&store, &lease, &renewal).await
        });
        if self.loses {
            let kind = StoreErrorKind::Unavailable;
            return Err(StoreError::new(Operation::Renew, kind, "reply lost"));
        }
        renewed.await.unwrap()
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

/// The second attempt ends without a result that is stored while a renewal of it is on its way.
/// Gives what the next request gets after `wait`.
async fn after_a_late_renewal(loses: bool, wait: Duration) -> Outcome {
    let behind = Behind {
        store: TestStore::new(),
        loses,
        slow: Arc::default(),
    };
    let policy = Policy::new(Profile::Standard).with_on_unknown(OnUnknown::Retry);
    let lease = policy.lease;
    let layer = IdempotencyLayer::new(behind.clone())
        .with_policy(policy)
        .unwrap();
    let slow = Arc::clone(&behind.slow);
    let app = App::new(&layer, move |number, request| {
        let slow = Arc::clone(&slow);
        async move {
            let attempt = request.extensions().get::<Claimed>().unwrap().attempt();
            let mut response = Response::new(full(attempt.to_string()));
            if number == 1 {
                response.extensions_mut().insert(Control::Ambiguous);
            }
            if number == 2 {
                slow.store(true, Ordering::SeqCst);
                // The first renewal is due after a third of the lease.
                tokio::time::sleep(lease / 3 + SLOW / 3).await;
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
    });
    app.send(post("k", "x")).await;
    tokio::time::sleep(lease * 2).await;
    assert_eq!(app.send(post("k", "x")).await.status, 503);
    tokio::time::sleep(wait).await;
    let next = app.send(post("k", "x")).await;
    if next.outcome() == Outcome::Executed {
        assert_eq!(
            next.text(),
            "3",
            "the unknown first attempt is not forgotten"
        );
    }
    next.outcome()
}

#[tokio::test(start_paused = true)]
async fn a_renewal_on_its_way_does_not_lock_a_key_that_was_let_run_out() {
    let outcome = after_a_late_renewal(false, SLOW).await;
    assert_eq!(outcome, Outcome::Executed);
}

#[tokio::test(start_paused = true)]
async fn nor_does_one_whose_answer_was_lost() {
    // Within the time limit of one call it has come or never will.
    let outcome = after_a_late_renewal(true, Duration::from_secs(3)).await;
    assert_eq!(outcome, Outcome::Executed);
}
