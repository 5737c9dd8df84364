//! The owner of a key: keeps its lease while the work runs, and ends the claim.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use onlyonce_core::{
    Attempt, Claim, Completion, Decision, Done, Effects, Fenced, Fingerprint, Lease, Nonce,
    OnUnknown, Operation, Policy, Record, Renewal, StoreError, StoreErrorKind, decide,
};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Engine;
use crate::telemetry::{self, Gauge};

/// After the client was answered, a result or a release that the store would not take is offered to
/// it for so long; the lease is renewed meanwhile.
const LATE_RECORDING: Duration = Duration::from_secs(600);

/// The right to execute, won by a claim.
///
/// Dropped without an ending (the task was aborted, the process dies), it leaves the record in
/// progress: the lease runs out, and the outcome counts as unknown. Never released by accident.
pub(crate) struct Owner {
    engine: Engine,
    policy: Arc<Policy>,
    attempt: Attempt,
    lease: Lease,
    /// Whether earlier calls of the claim may still reach the store.
    stragglers: bool,
    keeper: Arc<Keeper>,
    /// Renews until the claim has ended, not merely until the work has (hazard 12).
    renewing: AbortOnDropHandle<LastRenewal>,
    _at_work: Gauge,
}

/// What an owner and its renewing task share.
struct Keeper {
    fingerprint: Mutex<Option<Fingerprint>>,
    learned: Notify,
    superseded: AtomicBool,
    /// The owner is ending its claim: a renewal on its way then finds it gone, as it should.
    ending: AtomicBool,
    /// No more renewals: the lease is to run out.
    stopping: AtomicBool,
}

/// What is known of the renewal that the keeper made last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastRenewal {
    Answered,
    /// It may still reach the store.
    Lost,
}

/// How a claim ended.
#[derive(Debug)]
pub(crate) enum Settled {
    /// The store has it, durably.
    Recorded,
    /// The store has forgotten the claim: the next request executes.
    Released,
    /// The outcome counts as unknown from now on, or once the lease has run out.
    Unknown,
    /// The store would not take the result. The record stays in progress; not released.
    Unrecorded,
    /// What was done has no effect, since its result could not be recorded with it
    /// ([`Effects::WithRecord`]): the client must not be told that it happened.
    Uncommitted(StoreError),
    /// Another owner took over in the meantime: this is what the record says now. `None` when
    /// it is gone, or the store does not say.
    Superseded(Option<(Decision, Record)>),
}

