//! The blocklist in this process.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{counter, gauge};
use onlyonce_core::{Clock, Operation, StoreError, StoreErrorKind, Timestamp};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::entry::{Draft, Entry, EntryId};
use super::error::BlocklistError;
use super::options::BlocklistOptions;
use super::refresh;
use super::rules::{Book, Rule, Snapshot};
use super::store::{Listing, Revision, SharedBlocklistStore, Unreadable};
use super::syntax::AddressSet;

/// The blocklist: looked up in memory, kept in a [store](super::BlocklistStore), the same on all
/// nodes that share the store. Cloning is cheap and gives the same blocklist.
///
/// Lookups are made in a snapshot that never changes, without a lock; a change swaps in another.
/// What is changed here is in force here when the call returns, and elsewhere when the store's
/// word has arrived. While the store can't be read, the last snapshot stays in force; that is
/// logged and counted (`onlyonce_blocklist_reload_failures_total`).
///
/// Two tasks belong to it, which end with its last clone.
///
/// # Example
/// ```
/// use onlyonce_pipeline::blocklist::{Blocklist, Draft, MemoryBlocklist};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let blocklist = Blocklist::load(MemoryBlocklist::new()).await?;
/// let entry = blocklist.add(&Draft::new("203.0.113.0/24")).await?;
/// assert_eq!(blocklist.find("203.0.113.9".parse()?), Some(entry.id));
/// assert!(blocklist.remove(entry.id).await?);
/// assert_eq!(blocklist.find("203.0.113.9".parse()?), None);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Blocklist(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) store: SharedBlocklistStore,
    clock: Arc<dyn Clock>,
    snapshot: ArcSwap<Snapshot>,
    book: Mutex<Book>,
    /// Reloads don't overtake each other.
    reloading: tokio::sync::Mutex<()>,
    /// Rules whose hits the store does not know of; each stands here once.
    hit: Mutex<Vec<Arc<Rule>>>,
    pub(super) failures: AtomicU64,
    /// Something is to be looked at before its time.
    pub(super) wake: Arc<Notify>,
    pub(super) options: BlocklistOptions,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// However slow a store is, some time it has answered.
const RELOAD_LIMIT: Duration = Duration::from_secs(120);
const WRITE_LIMIT: Duration = Duration::from_secs(15);

