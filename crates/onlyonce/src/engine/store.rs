//! Every call to the store: timed, counted, and given up on in time.

use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Effects, Fenced, Lease, OnUnknown, Operation, RecordId,
    Renewal, StoreError, StoreErrorKind,
};
use tokio::time::Instant;

use super::Engine;

/// How many claims that may have landed are looked after at once. A store that is away for long
/// would gather them without end; what is beyond runs out with its lease.
pub(super) const MOST_DISOWNED: usize = 4096;

/// For so long what a claim may have left is looked for, if the store does not answer.
const LOOKING: Duration = Duration::from_secs(600);

/// A claim's answer.
pub(crate) struct Answered {
    pub(crate) claim: Claim,
    /// Whether earlier calls were given up, which may still reach the store.
    pub(crate) stragglers: bool,
}

/// Waits between tries: short at first, never long.
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self(Duration::from_millis(10))
    }

    pub(crate) async fn wait(&mut self, until: Instant) {
        let wake = (Instant::now() + self.0).min(until);
        self.0 = (self.0 * 2).min(Duration::from_secs(2));
        tokio::time::sleep_until(wake).await;
    }
}

impl Engine {
    /// Claims, trying again by the nonce until `limit` has passed.
    pub(crate) async fn claim(
        &self,
        attempt: &Attempt,
        limit: Duration,
    ) -> Result<Answered, StoreError> {
        let mut calls = 0;
        let call = || {
            calls += 1;
            self.0.store.claim(attempt)
        };
        let claim = self.persist(Operation::Claim, limit, limit, call).await?;
        let stragglers = calls > 1;
        Ok(Answered { claim, stragglers })
    }

    pub(crate) async fn renew(
        &self,
        lease: &Lease,
        renewal: &Renewal,
        limit: Duration,
    ) -> Result<Fenced, StoreError> {
        self.timed(Operation::Renew, limit, self.0.store.renew(lease, renewal))
            .await
    }