impl Owner {
    pub(super) fn new(
        engine: &Engine,
        policy: &Arc<Policy>,
        attempt: &Attempt,
        lease: Lease,
        claimed_at: Instant,
        stragglers: bool,
    ) -> Self {
        let keeper = Arc::new(Keeper {
            fingerprint: Mutex::new(None),
            learned: Notify::new(),
            superseded: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        let renewing = tokio::spawn(keep(
            engine.clone(),
            lease.clone(),
            policy.lease,
            policy.store_timeout,
            claimed_at,
            Arc::clone(&keeper),
        ));
        Self {
            engine: engine.clone(),
            policy: Arc::clone(policy),
            attempt: attempt.clone(),
            lease,
            stragglers,
            keeper,
            renewing: AbortOnDropHandle::new(renewing),
            _at_work: telemetry::at_work(),
        }
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(crate) fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// To be called when the request's body has been read: the store gets to know the
    /// fingerprint at once, so that a crash from then on leaves a record that can tell a retry
    /// from another request.
    pub(crate) fn learner(&self) -> impl Fn(Fingerprint) + Send + Sync + 'static {
        let keeper = Arc::clone(&self.keeper);
        move |fingerprint| {
            let known = keeper
                .fingerprint
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .replace(fingerprint);
            // Said twice, it costs the store one renewal.
            if known.is_none() {
                keeper.learned.notify_one();
            }
        }
    }

    /// Records a result, to be kept for `keep`.
    ///
    /// Returns within one lease even when the store won't take it, and goes on trying behind
    /// the caller's back: the client may have its answer, but a retry should get it, too.
    pub(crate) async fn complete(self, done: Done, keep: Duration) -> Settled {
        self.keeper.ending.store(true, Ordering::Relaxed);
        let unknown = done == Done::Unknown;
        let fingerprint = self.fingerprint();
        let completion = Completion { fingerprint, done };
        let limit = self.policy.store_timeout;
        let overall = self.policy.lease;
        match self
            .engine
            .complete(&self.lease, &completion, keep, limit, overall)
            .await
        {
            Ok(Fenced::Applied) if unknown => {
                telemetry::unknown_outcome();
                Settled::Unknown
            }
            Ok(Fenced::Applied) => Settled::Recorded,
            Ok(Fenced::Superseded) => self.superseded().await,
            Err(error) if self.binds_effects() => {
                telemetry::uncommitted();
                tracing::error!(
                    key = self.lease.id.tag(),
                    error = &error as &dyn std::error::Error,
                    "not committed: what the handler did has no effect"
                );
                Settled::Uncommitted(error)
            }
            Err(error) => {
                telemetry::unrecorded();
                tracing::error!(
                    key = self.lease.id.tag(),
                    error = &error as &dyn std::error::Error,
                    "executed, but the store would not take the record; still trying"
                );
                self.complete_late(completion, keep);
                Settled::Unrecorded
            }
        }
    }

    /// Nobody knows whether it was executed: held at once, or left to be taken over once the
    /// lease has run out, never earlier, as the work may still be going on somewhere.
    pub(crate) async fn unknown(self) -> Settled {
        if self.binds_effects() {
            return self.undo("the execution broke off").await;
        }
        match self.policy.on_unknown {
            OnUnknown::Hold => {
                let keep = self.policy.lifetime;
                self.complete(Done::Unknown, keep).await
            }
            OnUnknown::Retry => {
                telemetry::unknown_outcome();
                drop(self);
                Settled::Unknown
            }
        }
    }

    /// Another owner's record has the word, if there is one. Without, and where effects go with
    /// the record, this owner's are gone.
    async fn superseded(self) -> Settled {
        match self.look().await {
            Some((decision, record)) if !self.binds_effects() || decision.is_final() => {
                Settled::Superseded(Some((decision, record)))
            }
            None if !self.binds_effects() => Settled::Superseded(None),
            _ => uncommitted("the claim was lost before its result was recorded"),
        }
    }

    /// Takes back what was done, which goes with the record, and says so. For
    /// [`Effects::WithRecord`] alone.
    pub(crate) async fn undo(self, why: &'static str) -> Settled {
        self.release().await;
        uncommitted(why)
    }

    /// Whether what the work did takes effect with its record or not at all.
    pub(crate) fn binds_effects(&self) -> bool {
        self.lease.effects == Effects::WithRecord
    }

    /// Ends the claim: its response is not one that is stored, or nothing ran. The next request
    /// executes. What a vanished owner has left is not forgotten by that.
    pub(crate) async fn release(mut self) -> Settled {
        self.keeper.ending.store(true, Ordering::Relaxed);
        let limit = self.policy.store_timeout;
        if !Engine::forgets(&self.lease) {
            self.stop_renewing(limit).await;
        }
        let (engine, lease) = (self.engine.clone(), self.lease.clone());
        let end = async move |overall| engine.give_back(&lease, limit, overall).await;
        match end(limit).await {
            Ok(()) => self.released(limit),
            Err(error) => {
                tracing::warn!(
                    key = self.lease.id.tag(),
                    error = &error as &dyn std::error::Error,
                    "the key could not be released; still trying"
                );
                let engine = self.engine.clone();
                engine.spawn(async move {
                    let _ = end(LATE_RECORDING).await;
                    self.released(limit);
                });
            }
        }
        Settled::Released
    }

    /// A renewal that comes after the lease was let run out would start it again, for nobody.
    async fn stop_renewing(&mut self, limit: Duration) {
        self.keeper.stopping.store(true, Ordering::Relaxed);
        self.keeper.learned.notify_one();
        // The one that is under way takes no longer than this.
        let last = tokio::time::timeout(limit, &mut self.renewing).await;
        if matches!(last, Ok(Ok(LastRenewal::Answered))) {
            return;
        }
        let (engine, lease) = (self.engine.clone(), self.lease.clone());
        engine.clone().spawn(async move {
            tokio::time::sleep(limit).await;
            let _ = engine.give_back(&lease, limit, limit).await;
        });
    }

    fn released(self, limit: Duration) {
        if self.stragglers {
            self.engine.disown_stragglers(&self.attempt, limit);
        }
    }

    fn complete_late(self, completion: Completion, keep: Duration) {
        let engine = self.engine.clone();
        engine.spawn(async move {
            let limit = self.policy.store_timeout;
            let engine = &self.engine;
            let late = engine.complete(&self.lease, &completion, keep, limit, LATE_RECORDING);
            match late.await {
                Ok(Fenced::Applied) => {
                    tracing::info!(key = self.lease.id.tag(), "recorded, late");
                }
                Ok(Fenced::Superseded) => {
                    tracing::warn!(
                        key = self.lease.id.tag(),
                        "superseded before it was recorded"
                    );
                }
                Err(error) => tracing::error!(
                    key = self.lease.id.tag(),
                    error = &error as &dyn std::error::Error,
                    "given up recording; the outcome counts as unknown once the lease has run out"
                ),
            }
        });
    }

    /// What the record says, now that it is another's. The contract has no read, and needs none
    /// for this rare case: a claim that must not win, and is given back if it does.
    async fn look(&self) -> Option<(Decision, Record)> {
        telemetry::superseded();
        let limit = self.policy.store_timeout;
        let attempt = Attempt {
            nonce: Nonce::random(),
            fingerprint: self.fingerprint().or(self.attempt.fingerprint),
            on_unknown: OnUnknown::Hold,
            ..self.attempt.clone()
        };
        let answered = self.engine.claim(&attempt, limit).await;
        if answered.as_ref().is_ok_and(|answered| answered.stragglers) {
            self.engine.disown_stragglers(&attempt, limit);
        }
        match answered.map(|answered| answered.claim) {
            Ok(Claim::Held(record)) => {
                let fingerprint = attempt.fingerprint.as_ref();
                Some((decide(Some(&record), fingerprint, OnUnknown::Hold), record))
            }
            Ok(Claim::Won(lease)) => {
                let given_back = self.engine.give_back(&lease, limit, limit).await;
                if given_back.is_err() {
                    self.engine.disown(&attempt, limit);
                }
                None
            }
            Err(error) => {
                if error.is_retryable() {
                    self.engine.disown(&attempt, limit);
                }
                None
            }
        }
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        *self
            .keeper
            .fingerprint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner")
            .field("lease", &self.lease)
            .field(
                "superseded",
                &self.keeper.superseded.load(Ordering::Relaxed),
            )
            .field("renewing", &!self.renewing.is_finished())
            .finish_non_exhaustive()
    }
}

fn uncommitted(why: &'static str) -> Settled {
    telemetry::uncommitted();
    tracing::error!(why, "not committed: what the handler did has no effect");
    let kind = StoreErrorKind::Unavailable;
    Settled::Uncommitted(StoreError::new(Operation::Complete, kind, why))
}

/// Renews every third of the lease until it is superseded or ended.
async fn keep(
    engine: Engine,
    lease: Lease,
    extend: Duration,
    limit: Duration,
    claimed_at: Instant,
    keeper: Arc<Keeper>,
) -> LastRenewal {
    // Counted from before the claim was sent: the store's deadline cannot be earlier than this.
    let mut ends = claimed_at + extend;
    let mut due = claimed_at + extend / 3;
    let mut lost = false;
    let mut last = LastRenewal::Answered;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = keeper.learned.notified() => {}
        }
        if keeper.stopping.load(Ordering::Relaxed) {
            return last;
        }
        let asked_at = Instant::now();
        let fingerprint = *keeper
            .fingerprint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match engine
            .renew(
                &lease,
                &Renewal {
                    extend,
                    fingerprint,
                },
                limit,
            )
            .await
        {
            Ok(Fenced::Applied) => {
                ends = asked_at + extend;
                due = asked_at + extend / 3;
                lost = false;
                last = LastRenewal::Answered;
            }
            Ok(Fenced::Superseded) if keeper.ending.load(Ordering::Relaxed) => {
                return LastRenewal::Answered;
            }
            Ok(Fenced::Superseded) => {
                keeper.superseded.store(true, Ordering::Relaxed);
                telemetry::renewal_lost();
                tracing::warn!(key = lease.id.tag(), "lease lost: another owner took over");
                return LastRenewal::Answered;
            }
            Err(error) => {
                // Goes on trying even past the end: as long as nobody took over, the lease can
                // be had back, and the fence tells.
                due = Instant::now() + extend / 10;
                last = LastRenewal::Lost;
                if !lost && due >= ends {
                    lost = true;
                    telemetry::renewal_lost();
                    tracing::warn!(
                        key = lease.id.tag(),
                        error = &error as &dyn std::error::Error,
                        "lease not renewed in time"
                    );
                }
            }
        }
    }
}
