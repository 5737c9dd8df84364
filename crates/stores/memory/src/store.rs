//! The store: locks, room and time around the transitions of [`Entry`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, ClaimStep, Clock, CompleteStep, Completion, Entry, Fence, Fenced,
    InvalidationHub, Lease, Operation, RecordId, Renewal, Store, StoreError, StoreErrorKind,
    Timestamp, Watchers,
};

use crate::Builder;
use crate::budget::Budget;
use crate::shard::{Records, Shard};

/// Records in this process's memory. Cloning is cheap and gives the same store.
///
/// See the [crate's documentation](crate) for bounds, expiry and fences.
#[derive(Clone)]
pub struct MemoryStore(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) clock: Arc<dyn Clock>,
    /// A power of two of them, in the order of the identifiers that they hold.
    pub(crate) shards: Box<[Shard]>,
    pub(crate) budget: Budget,
    pub(crate) watchers: Watchers,
    pub(crate) invalidations: InvalidationHub,
    next_fence: AtomicU64,
    /// Which shard is tidied up next, besides the one that is worked on.
    next_tidied: AtomicUsize,
}

/// Expired records that an operation removes from each of two shards. It adds one at most, so two
/// would do; four catch up sooner.
const RETIRED_IN_PASSING: usize = 4;
/// Expired records that are removed under one lock when room is needed.
const RETIRED_FOR_ROOM: usize = 64;

impl MemoryStore {
    /// An empty store with the defaults of [`builder`](Self::builder).
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Makes a store with settings of one's own.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn from_builder(builder: Builder) -> Self {
        let first_fence = builder.clock.now().as_millis().saturating_mul(1_000);
        Self(Arc::new(Inner {
            clock: builder.clock,
            shards: (0..builder.shards).map(|_| Shard::new()).collect(),
            budget: Budget::new(builder.max_records, builder.max_bytes),
            watchers: Watchers::new(),
            invalidations: InvalidationHub::in_process(),
            next_fence: AtomicU64::new(first_fence),
            next_tidied: AtomicUsize::new(0),
        }))
    }

    /// How many records it holds, expired ones that are still to be removed included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.budget.records()
    }

    /// Whether it holds no record at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes its records take, counted as for [`max_bytes`](Builder::max_bytes).
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.budget.bytes()
    }

    /// How many watches are open, over all records.
    #[must_use]
    pub fn open_watches(&self) -> usize {
        self.0.watchers.len()
    }
}

impl Store for MemoryStore {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        loop {
            if let Some(claim) = self.0.try_claim(attempt) {
                return Ok(claim);
            }
            // Some of the room may be taken by what has expired. The second try comes after the
            // search even when that found nothing, as another may have been tidying up meanwhile.
            if self.0.make_room() == 0 {
                return self.0.try_claim(attempt).ok_or_else(|| self.0.full());
            }
        }
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        Ok(self.0.on(&lease.id, |records, now| {
            let entry = records.entry(&lease.id);
            match entry.and_then(|entry| entry.renew(lease, renewal, now)) {
                Some(renewed) => self.0.write(records, lease.id, Box::new(renewed)),
                None => (Fenced::Superseded, None),
            }
        }))
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let (fenced, written) = self.0.on(&lease.id, |records, now| {
            let entry = records.entry(&lease.id);
            match entry.map(|entry| entry.complete(lease, completion, keep, now)) {
                Some(CompleteStep::Write(completed)) => {
                    let (fenced, old) = self.0.write(records, lease.id, completed);
                    ((fenced, true), old)
                }
                Some(CompleteStep::Already) => ((Fenced::Applied, false), None),
                Some(CompleteStep::Superseded) | None => ((Fenced::Superseded, false), None),
            }
        });
        if written {
            self.0.watchers.notify(&lease.id);
        }
        Ok(fenced)
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        let fenced = self.0.on(&lease.id, |records, now| {
            let entry = records.entry(&lease.id);
            if entry.is_some_and(|entry| entry.may_release(lease, now)) {
                (Fenced::Applied, self.0.remove(records, &lease.id))
            } else {
                (Fenced::Superseded, None)
            }
        });
        if fenced == Fenced::Applied {
            self.0.watchers.notify(&lease.id);
        }
        Ok(fenced)
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        Ok(self.0.watchers.watch(id))
    }
}

impl Inner {
    /// Claims; `None` when there is no room.
    fn try_claim(&self, attempt: &Attempt) -> Option<Claim> {
        self.on(&attempt.id, |records, now| {
            let current = records.entry(&attempt.id);
            let step = Entry::claim(current, attempt, now, || self.draw_fence());
            match step {
                ClaimStep::Held(record) => (Some(Claim::Held(record)), None),
                ClaimStep::Write(entry) => {
                    // What is there already, expired or taken over, leaves its room to this one.
                    if current.is_none() && !self.budget.reserve(&entry) {
                        return (None, None);
                    }
                    let lease = entry.lease(attempt.id);
                    let old = records.put(attempt.id, entry);
                    if let (Some(old), Some(new)) = (&old, records.entry(&attempt.id)) {
                        self.budget.replace(old, new);
                    }
                    (Some(Claim::Won(lease)), old)
                }
            }
        })
    }

