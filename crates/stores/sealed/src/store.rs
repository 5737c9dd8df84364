//! The store around the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Counts, Done, Fenced, Inspect, InspectFuture,
    InvalidationListener, Invalidations, KeptSecret, Lease, Listed, Operation, Page, Pepper,
    Record, RecordId, Renewal, Resolution, Resolved, State, Store, StoreError, StoreErrorKind,
    StoredResponse, Subscription, codec,
};

use crate::envelope::{self, OpenError, Place};
use crate::key::{KeyRing, Keys};
use crate::telemetry;

/// A store whose results are sealed.
///
/// See the [crate's documentation](crate) for what that covers. A near cache belongs inside of it:
/// then copies are sealed and scrubbed as well.
pub struct Sealed<S> {
    store: S,
    keys: Keys,
    settings: Builder,
}

/// How results are compressed before they are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4: fast, and good enough for JSON. What does not get shorter is left as it is.
    Lz4,
}

type Scrub = Arc<dyn Fn(StoredResponse) -> Option<StoredResponse> + Send + Sync>;

/// Makes a [`Sealed`] with settings of one's own.
///
/// # Example
/// ```
/// use onlyonce_memory::MemoryStore;
/// use onlyonce_sealed::{KeyRing, Sealed, SealingKey};
///
/// # fn main() -> Result<(), onlyonce_sealed::KeyError> {
/// let store = Sealed::builder()
///     .keys(KeyRing::new("k1", SealingKey::random())?)
///     .accept_plain(true)
///     .scrub(|mut response| {
///         response.headers.retain(|(name, _)| name != "set-cookie");
///         Some(response)
///     })
///     .build(MemoryStore::new());
/// # let _ = store;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Builder {
    ring: Option<KeyRing>,
    compression: Compression,
    accept_plain: bool,
    most: usize,
    scrub: Option<Scrub>,
}

impl Builder {
    /// The keys. Default: none, and results are scrubbed and compressed but not sealed.
    pub fn keys(mut self, ring: KeyRing) -> Self {
        self.ring = Some(ring);
        self
    }

    /// Compresses results. Default: no.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Reads results that are not sealed, from before this wrapper was there. Default: no, they
    /// are an error. Without keys they are always read.
    pub fn accept_plain(mut self, accept: bool) -> Self {
        self.accept_plain = accept;
        self
    }

    /// The longest result that is compressed or made of a compressed one, in bytes. Longer ones
    /// are sealed as they are. Default: 64 MiB.
    pub fn max_unpacked(mut self, bytes: usize) -> Self {
        self.most = bytes;
        self
    }

    /// Takes out of each response what must not be stored; `None` keeps nothing of it, and its
    /// retries get 409 `response-not-kept`. Results that are no HTTP responses don't come here.
    /// It runs on the task that records, and must not block.
    pub fn scrub(
        mut self,
        scrub: impl Fn(StoredResponse) -> Option<StoredResponse> + Send + Sync + 'static,
    ) -> Self {
        self.scrub = Some(Arc::new(scrub));
        self
    }

    /// Puts the wrapper around `store`.
    pub fn build<S>(mut self, store: S) -> Sealed<S> {
        Sealed {
            store,
            keys: Keys::new(self.ring.take()),
            settings: self,
        }
    }
}

impl Sealed<()> {
    /// Begins to make a store that seals.
    pub fn builder() -> Builder {
        Builder {
            ring: None,
            compression: Compression::None,
            accept_plain: false,
            most: 64 << 20,
            scrub: None,
        }
    }
}

