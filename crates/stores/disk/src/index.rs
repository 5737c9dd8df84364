//! What is kept in memory: for each live record where it lies, and for those that are not
//! completed all of it.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};

use onlyonce_core::{Entry, EntryState, RecordId, Timestamp};

use crate::log::Position;

/// Many small tables rather than a large one: each grows by itself, and a sweep or a listing
/// holds the lock for one of them at a time.
pub(crate) const SHARDS: usize = 1024;

/// Where a record lies. 32 bytes; with its identifier that makes 64 for each kept key.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// When the record is as good as absent.
    pub(crate) expires: Timestamp,
    /// Its frame.
    pub(crate) at: Position,
    /// Its frame's length.
    pub(crate) size: u32,
    /// Whether a completed record has its result.
    pub(crate) kept: bool,
    /// The record itself while it is not completed: the next step needs it at once.
    pub(crate) open: Option<Box<Entry>>,
}

impl Slot {
    pub(crate) fn new(entry: Box<Entry>, at: Position, size: u32) -> Self {
        let (completed, kept) = match &entry.state {
            EntryState::Completed { kept, .. } => (true, kept.is_some()),
            EntryState::InProgress { .. } | EntryState::Unknown => (false, false),
        };
        Self {
            expires: entry.expires,
            at,
            size,
            kept,
            open: (!completed).then_some(entry),
        }
    }

    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires
    }

    fn in_progress(&self) -> bool {
        self.open.as_ref().is_some_and(|entry| entry.in_progress())
    }
}

/// What is known of one segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    /// Length of its file.
    pub(crate) capacity: u32,
    /// Where its frames end, once another has been begun.
    pub(crate) end: u32,
    /// Bytes of the frames that the index points to.
    pub(crate) live: u64,
}

/// All live records, and what their segments hold. Expired ones stay until they are swept.
#[derive(Debug)]
pub(crate) struct Index {
    shards: Vec<HashMap<RecordId, Slot>>,
    segments: BTreeMap<u32, Account>,
    len: usize,
    in_progress: usize,
    live: u64,
}

impl Index {
    pub(crate) fn new() -> Self {
        let hasher = RandomState::new();
        Self {
            shards: vec![HashMap::with_hasher(hasher); SHARDS],
            segments: BTreeMap::new(),
            len: 0,
            in_progress: 0,
            live: 0,
        }
    }

    /// How many records there are, expired ones that were not swept yet among them.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many owners are at work, or have vanished.
    pub(crate) fn in_progress(&self) -> usize {
        self.in_progress
    }

    /// Bytes in the log that are still needed.
    pub(crate) fn live(&self) -> u64 {
        self.live
    }

    pub(crate) fn find(&self, id: &RecordId) -> Option<&Slot> {
        self.shards[shard_of(id)].get(id)
    }

    pub(crate) fn put(&mut self, id: RecordId, slot: Slot) {
        self.len += 1;
        self.in_progress += usize::from(slot.in_progress());
        self.live += u64::from(slot.size);
        if let Some(account) = self.segments.get_mut(&slot.at.segment) {
            account.live += u64::from(slot.size);
        }
        if let Some(old) = self.shards[shard_of(&id)].insert(id, slot) {
            self.forget(&old);
        }
    }

    pub(crate) fn remove(&mut self, id: &RecordId) {
        if let Some(old) = self.shards[shard_of(id)].remove(id) {
            self.forget(&old);
        }
    }

    /// The record was copied to another place.
    pub(crate) fn moved(&mut self, id: &RecordId, to: Position) {
        if let Some(slot) = self.shards[shard_of(id)].get_mut(id) {
            let size = u64::from(slot.size);
            if let Some(account) = self.segments.get_mut(&slot.at.segment) {
                account.live -= size;
            }
            slot.at = to;
            if let Some(account) = self.segments.get_mut(&to.segment) {
                account.live += size;
            }
        }
    }

    /// Takes those expired records out of one shard that lie before `durable`. The others are
    /// still needed: to say what has to be durable before they may count as gone.
    pub(crate) fn sweep(&mut self, shard: usize, now: Timestamp, durable: Position) -> usize {
        let expired: Vec<Slot> = self.shards[shard]
            .extract_if(|_, slot| slot.is_expired(now) && slot.at < durable)
            .map(|(_, slot)| slot)
            .collect();
        for slot in &expired {
            self.forget(slot);
        }
        let table = &mut self.shards[shard];
        // What a burst has taken is given back, but not so eagerly that it is asked for again.
        if table.capacity() > 64 && table.len() < table.capacity() / 8 {
            table.shrink_to(table.len() * 2);
        }
        expired.len()
    }

    /// The records of one shard, in no order. Shards are in the order of identifiers.
    pub(crate) fn shard(&self, shard: usize) -> impl Iterator<Item = (&RecordId, &Slot)> {
        self.shards[shard].iter()
    }

    pub(crate) fn add_segment(&mut self, number: u32, capacity: u32) {
        let account = Account {
            capacity,
            end: capacity,
            live: 0,
        };
        self.segments.insert(number, account);
    }

    pub(crate) fn seal_segment(&mut self, number: u32, end: u32) {
        if let Some(account) = self.segments.get_mut(&number) {
            account.end = end;
        }
    }

    pub(crate) fn drop_segment(&mut self, number: u32) {
        self.segments.remove(&number);
    }

    /// All segments, oldest first.
    pub(crate) fn segments(&self) -> &BTreeMap<u32, Account> {
        &self.segments
    }

    /// Bytes that the segments take on the disk.
    pub(crate) fn allocated(&self) -> u64 {
        self.segments
            .values()
            .map(|account| u64::from(account.capacity))
            .sum()
    }

    fn forget(&mut self, slot: &Slot) {
        self.len -= 1;
        self.in_progress -= usize::from(slot.in_progress());
        self.live -= u64::from(slot.size);
        if let Some(account) = self.segments.get_mut(&slot.at.segment) {
            account.live -= u64::from(slot.size);
        }
    }
}

/// The first ten bits, so that the shards follow each other as the identifiers do.
pub(crate) fn shard_of(id: &RecordId) -> usize {
    let bytes = id.as_bytes();
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]) >> 6)
}