    /// Does `step` to the shard that `id` belongs to, at one moment of the store's clock, and
    /// tidies up a little. The entry that `step` gives back is dropped outside the lock, for it
    /// may be large.
    pub(crate) fn on<T>(
        &self,
        id: &RecordId,
        step: impl FnOnce(&mut Records, Timestamp) -> (T, Option<Box<Entry>>),
    ) -> T {
        let (done, now, _dropped_outside_the_lock) = self.shards[self.place(id)].with(|records| {
            // Read under the lock: of two steps on a record, the later one has the later time.
            let now = self.clock.now();
            let (done, old) = step(records, now);
            let retired = self.retire(records, now, RETIRED_IN_PASSING);
            (done, now, (old, retired))
        });
        self.tidy_elsewhere(now);
        done
    }

    /// Writes a new version of a record that is there.
    pub(crate) fn write(
        &self,
        records: &mut Records,
        id: RecordId,
        entry: Box<Entry>,
    ) -> (Fenced, Option<Box<Entry>>) {
        if let Some(old) = records.entry(&id) {
            self.budget.replace(old, &entry);
        }
        (Fenced::Applied, records.put(id, entry))
    }

    pub(crate) fn remove(&self, records: &mut Records, id: &RecordId) -> Option<Box<Entry>> {
        let old = records.remove(id);
        if let Some(old) = &old {
            self.budget.give_back(old);
        }
        old
    }

    pub(crate) fn draw_fence(&self) -> Fence {
        Fence::new(self.next_fence.fetch_add(1, Ordering::SeqCst))
    }

    /// By the first bits, so that the shards are in the order of what they hold.
    pub(crate) fn place(&self, id: &RecordId) -> usize {
        let [first, second, ..] = *id.as_bytes();
        let bits = self.shards.len().trailing_zeros();
        usize::from(u16::from_be_bytes([first, second])) >> (16 - bits)
    }

    fn retire(&self, records: &mut Records, now: Timestamp, most: usize) -> Vec<Entry> {
        let retired = records.retire(now, most);
        for entry in &retired {
            self.budget.give_back(entry);
        }
        retired
    }

    /// Removes a few expired records from the shard whose turn it is: so each shard is tidied up
    /// even if nobody works on it.
    fn tidy_elsewhere(&self, now: Timestamp) {
        let turn = self.next_tidied.fetch_add(1, Ordering::Relaxed);
        let shard = &self.shards[turn % self.shards.len()];
        if shard.has_expired(now) {
            let retire = |records: &mut Records| self.retire(records, now, RETIRED_IN_PASSING);
            // Who holds the lock tidies up as well; the records are dropped outside of it.
            drop(shard.try_with(retire));
        }
    }

    /// Removes expired records wherever there are some, one shard after another; tells how many.
    fn make_room(&self) -> usize {
        let now = self.clock.now();
        let expired = self.shards.iter().filter(|shard| shard.has_expired(now));
        expired
            .map(|shard| {
                let retired = shard.with(|records| self.retire(records, now, RETIRED_FOR_ROOM));
                retired.len()
            })
            .sum()
    }

    fn full(&self) -> StoreError {
        let message = format!(
            "the memory store is full of live records ({}); raise its bounds, shorten lifetimes, \
             or use a store on disk",
            self.budget.describe(),
        );
        StoreError::new(Operation::Claim, StoreErrorKind::Full, message)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::OnceLock;
    use std::task::{Context, Poll, Waker};

    use onlyonce_core::{Nonce, OnUnknown};

    /// A clock that sees to it that nobody else can have a later time and be sooner.
    #[derive(Clone, Debug, Default)]
    struct Jealous(Arc<OnceLock<MemoryStore>>);

    impl Clock for Jealous {
        fn now(&self) -> Timestamp {
            if let Some(store) = self.0.get() {
                let free = store.0.shards[0].try_with(|_| ());
                assert_eq!(free, None, "the time is read with the lock held");
            }
            Timestamp::from_millis(1)
        }
    }

    #[test]
    fn every_step_takes_its_time_under_the_lock() {
        let clock = Jealous::default();
        let store = MemoryStore::builder()
            .clock(clock.clone())
            .shards(1)
            .build();
        clock.0.set(store.clone()).unwrap();
        let attempt = Attempt {
            id: RecordId::from_bytes([7; 32]),
            nonce: Nonce::random(),
            fingerprint: None,
            lease: Duration::from_secs(1),
            keep: Duration::from_secs(1),
            on_unknown: OnUnknown::Hold,
            label: "".into(),
        };
        let Ok(Claim::Won(lease)) = at_once(store.claim(&attempt)) else {
            panic!("the store was empty");
        };
        let renewal = Renewal {
            extend: Duration::from_secs(1),
            fingerprint: None,
        };
        assert_eq!(
            at_once(store.renew(&lease, &renewal)).unwrap(),
            Fenced::Applied
        );
        assert_eq!(at_once(store.release(&lease)).unwrap(), Fenced::Applied);
    }

    /// The operations never wait: each is done when it is first polled.
    fn at_once<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("an operation waited"),
        }
    }
}
