//! The store around the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, Clock, Completion, Counts, Done, Fenced, Inspect, InspectFuture,
    InvalidationListener, Invalidations, KeptSecret, Lease, Listed, Page, Pepper, Record, RecordId,
    Renewal, Resolution, Resolved, State, Store, StoreError, Subscription, SystemClock,
};

use crate::shelf::{Claimed, Shelf};

/// A store with a near cache of its completed records.
///
/// See the [crate's documentation](crate) for what is kept, and how old it can be.
pub struct Near<S> {
    store: S,
    shelf: Arc<Shelf>,
    _subscription: Subscription,
}

/// Makes a [`Near`] with settings of one's own.
///
/// # Example
/// ```
/// use onlyonce_core::ManualClock;
/// use onlyonce_memory::MemoryStore;
/// use onlyonce_near::Near;
/// use std::sync::Arc;
///
/// let clock = Arc::new(ManualClock::new());
/// let store = MemoryStore::builder().clock(Arc::clone(&clock)).build();
/// let near = Near::<MemoryStore>::builder().max_bytes(8 << 20).clock(clock).build(store);
/// # let _ = near;
/// ```
#[derive(Debug)]
#[must_use]
pub struct Builder {
    max_bytes: u64,
    clock: Arc<dyn Clock>,
}

impl Builder {
    /// The most that copies may take, in bytes, bookkeeping included by rough reckoning.
    /// Default: 64 MiB. A record that is larger than a part of it is not kept.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The clock on which copies age. Default: the machine's monotonic clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Puts the cache in front of `store`.
    ///
    /// # Panics
    /// Outside of a tokio runtime, where `store` needs one to listen for announcements.
    pub fn build<S: Store + Invalidations>(self, store: S) -> Near<S> {
        let shelf = Arc::new(Shelf::new(self.max_bytes, self.clock));
        let listener = Arc::clone(&shelf);
        let _subscription = store.subscribe(listener);
        Near {
            store,
            shelf,
            _subscription,
        }
    }
}

impl<S: Store + Invalidations> Near<S> {
    /// Puts a cache of at most `bytes` in front of `store`.
    ///
    /// # Panics
    /// As [`Builder::build`].
    #[must_use]
    pub fn new(store: S, bytes: u64) -> Self {
        Self::builder().max_bytes(bytes).build(store)
    }

    /// A cache with settings of one's own.
    pub fn builder() -> Builder {
        Builder {
            max_bytes: 64 << 20,
            clock: Arc::new(SystemClock::new()),
        }
    }
}

impl<S> Near<S> {
    /// How many bytes the copies take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shelf.bytes()
    }

    /// Whether announcements come in: while they don't, all claims go to the store.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shelf.is_trusted()
    }
}

impl<S: Store> Store for Near<S> {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        let id = attempt.id;
        if let Some(record) = self.shelf.find(&id) {
            count("hit");
            return Ok(Claim::Held(record));
        }
        let ticket = self.shelf.ticket(&id);
        count(if ticket.is_some() { "miss" } else { "off" });
        let Some(ticket) = ticket else {
            return self.store.claim(attempt).await;
        };
        let again = self.shelf.sending(&id, attempt.nonce);
        let claim = self.store.claim(attempt).await?;
        match &claim {
            Claim::Held(record) if matches!(record.state, State::Completed { .. }) => {
                self.shelf.keep(id, record.clone(), ticket);
            }
            Claim::Won(lease) if lease.attempt == 1 => self.shelf.note(
                id,
                Claimed {
                    fence: lease.fence,
                    fingerprint: Some(attempt.fingerprint),
                    label: attempt.label.clone(),
                    sent: ticket.sent,
                    again,
                },
            ),
            // Of a claim that took over it is not known since when the record has been there.
            Claim::Won(_) | Claim::Held(_) => {}
        }
        Ok(claim)
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        if renewal.fingerprint.is_some() {
            self.shelf.doubt_fingerprint(&lease.id, lease.fence);
        }
        self.store.renew(lease, renewal).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let ticket = self.shelf.ticket(&lease.id);
        let noted = self.shelf.take_note(&lease.id, lease.fence);
        if noted.is_none() {
            // Another completion by this owner may be under way. Which of them stands is for the
            // store to say: neither is kept here.
            self.shelf.void(&lease.id);
        }
        let completed = self.store.complete(lease, completion, keep).await?;
        if let (Some(noted), Some(ticket), Fenced::Applied) = (noted, ticket, completed)
            && let Some(state) = state_of(&completion.done)
            && let Some(fingerprint) = completion.fingerprint.map(Some).or(noted.fingerprint)
        {
            let record = Record {
                fingerprint,
                attempt: lease.attempt,
                fence: lease.fence,
                state,
                age: ticket.sent.since(noted.sent),
                expires_in: keep,
                label: noted.label.clone(),
            };
            self.shelf.keep(lease.id, record, ticket);
        }
        Ok(completed)
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        self.store.release(lease).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.store.watch(id).await
    }
}

/// Looking at records goes to the store: operators see what is there.
impl<S: Inspect> Inspect for Near<S> {
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
        Box::pin(async move {
            let _void = VoidAtTheEnd(&self.shelf, id);
            self.store.resolve(id, resolution).await
        })
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        Box::pin(async move {
            let _void = VoidAtTheEnd(&self.shelf, id);
            self.store.forget(id).await
        })
    }

    fn count(&self) -> InspectFuture<'_, Counts> {
        self.store.count()
    }
}

/// Voids copies whatever came of the change: one that failed, or was given up, may have happened.
struct VoidAtTheEnd<'a>(&'a Shelf, &'a RecordId);

impl Drop for VoidAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.void(self.1);
    }
}

impl<S: Invalidations> Invalidations for Near<S> {
    fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription {
        self.store.subscribe(listener)
    }
}

/// What all who share the store go by is the store's own to keep.
impl<S: Pepper> Pepper for Near<S> {
    fn keep<'a>(&'a self, offer: Option<&'a KeptSecret>) -> InspectFuture<'a, Option<KeptSecret>> {
        self.store.keep(offer)
    }

    fn place(&self) -> String {
        self.store.place()
    }
}

fn state_of(done: &Done) -> Option<State> {
    match done {
        Done::Kept { status, result } => Some(State::Completed {
            status: *status,
            kept: Some(result.clone()),
        }),
        Done::NotKept { status } => Some(State::Completed {
            status: *status,
            kept: None,
        }),
        Done::Unknown => None,
    }
}

/// Names and units of its metrics, for recorders that take descriptions.
///
/// Call it once after the program has installed its recorder; without it everything is still
/// counted, but without help texts.
pub fn describe_metrics() {
    metrics::describe_counter!(
        CLAIMS,
        "Claims answered by the near cache (hit), by the store (miss), or by the store as \
         announcements are missing (off)"
    );
}

const CLAIMS: &str = "onlyonce_near_claims_total";

fn count(result: &'static str) {
    metrics::counter!(CLAIMS, "result" => result).increment(1);
}

impl<S: fmt::Debug> fmt::Debug for Near<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Near")
            .field("store", &self.store)
            .field("bytes", &self.bytes())
            .field("connected", &self.is_connected())
            .finish()
    }
}