impl Blocklist {
    /// Loads the blocklist of a store, with default [options](BlocklistOptions).
    ///
    /// # Errors
    /// When the store can't be read, or holds more than there is room for: no blocklist is better
    /// than one that lets everybody in, unknown to anybody.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn load(store: impl Into<SharedBlocklistStore>) -> Result<Self, BlocklistError> {
        Self::load_with(store, BlocklistOptions::new()).await
    }

    /// Loads the blocklist of a store.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn load_with(
        store: impl Into<SharedBlocklistStore>,
        options: BlocklistOptions,
    ) -> Result<Self, BlocklistError> {
        let book = Book::new(options.most_prefixes);
        let blocklist = Self(Arc::new(Inner {
            store: store.into(),
            clock: Arc::clone(&options.clock),
            snapshot: ArcSwap::from_pointee(book.snapshot()),
            book: Mutex::new(book),
            reloading: tokio::sync::Mutex::default(),
            hit: Mutex::default(),
            failures: AtomicU64::new(0),
            wake: Arc::default(),
            options,
            tasks: Mutex::default(),
        }));
        blocklist.reload().await?;
        let tasks = [
            tokio::spawn(refresh::keep_up(Arc::downgrade(&blocklist.0))),
            tokio::spawn(refresh::flush(Arc::downgrade(&blocklist.0))),
        ];
        let mut handles = lock(&blocklist.0.tasks);
        handles.extend(tasks.iter().map(tokio::task::JoinHandle::abort_handle));
        drop(handles);
        Ok(blocklist)
    }

    /// Whether an address is on the blocklist, and by which entry: of several, by one of the
    /// narrowest. Counts nothing.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<EntryId> {
        let snapshot = self.0.snapshot.load();
        snapshot.find(address, self.0.now()).map(|rule| rule.id)
    }

    /// As [`find`](Self::find), for a request that is refused by it: counts a hit.
    #[must_use = "a request with a hit is to be refused"]
    pub fn hit(&self, address: IpAddr) -> Option<EntryId> {
        let snapshot = self.0.snapshot.load();
        let rule = snapshot.find(address, self.0.now())?;
        counter!("onlyonce_blocklist_hits_total").increment(1);
        if rule.hits.fetch_add(1, Ordering::Relaxed) == 0 {
            lock(&self.0.hit).push(Arc::clone(rule));
        }
        Some(rule.id)
    }

    /// Adds an entry. It is in force here at once.
    ///
    /// # Errors
    /// [`BlocklistError::Draft`] when it can't be saved so, and nothing has happened;
    /// [`BlocklistError::Full`] when there is no room for it, and nothing has happened; else when
    /// the store fails: then it may or may not have been saved.
    ///
    /// # Cancellation safety
    /// Dropped, it may or may not have been saved; what was saved comes into force.
    pub async fn add(&self, draft: &Draft) -> Result<Entry, BlocklistError> {
        let now = self.0.now();
        let set = draft.check_new(now)?;
        self.0.check_room(&set)?;
        let adding = self.0.store.add(draft, now);
        let (revision, entry) = in_time(WRITE_LIMIT, adding).await?;
        self.enforce(revision, Change::Put(&entry, &set)).await?;
        Ok(entry)
    }

    /// Changes all that a person says of an entry; `None` where there is no such entry. It is in
    /// force here at once.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    ///
    /// # Cancellation safety
    /// As [`add`](Self::add).
    pub async fn update(
        &self,
        id: EntryId,
        draft: &Draft,
    ) -> Result<Option<Entry>, BlocklistError> {
        let set = draft.check()?;
        self.0.check_room(&set)?;
        let updating = self.0.store.update(id, draft, self.0.now());
        let Some((revision, entry)) = in_time(WRITE_LIMIT, updating).await? else {
            return Ok(None);
        };
        self.enforce(revision, Change::Put(&entry, &set)).await?;
        Ok(Some(entry))
    }

    /// Removes an entry, at once in force here. Whether there was one.
    ///
    /// # Errors
    /// When the store fails: it may or may not have been removed.
    ///
    /// # Cancellation safety
    /// As [`add`](Self::add).
    pub async fn remove(&self, id: EntryId) -> Result<bool, BlocklistError> {
        let removing = self.0.store.remove(id);
        let Some(revision) = in_time(WRITE_LIMIT, removing).await? else {
            return Ok(false);
        };
        self.enforce(revision, Change::Remove(id)).await?;
        Ok(true)
    }

    /// Up to `most` entries, in the order of their names, those after `after`; with hits as the
    /// store has them and those of this node. Entries that nobody understands are
    /// [elsewhere](Self::unreadable).
    ///
    /// # Errors
    /// When the store fails.
    pub async fn entries(
        &self,
        after: Option<EntryId>,
        most: usize,
    ) -> Result<Vec<Entry>, BlocklistError> {
        let ids = lock(&self.0.book).ids_after(after, most);
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut entries = in_time(WRITE_LIMIT, self.0.store.look_up(&ids)).await?;
        entries.sort_by_key(|entry| entry.id);
        let book = lock(&self.0.book);
        for entry in &mut entries {
            entry.hits = entry.hits.saturating_add(book.pending_hits(entry.id));
        }
        Ok(entries)
    }

    /// Entries that somebody else wrote into the store and nobody here understands: they refuse
    /// nobody. Each with what is wrong with it; 1,000 at most.
    #[must_use]
    pub fn unreadable(&self) -> Vec<Unreadable> {
        let book = lock(&self.0.book);
        let unreadable = book.unreadable().map(|(id, reason)| Unreadable {
            id: Some(id),
            reason: reason.to_owned(),
        });
        unreadable.collect()
    }

    /// What there is of it.
    #[must_use]
    pub fn stats(&self) -> BlocklistStats {
        let book = lock(&self.0.book);
        BlocklistStats {
            entries: book.len(),
            prefixes: book.prefixes(),
            unreadable: book.unreadable().count(),
            failed_reloads: self.0.failures.load(Ordering::Relaxed),
        }
    }

    /// Looks at the store now. On an error the last good state stays in force.
    ///
    /// # Errors
    /// When the store fails, or holds more than there is room for.
    pub async fn reload(&self) -> Result<(), BlocklistError> {
        self.0.reload().await
    }

    /// Gives the hits to the store that it does not know of yet. For the end of a process.
    ///
    /// # Errors
    /// When the store fails: they are given another time.
    ///
    /// # Cancellation safety
    /// Dropped, those under way may be lost.
    pub async fn flush_hits(&self) -> Result<(), BlocklistError> {
        self.0.flush_hits().await
    }

    /// Something has been saved: it is to be in force when this returns.
    async fn enforce(&self, revision: Revision, change: Change<'_>) -> Result<(), BlocklistError> {
        let inner = &self.0;
        {
            let mut book = lock(&inner.book);
            if book.has(revision) {
                return Ok(());
            }
            if book.is_next(revision) {
                change.make(&mut book, inner.now())?;
                book.reach(revision);
                inner.publish(&book);
                return Ok(());
            }
        }
        // Others have changed something, too.
        let reloaded = inner.reload().await;
        let mut book = lock(&inner.book);
        if reloaded.is_ok() && book.has(revision) {
            return Ok(());
        }
        // It is in force, and will be looked at again.
        change.make(&mut book, inner.now())?;
        if reloaded.is_ok() {
            // Made before the store lost its count, and maybe over what came after.
            book.doubt();
        }
        inner.publish(&book);
        inner.wake.notify_one();
        Ok(())
    }
}

