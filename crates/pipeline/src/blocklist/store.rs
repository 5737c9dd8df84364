//! Where the blocklist is kept.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use onlyonce_core::{Changes, StoreError, Timestamp};

use super::entry::{Draft, Entry, EntryId};

/// Where the entries of a blocklist are kept, for all nodes that share it.
///
/// Each call is all or nothing. A future that is dropped may or may not have had its effect. Calls
/// must come to an end, with an error where there is no answer: nobody else sets a time limit.
///
/// Times come from the caller: entries are made by people, and their expiry is a time of day.
///
/// # Example
/// [`MemoryBlocklist`](super::MemoryBlocklist) and [`FileBlocklist`](super::FileBlocklist) are
/// stores of this kind; those on Redis and PostgreSQL are in crates of their own.
pub trait BlocklistStore: Send + Sync + 'static {
    /// What has changed since a revision; everything, when `since` is `None` or the store can't
    /// tell.
    ///
    /// # Errors
    /// When the store fails. An entry that can't be read is no failure: it stands among the
    /// [unreadable](Listing::unreadable).
    fn list(
        &self,
        since: Option<Revision>,
    ) -> impl Future<Output = Result<Listing, StoreError>> + Send;

    /// These entries, as they are now, in any order; those that are not there are left out.
    ///
    /// # Errors
    /// When the store fails.
    fn look_up(
        &self,
        ids: &[EntryId],
    ) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send;

    /// Saves a new entry, [made](Draft::entry) at `now`, and gives it a name.
    ///
    /// # Errors
    /// When the store fails; it may or may not have been saved.
    fn add(
        &self,
        draft: &Draft,
        now: Timestamp,
    ) -> impl Future<Output = Result<(Revision, Entry), StoreError>> + Send;

    /// Saves [what is new](Draft::over) of an entry; `None` where there is none.
    ///
    /// # Errors
    /// When the store fails; it may or may not have been saved.
    fn update(
        &self,
        id: EntryId,
        draft: &Draft,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<(Revision, Entry)>, StoreError>> + Send;

    /// Removes an entry, also one that can't be read; `None` where there is none.
    ///
    /// # Errors
    /// When the store fails; it may or may not have been removed.
    fn remove(
        &self,
        id: EntryId,
    ) -> impl Future<Output = Result<Option<Revision>, StoreError>> + Send;

    /// Adds to the numbers of hits. Makes no new revision, and passes over entries that are gone.
    ///
    /// # Errors
    /// When the store fails; some may have been added.
    fn add_hits(
        &self,
        hits: &[(EntryId, u64)],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Watches for changes, of whichever node: the returned [`Changes`] resolves when there was a
    /// new revision since this call returned.
    ///
    /// It may resolve without cause; where it may miss a change it resolves. Callers also look by
    /// themselves, seldom. Dropping it ends the watch.
    ///
    /// # Errors
    /// When the store fails.
    fn watch(&self) -> impl Future<Output = Result<Changes, StoreError>> + Send;
}

/// A state of the whole blocklist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Another one whenever the store may have been emptied or replaced: numbers of different
    /// epochs say nothing of each other.
    pub epoch: u64,
    /// One more with every change.
    pub number: u64,
}

/// What has changed, or everything.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The state that this leads to.
    pub revision: Revision,
    /// Whether this is everything: what is not in it is not there. Otherwise it is what has changed
    /// since the revision that was asked for.
    pub complete: bool,
    /// Entries that are new or changed.
    pub entries: Vec<Entry>,
    /// Entries that are gone.
    pub removed: Vec<EntryId>,
    /// Entries of which not even the parts can be read.
    pub unreadable: Vec<Unreadable>,
}

impl Listing {
    /// Says that nothing has changed.
    #[must_use]
    pub const fn nothing_new(revision: Revision) -> Self {
        Self {
            revision,
            complete: false,
            entries: Vec::new(),
            removed: Vec::new(),
            unreadable: Vec::new(),
        }
    }
}

/// An entry that somebody else wrote, and nobody here understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its name, where at least that can be read.
    pub id: Option<EntryId>,
    /// Where it stands, and what is wrong with it.
    pub reason: String,
}

