//! A store whose type is forgotten.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Attempt, Changes, Claim, Completion, Fenced, Lease, RecordId, Renewal, Store, StoreError,
};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Any [`Store`], shared. Cloning is cheap and gives the same store.
///
/// The type is erased here, once, so that neither the engine nor its layers carry a type
/// parameter for it. The price is one allocation for each operation.
#[derive(Clone)]
pub struct SharedStore(Arc<dyn DynStore>);

impl SharedStore {
    /// Shares `store`.
    #[must_use]
    pub fn new(store: impl Store) -> Self {
        Self(Arc::new(store))
    }

    /// Shares a store that is shared already, for callers who also keep its own type.
    #[must_use]
    pub fn from_arc<S: Store>(store: Arc<S>) -> Self {
        Self(store)
    }
}

impl<S: Store> From<S> for SharedStore {
    fn from(store: S) -> Self {
        Self::new(store)
    }
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedStore")
    }
}

/// Object-safe twin of [`Store`]; every store has it by the blanket implementation.
trait DynStore: Send + Sync + 'static {
    fn claim<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Claim>;
    fn renew<'a>(&'a self, lease: &'a Lease, renewal: &'a Renewal) -> BoxFuture<'a, Fenced>;
    fn complete<'a>(
        &'a self,
        lease: &'a Lease,
        completion: &'a Completion,
        keep: Duration,
    ) -> BoxFuture<'a, Fenced>;
    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Fenced>;
    fn watch<'a>(&'a self, id: &'a RecordId) -> BoxFuture<'a, Changes>;
}

impl<S: Store> DynStore for S {
    fn claim<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Claim> {
        Box::pin(Store::claim(self, attempt))
    }

    fn renew<'a>(&'a self, lease: &'a Lease, renewal: &'a Renewal) -> BoxFuture<'a, Fenced> {
        Box::pin(Store::renew(self, lease, renewal))
    }

    fn complete<'a>(
        &'a self,
        lease: &'a Lease,
        completion: &'a Completion,
        keep: Duration,
    ) -> BoxFuture<'a, Fenced> {
        Box::pin(Store::complete(self, lease, completion, keep))
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Fenced> {
        Box::pin(Store::release(self, lease))
    }

    fn watch<'a>(&'a self, id: &'a RecordId) -> BoxFuture<'a, Changes> {
        Box::pin(Store::watch(self, id))
    }
}

impl SharedStore {
    /// See [`Store::claim`].
    ///
    /// # Errors
    /// As [`Store::claim`].
    pub async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.0.claim(attempt).await
    }

    /// See [`Store::renew`].
    ///
    /// # Errors
    /// As [`Store::renew`].
    pub async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        self.0.renew(lease, renewal).await
    }

    /// See [`Store::complete`].
    ///
    /// # Errors
    /// As [`Store::complete`].
    pub async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        self.0.complete(lease, completion, keep).await
    }

    /// See [`Store::release`].
    ///
    /// # Errors
    /// As [`Store::release`].
    pub async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        self.0.release(lease).await
    }

    /// See [`Store::watch`].
    ///
    /// # Errors
    /// As [`Store::watch`].
    pub async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.0.watch(id).await
    }
}