impl<S> Sealed<S> {
    /// The keys, to be replaced while the store runs.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.keys.clone()
    }

    fn seal(&self, id: &RecordId, status: u16, result: &Bytes) -> Option<Bytes> {
        let scrubbed = self.scrub(result)?;
        let ring = self.keys.current();
        let compress = self.settings.compression != Compression::None;
        let place = Place { id, status };
        let most = self.settings.most;
        Some(envelope::seal(
            &scrubbed,
            place,
            ring.as_deref(),
            compress,
            most,
        ))
    }

    fn scrub(&self, result: &Bytes) -> Option<Bytes> {
        let Some(scrub) = &self.settings.scrub else {
            return Some(result.clone());
        };
        match codec::decode_response(result.clone()) {
            Ok(response) => Some(codec::encode_response(&scrub(response)?)),
            // A function's result.
            Err(_) => Some(result.clone()),
        }
    }

    fn open(
        &self,
        operation: Operation,
        id: &RecordId,
        mut record: Record,
    ) -> Result<Record, StoreError> {
        if let State::Completed {
            status,
            kept: Some(kept),
        } = &mut record.state
        {
            let ring = self.keys.current();
            let place = Place {
                id,
                status: *status,
            };
            let stored = std::mem::take(kept);
            let (plain, most) = (self.settings.accept_plain, self.settings.most);
            let key = envelope::key(&stored).unwrap_or("none").to_owned();
            let opened = envelope::open(stored, place, ring.as_deref(), plain, most);
            // Only now: who can write to the store could name any number of keys.
            telemetry::count(opened.as_ref().map(|_| key));
            *kept = opened.map_err(|error| failed(operation, id, error))?;
        }
        Ok(record)
    }
}

fn failed(operation: Operation, id: &RecordId, error: OpenError) -> StoreError {
    let kind = match error {
        OpenError::NoKey(_) | OpenError::Plain => StoreErrorKind::Misconfigured,
        OpenError::Altered(_) | OpenError::Version(_) | OpenError::Damaged(_) => {
            StoreErrorKind::Corrupt
        }
    };
    let message = format!("the result of record {} can't be opened: {error}", id.tag());
    StoreError::new(operation, kind, message).with_source(error)
}

impl<S: Store> Store for Sealed<S> {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        Ok(match self.store.claim(attempt).await? {
            Claim::Held(record) => Claim::Held(self.open(Operation::Claim, &attempt.id, record)?),
            won @ Claim::Won(_) => won,
        })
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
        let Done::Kept { status, result } = &completion.done else {
            return self.store.complete(lease, completion, keep).await;
        };
        let status = *status;
        let done = match self.seal(&lease.id, status, result) {
            Some(result) => Done::Kept { status, result },
            None => Done::NotKept { status },
        };
        let sealed = Completion {
            fingerprint: completion.fingerprint,
            done,
        };
        self.store.complete(lease, &sealed, keep).await
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        self.store.release(lease).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.store.watch(id).await
    }
}

impl<S: Inspect> Inspect for Sealed<S> {
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
        self.store.list(page)
    }

    /// Opens the result.
    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
        Box::pin(async move {
            let shown = self.store.show(id).await?;
            let opened = shown.map(|record| self.open(Operation::Inspect, id, record));
            opened.transpose()
        })
    }

    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved> {
        Box::pin(async move {
            let Resolution::Completed {
                status,
                result: Some(result),
            } = resolution
            else {
                return self.store.resolve(id, resolution).await;
            };
            let sealed = Resolution::Completed {
                status: *status,
                result: self.seal(id, *status, result),
            };
            self.store.resolve(id, &sealed).await
        })
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        self.store.forget(id)
    }

    fn count(&self) -> InspectFuture<'_, Counts> {
        self.store.count()
    }
}

impl<S: Invalidations> Invalidations for Sealed<S> {
    fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription {
        self.store.subscribe(listener)
    }
}

/// What all who share the store go by is the store's own to keep.
impl<S: Pepper> Pepper for Sealed<S> {
    fn keep<'a>(&'a self, offer: Option<&'a KeptSecret>) -> InspectFuture<'a, Option<KeptSecret>> {
        self.store.keep(offer)
    }

    fn place(&self) -> String {
        self.store.place()
    }
}

impl<S: fmt::Debug> fmt::Debug for Sealed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("store", &self.store)
            .field("keys", &self.keys)
            .field("settings", &self.settings)
            .finish()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("compression", &self.compression)
            .field("accept_plain", &self.accept_plain)
            .field("scrubs", &self.scrub.is_some())
            .finish_non_exhaustive()
    }
}
