//! A part of the records, under a lock of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use onlyonce_core::{Entry, RecordId, Timestamp};

/// A part of the records, under a lock of its own.
///
/// A lock is held for one record's step, never across an await and never while another shard's is
/// held: there is no order in which two could be taken wrongly.
#[derive(Debug)]
pub(crate) struct Shard {
    records: Mutex<Records>,
    /// The first deadline in `records`, for those who would rather not take the lock in vain.
    first_deadline: AtomicU64,
}

impl Shard {
    pub(crate) fn new() -> Self {
        Self {
            records: Mutex::default(),
            first_deadline: AtomicU64::new(u64::MAX),
        }
    }

    /// Does `step` with the lock held.
    pub(crate) fn with<T>(&self, step: impl FnOnce(&mut Records) -> T) -> T {
        // Nothing under the lock panics half-way: a poisoned one still guards whole records.
        let records = self.records.lock();
        self.step(records.unwrap_or_else(PoisonError::into_inner), step)
    }

    /// Does `step` with the lock held, unless another holds it just now.
    pub(crate) fn try_with<T>(&self, step: impl FnOnce(&mut Records) -> T) -> Option<T> {
        match self.records.try_lock() {
            Ok(records) => Some(self.step(records, step)),
            Err(TryLockError::Poisoned(records)) => Some(self.step(records.into_inner(), step)),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether a record has expired that is still here.
    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        self.first_deadline.load(Ordering::SeqCst) <= now.as_millis()
    }

    fn step<T>(
        &self,
        mut records: MutexGuard<'_, Records>,
        step: impl FnOnce(&mut Records) -> T,
    ) -> T {
        let done = step(&mut records);
        let first = records.by_deadline.first();
        let first = first.map_or(u64::MAX, |(deadline, _)| deadline.as_millis());
        self.first_deadline.store(first, Ordering::SeqCst);
        done
    }
}

/// Records, in the order of their identifiers and in that of their deadlines.
///
/// B-trees, as no insertion into one costs much more than another (a hash table that grows stops
/// everybody to move house), and as listings go by identifier.
#[derive(Debug, Default)]
pub(crate) struct Records {
    by_id: BTreeMap<RecordId, Box<Entry>>,
    /// One entry for each in `by_id`, always.
    by_deadline: BTreeSet<(Timestamp, RecordId)>,
}

impl Records {
    pub(crate) fn entry(&self, id: &RecordId) -> Option<&Entry> {
        self.by_id.get(id).map(AsRef::as_ref)
    }

    /// Puts an entry in, and gives back the one whose place it takes.
    pub(crate) fn put(&mut self, id: RecordId, entry: Box<Entry>) -> Option<Box<Entry>> {
        let deadline = entry.expires;
        let old = self.by_id.insert(id, entry);
        if let Some(old) = &old {
            self.by_deadline.remove(&(old.expires, id));
        }
        self.by_deadline.insert((deadline, id));
        old
    }

    pub(crate) fn remove(&mut self, id: &RecordId) -> Option<Box<Entry>> {
        let old = self.by_id.remove(id)?;
        self.by_deadline.remove(&(old.expires, *id));
        Some(old)
    }

    /// Removes expired records, `most` at most, those that expired first.
    pub(crate) fn retire(&mut self, now: Timestamp, most: usize) -> Vec<Entry> {
        let mut retired = Vec::new();
        while retired.len() < most
            && let Some((deadline, id)) = self.by_deadline.first().copied()
            && deadline <= now
        {
            retired.extend(self.remove(&id).map(|entry| *entry));
        }
        retired
    }

    /// Entries behind `after`, in order.
    pub(crate) fn range(
        &self,
        after: Option<RecordId>,
    ) -> impl Iterator<Item = (&RecordId, &Entry)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.by_id.range((start, Bound::Unbounded));
        range.map(|(id, entry)| (id, entry.as_ref()))
    }
}
