//! The store: a map under a lock. What a step does to a record is decided in `Entry`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, ClaimStep, Clock, CompleteStep, Completion, Entry, Fence, Fenced,
    Lease, Operation, RecordId, Renewal, Store, StoreError, StoreErrorKind, Watchers,
};

/// Nothing grows without a bound: at this many live records, new claims are refused.
const MOST: usize = 100_000;

pub(crate) struct OwnStore {
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) watchers: Watchers,
    records: Mutex<Records>,
}

pub(crate) struct Records {
    pub(crate) entries: BTreeMap<RecordId, Entry>,
    last_fence: u64,
}

impl OwnStore {
    pub(crate) fn new(clock: impl Clock) -> Self {
        // Fences must not go back when the process starts anew, though the records are gone.
        let last_fence = clock.now().as_millis() << 20;
        let entries = BTreeMap::new();
        Self {
            clock: Box::new(clock),
            watchers: Watchers::new(),
            records: Mutex::new(Records {
                entries,
                last_fence,
            }),
        }
    }

    /// Never held across an await: each operation is one step under it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    /// The entries, and what draws the next fence: one sequence for the whole store.
    pub(crate) fn parts(&mut self) -> (&mut BTreeMap<RecordId, Entry>, impl FnOnce() -> Fence) {
        let Self {
            entries,
            last_fence,
        } = self;
        let next_fence = || {
            *last_fence += 1;
            Fence::new(*last_fence)
        };
        (entries, next_fence)
    }
}

impl Store for OwnStore {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        let mut records = self.lock();
        let (entries, next_fence) = records.parts();
        let now = self.clock.now();
        if entries.len() >= MOST && !entries.contains_key(&attempt.id) {
            entries.retain(|_, entry| !entry.is_expired(now));
            if entries.len() >= MOST {
                let message = format!("{MOST} live records are all that it takes");
                return Err(StoreError::new(
                    Operation::Claim,
                    StoreErrorKind::Full,
                    message,
                ));
            }
        }
        Ok(
            match Entry::claim(entries.get(&attempt.id), attempt, now, next_fence) {
                ClaimStep::Write(entry) => {
                    let lease = entry.lease(attempt.id);
                    entries.insert(attempt.id, *entry);
                    Claim::Won(lease)
                }
                ClaimStep::Held(record) => Claim::Held(record),
            },
        )
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        let mut records = self.lock();
        let entry = records.entries.get(&lease.id);
        match entry.and_then(|entry| entry.renew(lease, renewal, self.clock.now())) {
            Some(renewed) => {
                records.entries.insert(lease.id, renewed);
                Ok(Fenced::Applied)
            }
            None => Ok(Fenced::Superseded),
        }
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let mut records = self.lock();
        let entry = records.entries.get(&lease.id);
        match entry.map(|entry| entry.complete(lease, completion, keep, self.clock.now())) {
            Some(CompleteStep::Write(completed)) => records.entries.insert(lease.id, *completed),
            Some(CompleteStep::Already) => return Ok(Fenced::Applied),
            Some(CompleteStep::Superseded) | None => return Ok(Fenced::Superseded),
        };
        drop(records);
        self.watchers.notify(&lease.id);
        Ok(Fenced::Applied)
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        let mut records = self.lock();
        let entry = records.entries.get(&lease.id);
        if !entry.is_some_and(|entry| entry.may_release(lease, self.clock.now())) {
            return Ok(Fenced::Superseded);
        }
        records.entries.remove(&lease.id);
        drop(records);
        self.watchers.notify(&lease.id);
        Ok(Fenced::Applied)
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        Ok(self.watchers.watch(id))
    }
}