    /// Completes, trying again by the fence until `overall` has passed.
    pub(crate) async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
        limit: Duration,
        overall: Duration,
    ) -> Result<Fenced, StoreError> {
        let complete = || self.0.store.complete(lease, completion, keep);
        self.persist(Operation::Complete, limit, overall, complete)
            .await
    }

    pub(crate) async fn release(
        &self,
        lease: &Lease,
        limit: Duration,
        overall: Duration,
    ) -> Result<Fenced, StoreError> {
        self.persist(Operation::Release, limit, overall, || {
            self.0.store.release(lease)
        })
        .await
    }

    pub(crate) async fn watch(
        &self,
        id: &RecordId,
        limit: Duration,
    ) -> Result<Changes, StoreError> {
        self.timed(Operation::Watch, limit, self.0.store.watch(id))
            .await
    }

    /// Gives back what a claim may have won without our knowing: its reply was lost, or the
    /// client hung up while it was under way. Nothing has run under it.
    ///
    /// A call that was given up may still reach the store after its claim has been given back: it
    /// stood in a queue, or on a slower connection, or on a server that was slow to commit. It would
    /// win the key again, with nobody to own it. So it is looked for again when the time for a call
    /// is over, and once more after a lease.
    pub(crate) fn disown(&self, attempt: &Attempt, limit: Duration) {
        self.look_after(attempt, limit, true);
    }

    /// Gives back what an earlier call of a claim may yet win that was sent more than once, and has
    /// been released.
    pub(crate) fn disown_stragglers(&self, attempt: &Attempt, limit: Duration) {
        self.look_after(attempt, limit, false);
    }

    fn look_after(&self, attempt: &Attempt, limit: Duration, at_once: bool) {
        // A future can be dropped where no runtime is left to finish anything.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let Ok(permit) = std::sync::Arc::clone(&self.0.disowning).try_acquire_owned() else {
            tracing::warn!(
                key = attempt.id.tag(),
                "a claim that failed may have landed in the store, and too many are looked after"
            );
            return;
        };
        let engine = self.clone();
        // Found again by its nonce; must not take over what it did not win the first time.
        let attempt = Attempt {
            on_unknown: OnUnknown::Hold,
            ..attempt.clone()
        };
        self.spawn(async move {
            let _permit = permit;
            if at_once {
                engine.give_back_unseen(&attempt, limit).await;
            }
            engine.look_again(&attempt, limit, limit).await;
            // Hardly ever is there anything left: not where many are to be looked after.
            let has_time = engine.0.disowning.available_permits() > MOST_DISOWNED / 2;
            if has_time && !engine.is_closing() {
                engine.look_again(&attempt, limit, attempt.lease).await;
            }
        });
    }

    /// Looks after `wait`, and again as long as looking itself leaves calls behind that may land.
    async fn look_again(&self, attempt: &Attempt, limit: Duration, wait: Duration) {
        let until = Instant::now() + wait + LOOKING;
        let mut wait = wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.0.closing.cancelled() => {}
            }
            let settled = self.give_back_unseen(attempt, limit).await;
            if settled || self.is_closing() || Instant::now() >= until {
                return;
            }
            wait = limit;
        }
    }

    /// Whether there is no use in looking again: the first call of the claim was answered, and what
    /// it won has been given back; or the store has failed for good.
    async fn give_back_unseen(&self, attempt: &Attempt, limit: Duration) -> bool {
        let overall = attempt.lease.max(Duration::from_secs(60));
        let mut calls = 0;
        let claim = || {
            calls += 1;
            self.0.store.claim(attempt)
        };
        let given_back = match self.persist(Operation::Claim, limit, overall, claim).await {
            Ok(Claim::Won(lease)) => self.give_back(&lease, limit, overall).await,
            Ok(Claim::Held(_)) => Ok(()),
            Err(error) => Err(error),
        };
        let Err(error) = given_back else {
            return calls == 1;
        };
        tracing::warn!(
            key = attempt.id.tag(),
            error = &error as &dyn std::error::Error,
            "a claim that failed may have landed in the store and could not be given back"
        );
        !error.is_retryable()
    }

    /// Ends a claim without a result, as if it had never been.
    ///
    /// A claim that took over from a vanished owner is let run out instead of being released:
    /// that the earlier attempt's outcome is unknown must not be forgotten. The next request takes
    /// over in its turn, and is told how many there were.
    pub(crate) async fn give_back(
        &self,
        lease: &Lease,
        limit: Duration,
        overall: Duration,
    ) -> Result<(), StoreError> {
        if Self::forgets(lease) {
            self.release(lease, limit, overall).await.map(|_| ())
        } else {
            let run_out = Renewal {
                extend: Duration::ZERO,
                fingerprint: None,
            };
            let renew = || self.0.store.renew(lease, &run_out);
            self.persist(Operation::Renew, limit, overall, renew)
                .await
                .map(|_| ())
        }
    }

    /// Whether a claim that is given back is forgotten, and not let run out.
    pub(super) fn forgets(lease: &Lease) -> bool {
        // Effects that go with the record are undone by nothing else.
        lease.attempt == 1 || lease.effects == Effects::WithRecord
    }

    /// Calls until it succeeds, fails for good, or `overall` has passed.
    ///
    /// When it fails for good after an earlier try that may have taken effect, that try's error
    /// is returned: it is the one that says so.
    async fn persist<T, F>(
        &self,
        operation: Operation,
        limit: Duration,
        overall: Duration,
        mut call: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let until = Instant::now() + overall;
        let mut backoff = Backoff::new();
        let mut ambiguous = None;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.timed(operation, limit.min(left), call()).await {
                // It was not sent: an earlier try's error says more.
                Err(error) if in_vain_until(&error, until) => {
                    return Err(ambiguous.unwrap_or(error));
                }
                Err(error) if error.is_retryable() && Instant::now() < until => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "trying again");
                    backoff.wait(until).await;
                    if Instant::now() >= until {
                        return Err(error);
                    }
                    ambiguous = Some(error);
                }
                result => return result.map_err(|error| ambiguous.unwrap_or(error)),
            }
        }
    }

    async fn timed<T>(
        &self,
        operation: Operation,
        limit: Duration,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let result = tokio::time::timeout(limit, call)
            .await
            .unwrap_or_else(|elapsed| {
                let message = format!("no answer within {limit:?}");
                Err(StoreError::new(operation, StoreErrorKind::Timeout, message)
                    .with_source(elapsed))
            });
        crate::telemetry::store_call(operation, started.elapsed(), result.is_ok());
        result
    }
}

/// Whether no try before `until` can succeed: the store is known to be away for longer.
fn in_vain_until(error: &StoreError, until: Instant) -> bool {
    let after = error.retry_after();
    after.is_some_and(|after| Instant::now() + after >= until)
}