enum Change<'a> {
    Put(&'a Entry, &'a AddressSet),
    Remove(EntryId),
}

impl Change<'_> {
    fn make(&self, book: &mut Book, now: Timestamp) -> Result<(), BlocklistError> {
        match self {
            Self::Put(entry, set) => book.put(entry, set, now).map_err(|_| BlocklistError::Full),
            Self::Remove(id) => {
                book.remove(*id);
                Ok(())
            }
        }
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) async fn reload(&self) -> Result<(), BlocklistError> {
        let _reloading = self.reloading.lock().await;
        let since = lock(&self.book).revision();
        let listing = in_time(RELOAD_LIMIT, self.store.list(since)).await?;
        if listing.complete {
            return self.take_whole(listing, since).await;
        }
        let mut book = lock(&self.book);
        // A change of this node's own may have come in meanwhile.
        if book.has(listing.revision) && book.revision() != since {
            return Ok(());
        }
        if book.revision() == Some(listing.revision) {
            return Ok(());
        }
        let taken = book.take(listing, self.now());
        let unreadable = taken.map_err(|_| BlocklistError::Full)?;
        self.publish(&book);
        drop(book);
        tell_of(&unreadable);
        Ok(())
    }

    /// Puts all of a list in the place of what was known, and makes it where that holds up nobody:
    /// a million entries take a second.
    async fn take_whole(
        &self,
        listing: Listing,
        since: Option<Revision>,
    ) -> Result<(), BlocklistError> {
        let (most, now) = (self.options.most_prefixes, self.now());
        let revision = listing.revision;
        let made = tokio::task::spawn_blocking(move || {
            let mut book = Book::new(most);
            book.take(listing, now).map(|unreadable| (book, unreadable))
        });
        let made = made.await.map_err(|error| {
            let message = "the list could not be made ready for lookups";
            let kind = StoreErrorKind::Corrupt;
            let error = StoreError::new(Operation::Inspect, kind, message).with_source(error);
            BlocklistError::Store(error)
        })?;
        let (new, unreadable) = made.map_err(|_| BlocklistError::Full)?;
        let old = {
            let mut book = lock(&self.book);
            // A change of this node's own may have come in meanwhile.
            if book.has(revision) && book.revision() != since {
                return Ok(());
            }
            let old = std::mem::replace(&mut *book, new);
            self.publish(&book);
            old
        };
        // Letting go of it takes as long.
        drop(tokio::task::spawn_blocking(move || drop(old)));
        tell_of(&unreadable);
        Ok(())
    }

    pub(super) async fn flush_hits(&self) -> Result<(), BlocklistError> {
        loop {
            let rules = {
                let mut hit = lock(&self.hit);
                let left = hit.len().saturating_sub(BATCH);
                hit.split_off(left)
            };
            if rules.is_empty() {
                return Ok(());
            }
            let counts = rules
                .iter()
                .map(|rule| rule.hits.swap(0, Ordering::Relaxed));
            let counts: Vec<u64> = counts.collect();
            let hits = rules.iter().zip(&counts);
            let hits: Vec<_> = hits.map(|(rule, count)| (rule.id, *count)).collect();
            if let Err(error) = in_time(WRITE_LIMIT, self.store.add_hits(&hits)).await {
                for (rule, count) in rules.into_iter().zip(counts) {
                    if rule.hits.fetch_add(count, Ordering::Relaxed) == 0 {
                        lock(&self.hit).push(rule);
                    }
                }
                return Err(error);
            }
        }
    }

    fn check_room(&self, set: &AddressSet) -> Result<(), BlocklistError> {
        let needed = set.prefixes().count();
        let used = lock(&self.book).prefixes();
        if used + needed > self.options.most_prefixes {
            return Err(BlocklistError::Full);
        }
        Ok(())
    }

    fn publish(&self, book: &Book) {
        self.snapshot.store(Arc::new(book.snapshot()));
        #[expect(clippy::cast_precision_loss, reason = "a gauge shows no more digits")]
        gauge!("onlyonce_blocklist_entries").set(book.len() as f64);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

fn tell_of(unreadable: &[Unreadable]) {
    for one in unreadable {
        tracing::warn!(reason = %one.reason, "an entry of the blocklist is left out");
    }
}

/// Rules whose hits go to the store at once.
const BATCH: usize = 1_000;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, BlocklistError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(BlocklistError::Store),
        Err(_) => Err(BlocklistError::Silent { limit }),
    }
}

impl fmt::Debug for Blocklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocklist")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// What there is of a blocklist, on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlocklistStats {
    /// Entries, on or off.
    pub entries: usize,
    /// Prefixes that are looked up in.
    pub prefixes: usize,
    /// Entries that nobody understands, 1,000 at most.
    pub unreadable: usize,
    /// How often the store could not be read since the start.
    pub failed_reloads: u64,
}
