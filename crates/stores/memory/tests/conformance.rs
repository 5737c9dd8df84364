//! The memory store keeps the contract, and so does any store behind `SharedStore`.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_conformance::{ExactTime, Harness, conformance};
use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Counts, Fenced, Inspect, InspectFuture, Lease, Listed,
    ManualClock, Page, Record, RecordId, Renewal, Resolution, Resolved, SharedStore, Store,
    StoreError,
};
use onlyonce_memory::MemoryStore;

struct Subject {
    clock: Arc<ManualClock>,
    store: Arc<MemoryStore>,
}

impl Harness for Subject {
    type Store = MemoryStore;
    const TICK: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn fresh() -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = MemoryStore::builder().clock(Arc::clone(&clock)).build();
        Self {
            clock,
            store: Arc::new(store),
        }
    }

    fn store(&self) -> Arc<MemoryStore> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn open_watches(&self) -> usize {
        self.store.open_watches()
    }
}

impl ExactTime for Subject {}

mod memory {
    use super::*;

    conformance! {
        harness: Subject,
        exact_time: yes,
        reopen: no("the records are gone with the process"),
    }
}

/// A wrapper: claims go through `SharedStore`, operators see the store within.
struct Shared {
    outer: SharedStore,
    inner: MemoryStore,
}

impl Store for Shared {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.outer.claim(attempt).await
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        self.outer.renew(lease, renewal).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        self.outer.complete(lease, completion, keep).await
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        self.outer.release(lease).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.outer.watch(id).await
    }
}

impl Inspect for Shared {
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
        self.inner.list(page)
    }

    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
        self.inner.show(id)
    }

    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved> {
        self.inner.resolve(id, resolution)
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        self.inner.forget(id)
    }

    fn count(&self) -> InspectFuture<'_, Counts> {
        self.inner.count()
    }
}

struct SharedSubject {
    subject: Subject,
    store: Arc<Shared>,
}

impl Harness for SharedSubject {
    type Store = Shared;
    const TICK: Duration = Subject::TICK;
    const PATIENCE: Duration = Subject::PATIENCE;

    async fn fresh() -> Self {
        let clock = Arc::new(ManualClock::new());
        // One shard: the other end of what the builder allows.
        let builder = MemoryStore::builder().clock(Arc::clone(&clock)).shards(1);
        let inner = builder.build();
        let outer = SharedStore::new(inner.clone());
        let store = Arc::new(Shared {
            outer,
            inner: inner.clone(),
        });
        let subject = Subject {
            clock,
            store: Arc::new(inner),
        };
        Self { subject, store }
    }

    fn store(&self) -> Arc<Shared> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        self.subject.advance(by).await;
    }

    fn open_watches(&self) -> usize {
        self.subject.open_watches()
    }
}

impl ExactTime for SharedSubject {}

mod shared {
    use super::*;

    conformance! {
        harness: SharedSubject,
        exact_time: yes,
        reopen: no("the records are gone with the process"),
    }
}
