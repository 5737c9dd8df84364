//! The operators' side of the store.

use std::future::ready;
use std::ops::Bound;

use bytes::Bytes;
use onlyonce_core::{
    Counts, Entry, EntryState, Inspect, InspectFuture, Listed, Page, Record, RecordId, Resolution,
    ResolveStep, Resolved, State, StateKind,
};

use crate::store::OwnStore;

impl Inspect for OwnStore {
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
        let (records, now) = (self.lock(), self.clock.now());
        let from = page.after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = records.entries.range((from, Bound::Unbounded));
        let listed = behind
            .filter_map(|(id, entry)| Some((*id, entry.view(now)?)))
            .filter(|(_, record)| page.filter.admits(record))
            .map(|(id, record)| Listed {
                id,
                record: without_result(record),
            })
            .take(page.limit)
            .collect();
        Box::pin(ready(Ok(listed)))
    }

    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
        let (records, now) = (self.lock(), self.clock.now());
        let record = records.entries.get(id).and_then(|entry| entry.view(now));
        Box::pin(ready(Ok(record)))
    }

    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved> {
        let settle = || {
            let (mut records, now) = (self.lock(), self.clock.now());
            let (entries, next_fence) = records.parts();
            let Some(entry) = entries.get(id).filter(|entry| !entry.is_expired(now)) else {
                return Resolved::NotFound;
            };
            match entry.resolve(resolution, now, next_fence) {
                ResolveStep::Write(settled) => drop(entries.insert(*id, *settled)),
                ResolveStep::Remove => drop(entries.remove(id)),
                ResolveStep::Refused => return Resolved::Refused,
            }
            Resolved::Applied
        };
        self.tell(id, settle())
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        let forget = || {
            let (mut records, now) = (self.lock(), self.clock.now());
            let live = records
                .entries
                .get(id)
                .filter(|entry| !entry.is_expired(now));
            match live.map(|entry| entry.may_forget(now)) {
                None => Resolved::NotFound,
                Some(false) => Resolved::Refused,
                Some(true) => {
                    records.entries.remove(id);
                    Resolved::Applied
                }
            }
        };
        self.tell(id, forget())
    }

    fn count(&self) -> InspectFuture<'_, Counts> {
        let (records, now) = (self.lock(), self.clock.now());
        let mut counts = Counts::default();
        let live = records.entries.values();
        for (record, entry) in live.filter_map(|entry| Some((entry.view(now)?, entry))) {
            counts.add(StateKind::of(&record));
            counts.bytes += (size_of::<Entry>() + entry.label.len() + result(entry)) as u64;
        }
        Box::pin(ready(Ok(counts)))
    }
}

impl OwnStore {
    /// Wakes who waits for the record, outside of the lock.
    fn tell(&self, id: &RecordId, resolved: Resolved) -> InspectFuture<'static, Resolved> {
        if resolved == Resolved::Applied {
            self.watchers.notify(id);
        }
        Box::pin(ready(Ok(resolved)))
    }
}

/// Listings say that there is a result, not what it is: it may be large.
fn without_result(mut record: Record) -> Record {
    if let State::Completed {
        kept: Some(kept), ..
    } = &mut record.state
    {
        *kept = Bytes::new();
    }
    record
}

/// Bytes of the result.
fn result(entry: &Entry) -> usize {
    match &entry.state {
        EntryState::Completed {
            kept: Some(kept), ..
        } => kept.len(),
        _ => 0,
    }
}
