//! How much room the records take, and how much there is.

use std::sync::atomic::{AtomicUsize, Ordering};

use onlyonce_core::{Entry, EntryState, RecordId, Timestamp};

/// Room taken and room there is, for all shards together.
///
/// Two counters, each moved by one atomic step: a claim takes its room before it is written, and
/// room is given back in the same critical section in which a record goes.
#[derive(Debug)]
pub(crate) struct Budget {
    records: AtomicUsize,
    bytes: AtomicUsize,
    max_records: usize,
    max_bytes: usize,
}

impl Budget {
    pub(crate) fn new(max_records: usize, max_bytes: usize) -> Self {
        Self {
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            max_records,
            max_bytes,
        }
    }

    /// Takes room for one more record, if there is.
    pub(crate) fn reserve(&self, entry: &Entry) -> bool {
        if !take(&self.records, 1, self.max_records) {
            return false;
        }
        let fits = take(&self.bytes, cost(entry), self.max_bytes);
        if !fits {
            self.records.fetch_sub(1, Ordering::SeqCst);
        }
        fits
    }

    /// A record was changed: its new size counts, whether or not there is room.
    pub(crate) fn replace(&self, old: &Entry, new: &Entry) {
        let (old, new) = (cost(old), cost(new));
        if new >= old {
            self.bytes.fetch_add(new - old, Ordering::SeqCst);
        } else {
            self.bytes.fetch_sub(old - new, Ordering::SeqCst);
        }
    }

    /// A record has gone.
    pub(crate) fn give_back(&self, entry: &Entry) {
        self.records.fetch_sub(1, Ordering::SeqCst);
        self.bytes.fetch_sub(cost(entry), Ordering::SeqCst);
    }

    pub(crate) fn records(&self) -> usize {
        self.records.load(Ordering::SeqCst)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "{} of {} records, {} of {} bytes",
            self.records(),
            self.max_records,
            self.bytes(),
            self.max_bytes,
        )
    }
}

fn take(counter: &AtomicUsize, more: usize, most: usize) -> bool {
    let within = |taken: usize| taken.checked_add(more).filter(|sum| *sum <= most);
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, within)
        .is_ok()
}

/// Bytes that a record takes, estimated from above.
///
/// A B-tree's node is at worst half full (a factor of two); each of the record's own allocations
/// (the entry, its label, its result and the result's reference count) costs the allocator some
/// 16 bytes besides.
fn cost(entry: &Entry) -> usize {
    const NODES: usize =
        2 * (size_of::<(RecordId, Box<Entry>)>() + size_of::<(Timestamp, RecordId)>());
    const FIXED: usize = NODES + size_of::<Entry>() + 4 * 16;
    let kept = match &entry.state {
        EntryState::Completed {
            kept: Some(kept), ..
        } => kept.len(),
        EntryState::Completed { kept: None, .. }
        | EntryState::InProgress { .. }
        | EntryState::Unknown => 0,
    };
    FIXED + entry.label.len() + kept
}