/// Any [`BlocklistStore`], shared. Cloning is cheap and gives the same store.
#[derive(Clone)]
pub struct SharedBlocklistStore(Arc<dyn DynStore>);

impl<S: BlocklistStore> From<S> for SharedBlocklistStore {
    fn from(store: S) -> Self {
        Self(Arc::new(store))
    }
}

impl fmt::Debug for SharedBlocklistStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedBlocklistStore")
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Object-safe twin of [`BlocklistStore`].
trait DynStore: Send + Sync {
    fn list(&self, since: Option<Revision>) -> BoxFuture<'_, Listing>;
    fn look_up<'a>(&'a self, ids: &'a [EntryId]) -> BoxFuture<'a, Vec<Entry>>;
    fn add<'a>(&'a self, draft: &'a Draft, now: Timestamp) -> BoxFuture<'a, (Revision, Entry)>;
    fn update<'a>(
        &'a self,
        id: EntryId,
        draft: &'a Draft,
        now: Timestamp,
    ) -> BoxFuture<'a, Option<(Revision, Entry)>>;
    fn remove(&self, id: EntryId) -> BoxFuture<'_, Option<Revision>>;
    fn add_hits<'a>(&'a self, hits: &'a [(EntryId, u64)]) -> BoxFuture<'a, ()>;
    fn watch(&self) -> BoxFuture<'_, Changes>;
}

impl<S: BlocklistStore> DynStore for S {
    fn list(&self, since: Option<Revision>) -> BoxFuture<'_, Listing> {
        Box::pin(BlocklistStore::list(self, since))
    }

    fn look_up<'a>(&'a self, ids: &'a [EntryId]) -> BoxFuture<'a, Vec<Entry>> {
        Box::pin(BlocklistStore::look_up(self, ids))
    }

    fn add<'a>(&'a self, draft: &'a Draft, now: Timestamp) -> BoxFuture<'a, (Revision, Entry)> {
        Box::pin(BlocklistStore::add(self, draft, now))
    }

    fn update<'a>(
        &'a self,
        id: EntryId,
        draft: &'a Draft,
        now: Timestamp,
    ) -> BoxFuture<'a, Option<(Revision, Entry)>> {
        Box::pin(BlocklistStore::update(self, id, draft, now))
    }

    fn remove(&self, id: EntryId) -> BoxFuture<'_, Option<Revision>> {
        Box::pin(BlocklistStore::remove(self, id))
    }

    fn add_hits<'a>(&'a self, hits: &'a [(EntryId, u64)]) -> BoxFuture<'a, ()> {
        Box::pin(BlocklistStore::add_hits(self, hits))
    }

    fn watch(&self) -> BoxFuture<'_, Changes> {
        Box::pin(BlocklistStore::watch(self))
    }
}

/// As those of [`BlocklistStore`].
impl SharedBlocklistStore {
    pub(super) async fn list(&self, since: Option<Revision>) -> Result<Listing, StoreError> {
        self.0.list(since).await
    }

    pub(super) async fn look_up(&self, ids: &[EntryId]) -> Result<Vec<Entry>, StoreError> {
        self.0.look_up(ids).await
    }

    pub(super) async fn add(
        &self,
        draft: &Draft,
        now: Timestamp,
    ) -> Result<(Revision, Entry), StoreError> {
        self.0.add(draft, now).await
    }

    pub(super) async fn update(
        &self,
        id: EntryId,
        draft: &Draft,
        now: Timestamp,
    ) -> Result<Option<(Revision, Entry)>, StoreError> {
        self.0.update(id, draft, now).await
    }

    pub(super) async fn remove(&self, id: EntryId) -> Result<Option<Revision>, StoreError> {
        self.0.remove(id).await
    }

    pub(super) async fn add_hits(&self, hits: &[(EntryId, u64)]) -> Result<(), StoreError> {
        self.0.add_hits(hits).await
    }

    pub(super) async fn watch(&self) -> Result<Changes, StoreError> {
        self.0.watch().await
    }
}
