//! Time that does not move while a step is under way.

use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Counts, Fenced, Inspect, InspectFuture, Lease, Listed,
    Page, Record, RecordId, Renewal, Resolution, Resolved, Store, StoreError,
};
use tokio::sync::RwLock;

/// A store under test for which time stands still while a step is under way.
///
/// For stores that look at the clock more than once in a step, as a cache does: it counts a copy
/// from before it asked, so that it never outlives what was copied. To the millisecond, that agrees
/// with the store behind it only if no time passes in between, which in a check many hours may.
#[derive(Debug)]
pub struct Still<S> {
    store: S,
    moving: RwLock<()>,
}

impl<S> Still<S> {
    /// Time stands still for `store`.
    pub fn new(store: S) -> Self {
        Self {
            store,
            moving: RwLock::new(()),
        }
    }

    /// Lets `advance` move the clock, between two steps.
    pub async fn between_steps(&self, advance: impl FnOnce()) {
        let _moving = self.moving.write().await;
        advance();
    }
}

impl<S: Store> Store for Still<S> {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        let _still = self.moving.read().await;
        self.store.claim(attempt).await
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        let _still = self.moving.read().await;
        self.store.renew(lease, renewal).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let _still = self.moving.read().await;
        self.store.complete(lease, completion, keep).await
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        let _still = self.moving.read().await;
        self.store.release(lease).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.store.watch(id).await
    }
}

impl<S: Inspect> Inspect for Still<S> {
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
