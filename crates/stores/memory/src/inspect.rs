//! The operators' side.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use onlyonce_core::{
    Counts, Inspect, InspectFuture, InvalidationListener, Invalidations, Listed, Page, Record,
    RecordId, Resolution, ResolveStep, Resolved, State, StateKind, Subscription,
};

use crate::MemoryStore;

/// Records that are looked at under one lock. Between two such steps other tasks may run.
const STRIDE: usize = 256;

impl Inspect for MemoryStore {
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
        Box::pin(async move {
            let mut listed = Vec::new();
            let more = |id, record: Record| {
                if listed.len() < page.limit && page.filter.admits(&record) {
                    let record = without_result(record);
                    listed.push(Listed { id, record });
                }
                listed.len() < page.limit
            };
            self.walk(page.after, more).await;
            Ok(listed)
        })
    }

    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
        Box::pin(async move {
            Ok(self.0.on(id, |records, now| {
                let record = records.entry(id).and_then(|entry| entry.view(now));
                (record, None)
            }))
        })
    }

    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved> {
        Box::pin(async move {
            let resolved = self.0.on(id, |records, now| {
                let live = records.entry(id).filter(|entry| !entry.is_expired(now));
                let Some(entry) = live else {
                    return (Resolved::NotFound, None);
                };
                match entry.resolve(resolution, now, || self.0.draw_fence()) {
                    ResolveStep::Write(entry) => {
                        let (_, old) = self.0.write(records, *id, entry);
                        self.0.invalidations.void(id);
                        (Resolved::Applied, old)
                    }
                    ResolveStep::Remove => {
                        let old = self.0.remove(records, id);
                        self.0.invalidations.void(id);
                        (Resolved::Applied, old)
                    }
                    ResolveStep::Refused => (Resolved::Refused, None),
                }
            });
            self.wake(id, resolved);
            Ok(resolved)
        })
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        Box::pin(async move {
            let forgotten = self.0.on(id, |records, now| {
                let live = records.entry(id).filter(|entry| !entry.is_expired(now));
                match live.map(|entry| entry.may_forget(now)) {
                    Some(true) => {
                        let old = self.0.remove(records, id);
                        // Under the lock: nobody sees that it is gone while a copy is still used.
                        self.0.invalidations.void(id);
                        (Resolved::Applied, old)
                    }
                    Some(false) => (Resolved::Refused, None),
                    None => (Resolved::NotFound, None),
                }
            });
            self.wake(id, forgotten);
            Ok(forgotten)
        })
    }

    /// Counted by walking through the records: each is counted as it is when the walk comes by.
    fn count(&self) -> InspectFuture<'_, Counts> {
        Box::pin(async move {
            let mut counts = Counts::default();
            let count = |_, record| {
                counts.add(StateKind::of(&record));
                true
            };
            self.walk(None, count).await;
            counts.bytes = self.bytes() as u64;
            Ok(counts)
        })
    }
}

impl MemoryStore {
    /// Shows live records behind `after` to `visit`, in order, until it has enough.
    async fn walk(
        &self,
        mut after: Option<RecordId>,
        mut visit: impl FnMut(RecordId, Record) -> bool,
    ) {
        let first = after.map_or(0, |id| self.0.place(&id));
        for shard in &self.0.shards[first..] {
            loop {
                let (seen, enough) = shard.with(|records| {
                    let now = self.0.clock.now();
                    let mut seen = 0;
                    for (id, entry) in records.range(after).take(STRIDE) {
                        (seen, after) = (seen + 1, Some(*id));
                        if entry.view(now).is_some_and(|record| !visit(*id, record)) {
                            return (seen, true);
                        }
                    }
                    (seen, false)
                });
                if enough {
                    return;
                }
                yield_now().await;
                if seen < STRIDE {
                    break;
                }
            }
        }
    }

    fn wake(&self, id: &RecordId, resolved: Resolved) {
        if resolved == Resolved::Applied {
            self.0.watchers.notify(id);
        }
    }
}

impl Invalidations for MemoryStore {
    fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription {
        self.0.invalidations.subscribe(listener)
    }
}

/// An empty result stands for one that is there.
fn without_result(mut record: Record) -> Record {
    if let State::Completed {
        kept: Some(kept), ..
    } = &mut record.state
    {
        *kept = Bytes::new();
    }
    record
}

/// Lets other tasks of the executor run, whichever executor it is.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
