//! A store whose type is forgotten.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Attempt, Changes, Claim, Completion, Counts, Fenced, Inspect, InspectFuture,
    InvalidationListener, Invalidations, KeptSecret, Lease, Listed, Operation, Page, Pepper,
    Record, RecordId, Renewal, Resolution, Resolved, Store, StoreError, StoreErrorKind,
    Subscription,
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

/// A store in all its roles, its type forgotten: what wrappers that are chosen at run time are
/// stacked on.
///
/// Unlike [`SharedStore`] it is itself a [`Store`], so that any wrapper can go around it.
#[derive(Clone)]
pub struct AnyStore {
    store: SharedStore,
    inspect: Arc<dyn Inspect>,
    invalidations: Option<Arc<dyn Invalidations>>,
    pepper: Option<Arc<dyn Pepper>>,
}

impl AnyStore {
    /// Forgets the type of `store`. It announces no void copies.
    #[must_use]
    pub fn new<S: Store + Inspect>(store: Arc<S>) -> Self {
        Self {
            store: SharedStore::from_arc(Arc::clone(&store)),
            inspect: store,
            invalidations: None,
            pepper: None,
        }
    }

    /// Forgets the type of a store that announces void copies of its records.
    #[must_use]
    pub fn announcing<S: Store + Inspect + Invalidations>(store: Arc<S>) -> Self {
        Self {
            store: SharedStore::from_arc(Arc::clone(&store)),
            inspect: Arc::clone(&store) as Arc<dyn Inspect>,
            invalidations: Some(store),
            pepper: None,
        }
    }

    /// The same, with `pepper` to keep the secret of all who share the store.
    #[must_use]
    pub fn with_pepper(mut self, pepper: Arc<dyn Pepper>) -> Self {
        self.pepper = Some(pepper);
        self
    }

    /// The operators' side.
    #[must_use]
    pub fn inspect(&self) -> Arc<dyn Inspect> {
        Arc::clone(&self.inspect)
    }

    /// The side that the engine holds.
    #[must_use]
    pub fn shared(&self) -> SharedStore {
        self.store.clone()
    }
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyStore")
            .field("announces", &self.invalidations.is_some())
            .field("keeps_secret", &self.pepper.is_some())
            .finish_non_exhaustive()
    }
}

impl Store for AnyStore {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.store.claim(attempt).await
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        self.store.renew(lease, renewal).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        self.store.complete(lease, completion, keep).await
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        self.store.release(lease).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.store.watch(id).await
    }
}

impl Inspect for AnyStore {
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
        self.inspect.list(page)
    }

    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
        self.inspect.show(id)
    }

    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved> {
        self.inspect.resolve(id, resolution)
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        self.inspect.forget(id)
    }

    fn count(&self) -> InspectFuture<'_, Counts> {
        self.inspect.count()
    }
}

impl Invalidations for AnyStore {
    /// With a store that announces nothing, the listener is never connected.
    fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription {
        match &self.invalidations {
            Some(invalidations) => invalidations.subscribe(listener),
            None => Subscription::new(()),
        }
    }
}

impl Pepper for AnyStore {
    /// A store that keeps no secret refuses.
    fn keep<'a>(&'a self, offer: Option<&'a KeptSecret>) -> InspectFuture<'a, Option<KeptSecret>> {
        match &self.pepper {
            Some(pepper) => pepper.keep(offer),
            None => Box::pin(std::future::ready(Err(StoreError::new(
                Operation::Open,
                StoreErrorKind::Misconfigured,
                "this store keeps no secret: give one",
            )))),
        }
    }

    fn place(&self) -> String {
        let place = self.pepper.as_ref().map(|pepper| pepper.place());
        place.unwrap_or_else(|| "nowhere".to_owned())
    }
}
