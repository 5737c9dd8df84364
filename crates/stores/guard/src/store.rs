//! The store around the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Counts, Fenced, Inspect, InspectFuture,
    InvalidationListener, Invalidations, KeptSecret, Lease, Listed, Operation, Page, Pepper,
    Record, RecordId, Renewal, Resolution, Resolved, Store, StoreError, StoreErrorKind,
    Subscription,
};
use tokio::time::{Instant, sleep, timeout};

use crate::breaker::{Breaker, BreakerState, Circuit, Permit};
use crate::telemetry::{DURATION, ERRORS, REFUSED};

/// A store under guard.
///
/// See the [crate's documentation](crate) for what that means.
pub struct Guard<S> {
    store: S,
    settings: Builder,
    circuit: Option<Circuit>,
}

/// Makes a [`Guard`].
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// use onlyonce_guard::Guard;
/// use onlyonce_memory::MemoryStore;
///
/// // No breaker, but two more tries for each operation.
/// let store = Guard::builder()
///     .retries(2)
///     .deadline(Duration::from_secs(2))
///     .build(MemoryStore::new());
/// # let _ = store;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Builder {
    timeout: Duration,
    deadline: Duration,
    retries: u32,
    breaker: Option<Breaker>,
}

/// The longest first and last wait between two tries.
const WAITS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

impl Builder {
    /// The time limit of one call. Default: 1 s. A call that its caller gives up earlier is given
    /// up; after half of it, that counts as a failure.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// The time limit of all tries of an operation together. Default: 3 s.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// How often a call that got no answer is made again. Default: not at all. Not for stores under
    /// an engine, which makes calls again by itself, and looks after claims that come late: of those
    /// made here it knows nothing.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Refuses claims while the store is away. Default: no breaker.
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Puts the guard around `store`.
    pub fn build<S>(self, store: S) -> Guard<S> {
        let circuit = |breaker| Circuit::new(breaker, self.timeout / 2);
        Guard {
            store,
            circuit: self.breaker.map(circuit),
            settings: self,
        }
    }
}

impl Guard<()> {
    /// Begins to make a guarded store.
    pub fn builder() -> Builder {
        Builder {
            timeout: Duration::from_secs(1),
            deadline: Duration::from_secs(3),
            retries: 0,
            breaker: None,
        }
    }
}

impl<S> Guard<S> {
    /// What the breaker does; without one, [`BreakerState::Closed`].
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        let state = self.circuit.as_ref().map(Circuit::state);
        state.unwrap_or(BreakerState::Closed)
    }

    async fn call<T, F>(
        &self,
        operation: Operation,
        mut call: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let until = Instant::now() + self.settings.deadline;
        let mut span = WAITS.0;
        let mut unanswered: Option<StoreError> = None;
        for left in (0..=self.settings.retries).rev() {
            let permit = match self.admit(operation) {
                Ok(permit) => permit,
                // An earlier try may have had its effect: its error is the one that says so.
                Err(refused) => return Err(unanswered.unwrap_or(refused)),
            };
            let limit = until.saturating_duration_since(Instant::now());
            let error = match self.once(operation, permit, limit, call()).await {
                Err(error) if error.is_retryable() && left > 0 => error,
                result => return result.map_err(|error| unanswered.unwrap_or(error)),
            };
            let wait = jitter(span);
            if Instant::now() + wait >= until {
                return Err(error);
            }
            sleep(wait).await;
            span = (span * 2).min(WAITS.1);
            unanswered = Some(error);
        }
        // The last try has returned.
        Err(unanswered.unwrap_or_else(|| no_answer(operation, self.settings.deadline)))
    }

    async fn once<T>(
        &self,
        operation: Operation,
        permit: Option<Permit<'_>>,
        limit: Duration,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let limit = limit.min(self.settings.timeout);
        let answer = timeout(limit, call).await;
        let result =
            answer.unwrap_or_else(|elapsed| Err(no_answer(operation, limit).with_source(elapsed)));
        metrics::histogram!(
            DURATION,
            "operation" => operation.as_str()
        )
        .record(started.elapsed());
        if let Err(error) = &result {
            metrics::counter!(
                ERRORS,
                "operation" => operation.as_str(), "kind" => kind_name(error.kind())
            )
            .increment(1);
        }
        if let Some(permit) = permit {
            permit.settle(!matches!(&result, Err(error) if error.is_retryable()));
        }
        result
    }

    fn admit(&self, operation: Operation) -> Result<Option<Permit<'_>>, StoreError> {
        let Some(circuit) = &self.circuit else {
            return Ok(None);
        };
        // An execution has happened or is happening: its outcome must get through.
        let refusable = matches!(operation, Operation::Claim | Operation::Watch);
        if !refusable {
            return Ok(Some(circuit.pass()));
        }
        circuit.admit().map(Some).map_err(|after| {
            metrics::counter!(REFUSED, "operation" => operation.as_str()).increment(1);
            let message = format!("the store is away; it is tried again in {after:?}");
            StoreError::new(operation, StoreErrorKind::Unavailable, message).with_retry_after(after)
        })
    }
}

fn no_answer(operation: Operation, limit: Duration) -> StoreError {
    let message = format!("no answer within {limit:?}");
    StoreError::new(operation, StoreErrorKind::Timeout, message)
}

/// At random between nothing and `span`.
fn jitter(span: Duration) -> Duration {
    // Without randomness all wait the whole span: no worse than no jitter.
    let share = getrandom::u32().unwrap_or(u32::MAX);
    span.mul_f64(f64::from(share) / f64::from(u32::MAX))
}

fn kind_name(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Unavailable => "unavailable",
        StoreErrorKind::Timeout => "timeout",
        StoreErrorKind::Full => "full",
        StoreErrorKind::Corrupt => "corrupt",
        StoreErrorKind::Poisoned => "poisoned",
        StoreErrorKind::Misconfigured => "misconfigured",
        _ => "other",
    }
}

impl<S: Store> Store for Guard<S> {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.call(Operation::Claim, || self.store.claim(attempt))
            .await
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        self.call(Operation::Renew, || self.store.renew(lease, renewal))
            .await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let complete = || self.store.complete(lease, completion, keep);
        self.call(Operation::Complete, complete).await
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        self.call(Operation::Release, || self.store.release(lease))
            .await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.call(Operation::Watch, || self.store.watch(id)).await
    }
}

/// Goes through untimed: a listing may take long.
impl<S: Inspect> Inspect for Guard<S> {
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
        self.store.list(page)
    }

    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
        self.store.show(id)
    }

    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved> {
        self.store.resolve(id, resolution)
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        self.store.forget(id)
    }

    fn count(&self) -> InspectFuture<'_, Counts> {
        self.store.count()
    }
}

impl<S: Invalidations> Invalidations for Guard<S> {
    fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription {
        self.store.subscribe(listener)
    }
}

/// What all who share the store go by is the store's own to keep.
impl<S: Pepper> Pepper for Guard<S> {
    fn keep<'a>(&'a self, offer: Option<&'a KeptSecret>) -> InspectFuture<'a, Option<KeptSecret>> {
        self.store.keep(offer)
    }

    fn place(&self) -> String {
        self.store.place()
    }
}

impl<S: fmt::Debug> fmt::Debug for Guard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("store", &self.store)
            .field("settings", &self.settings)
            .field("breaker", &self.breaker())
            .finish()
    }
}
