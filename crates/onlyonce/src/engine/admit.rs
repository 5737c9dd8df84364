//! From a keyed request to its place: owner, replay, or refusal.

use std::time::Duration;

use onlyonce_core::{
    Attempt, Claim, Concurrent, Decision, Fingerprint, Nonce, Policy, Record, RecordId, State,
    StoreError, decide,
};
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Engine, Owner};
use crate::telemetry;

/// Waiters look for themselves this often, should a notification be lost.
const POLL: Duration = Duration::from_secs(1);

/// What a keyed request gets.
pub(crate) enum Admission {
    /// It owns the key: execute. The token keeps shutdown waiting until the work is spawned.
    Won(Owner, TaskTrackerToken),
    /// It gets what the record says. Never [`Decision::Execute`].
    Held(Decision, Record),
    /// The store failed.
    Failed(StoreError),
    /// No new claims: the engine is shutting down.
    Closing,
}

/// A keyed request that asks for its place.
pub(crate) struct Admittance<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) policy: &'a std::sync::Arc<Policy>,
    pub(crate) id: RecordId,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) label: Box<str>,
}

/// Gives a claim back that the request leaves behind, however it ends (hazards 3, 17).
struct UnderWay<'a> {
    engine: &'a Engine,
    attempt: &'a Attempt,
    limit: Duration,
    /// It may have landed.
    armed: bool,
    /// It has been answered; earlier calls of it may still reach the store.
    stragglers: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.engine.disown(self.attempt, self.limit);
        } else if self.stragglers {
            self.engine.disown_stragglers(self.attempt, self.limit);
        }
    }
}

impl Admittance<'_> {
    /// Claims the key, and waits for its present owner where the policy says so.
    ///
    /// # Cancellation safety
    /// Dropping the future gives back whatever it may have claimed.
    pub(crate) async fn ask(self) -> Admission {
        let Self {
            engine,
            policy,
            id,
            fingerprint,
            label,
        } = self;
        let Some(entered) = engine.enter() else {
            return Admission::Closing;
        };
        let attempt = Attempt {
            id,
            nonce: Nonce::random(),
            fingerprint,
            lease: policy.lease,
            keep: policy.lifetime,
            on_unknown: policy.on_unknown,
            label,
        };
        let patience = Instant::now() + policy.wait_timeout;
        let mut place = None;
        let mut under_way = UnderWay {
            engine,
            attempt: &attempt,
            limit: policy.store_timeout,
            armed: false,
            stragglers: false,
        };
        loop {
            // Watch before looking, so that no change falls between the two. The first look is
            // made without: most requests never wait.
            let changes = match &place {
                None => None,
                Some(_) => match engine.watch(&id, policy.store_timeout).await {
                    Ok(changes) => Some(changes),
                    Err(error) => {
                        tracing::debug!(error = &error as &dyn std::error::Error, "no watch");
                        None
                    }
                },
            };

            let claimed_at = Instant::now();
            under_way.armed = true;
            let claim = engine.claim(&attempt, policy.store_timeout).await;
            // A claim that failed for sure left nothing, and one that was not sent neither; one that
            // timed out may have landed.
            let may_have_landed =
                |error: &StoreError| error.is_retryable() && error.retry_after().is_none();
            under_way.armed = claim.as_ref().is_err_and(may_have_landed);
            let claim = claim.map(|answered| {
                under_way.stragglers |= answered.stragglers;
                answered.claim
            });
            let record = match claim {
                Ok(Claim::Won(lease)) if engine.is_closing() => {
                    // Shut down in the meantime. On a task of its own: the client may hang up.
                    let (engine, limit) = (engine.clone(), policy.store_timeout);
                    let attempt = attempt.clone();
                    engine.clone().spawn(async move {
                        if engine.give_back(&lease, limit, limit).await.is_err() {
                            engine.disown(&attempt, limit);
                        }
                    });
                    return Admission::Closing;
                }
                Ok(Claim::Won(lease)) => {
                    // The owner's from here on.
                    let stragglers = std::mem::take(&mut under_way.stragglers);
                    let owner = Owner::new(engine, policy, &attempt, lease, claimed_at, stragglers);
                    return Admission::Won(owner, entered);
                }
                Ok(Claim::Held(record)) => record,
                Err(error) => return Admission::Failed(error),
            };

            let decision = decide(Some(&record), fingerprint.as_ref(), policy.on_unknown);
            if decision != Decision::InProgress || policy.concurrent == Concurrent::Reject {
                return Admission::Held(decision, record);
            }
            if place.is_none() {
                place = engine
                    .0
                    .waiters
                    .take(id, policy.max_waiters)
                    .map(|place| (place, telemetry::waiting()));
                if place.is_none() {
                    return Admission::Held(decision, record);
                }
                continue;
            }
            if Instant::now() >= patience || engine.is_closing() {
                return Admission::Held(decision, record);
            }

            let wake = patience.min(Instant::now() + look_again(&record));
            tokio::select! {
                () = changed(changes) => {}
                () = tokio::time::sleep_until(wake) => {}
                () = engine.0.closing.cancelled() => {}
            }
        }
    }
}

/// When a waiter looks for itself: when the owner's lease has run out, or at the next poll.
fn look_again(record: &Record) -> Duration {
    match record.state {
        State::InProgress { lease_left } => POLL.min(lease_left + Duration::from_millis(1)),
        State::Unknown | State::Completed { .. } => POLL,
    }
}

async fn changed(changes: Option<onlyonce_core::Changes>) {
    match changes {
        Some(changes) => changes.await,
        None => std::future::pending().await,
    }
}
