//! The operators' side.

use std::sync::Arc;

use bytes::Bytes;
use onlyonce_core::{
    Counts, EntryState, Inspect, InspectFuture, InvalidationListener, Invalidations, Listed,
    Operation, Page, Record, RecordId, Resolution, Resolved, State as RecordState, StateKind,
    StoreError, Subscription,
};

use crate::DiskStore;
use crate::index::{SHARDS, shard_of};
use crate::readers::Part;
use crate::state::{Refusal, State};
use crate::steps::{Load, Step};
use crate::store::Told;

const WHAT: Operation = Operation::Inspect;

impl Inspect for DiskStore {
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
        Box::pin(async move {
            let mut listed = Vec::new();
            let first = page.after.as_ref().map_or(0, shard_of);
            for shard in first..SHARDS {
                if listed.len() >= page.limit {
                    break;
                }
                self.list_shard(shard, page, &mut listed).await?;
            }
            // What is not listed has to be gone for good, too.
            let settled = self.shared.step(|state| state.settled_all());
            self.settle(WHAT, settled).await?;
            Ok(listed)
        })
    }

    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
        Box::pin(async move {
            let step = |state: &mut State| state.show(id);
            Ok(match self.take(WHAT, Part::Whole, step).await? {
                Told::Answer(record) => record,
                Told::Loaded(entry, now) => entry.view(now),
            })
        })
    }

    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved> {
        Box::pin(async move {
            let step = |state: &mut State| state.resolve(id, resolution);
            self.answer(step).await
        })
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        Box::pin(async move {
            let step = |state: &mut State| state.forget(id);
            self.answer(step).await
        })
    }

    fn count(&self) -> InspectFuture<'_, Counts> {
        Box::pin(async move {
            let shared = self.shared.clone();
            let counted = self
                .shared
                .readers
                .run(move || {
                    let mut counts = Counts::default();
                    for shard in 0..SHARDS {
                        shared.step(|state| count_shard(state, shard, &mut counts))?;
                    }
                    let settled = shared.step(|state| state.settled_all());
                    Ok((counts, settled))
                })
                .await;
            let (counts, settled) = counted
                .unwrap_or(Err(Refusal::Closed))
                .map_err(|refusal| self.error(WHAT, refusal))?;
            self.settle(WHAT, settled).await?;
            Ok(counts)
        })
    }
}

/// Announced after the change is in the log and before it is acknowledged.
impl Invalidations for DiskStore {
    fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription {
        self.shared.invalidations.subscribe(listener)
    }
}

/// A record found in the index: whole, or still to be read.
enum Found {
    Open(Listed, Option<Arc<crate::event::Event>>),
    Completed(Load),
}

impl DiskStore {
    /// Lists one shard, in order. What is not in memory is read one by one: a page is small.
    async fn list_shard(
        &self,
        shard: usize,
        page: &Page,
        listed: &mut Vec<Listed>,
    ) -> Result<(), StoreError> {
        let mut after = page.after;
        loop {
            let left = page.limit - listed.len();
            if left == 0 {
                return Ok(());
            }
            let found = self
                .shared
                .step(|state| find(state, shard, after, page, left))
                .map_err(|refusal| self.error(WHAT, refusal))?;
            let Some(last) = found.last() else {
                return Ok(());
            };
            after = Some(match last {
                Found::Open(listed, _) => listed.id,
                Found::Completed(load) => load.id,
            });
            for found in found {
                let line = match found {
                    Found::Open(line, settled) => {
                        self.settle(WHAT, settled).await?;
                        line
                    }
                    Found::Completed(load) => {
                        let (id, now) = (load.id, load.now);
                        let record = match self.load(WHAT, load, Part::Meta).await? {
                            Some(entry) => entry.view(now),
                            // It has gone from there: moved, or altogether.
                            None => self.find_again(&id).await?,
                        };
                        let Some(mut record) = record.filter(|it| page.filter.admits(it)) else {
                            continue;
                        };
                        if let RecordState::Completed {
                            kept: Some(kept), ..
                        } = &mut record.state
                        {
                            *kept = Bytes::new();
                        }
                        Listed { id, record }
                    }
                };
                listed.push(line);
            }
        }
    }

    async fn find_again(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let step = |state: &mut State| state.show(id);
        Ok(match self.take(WHAT, Part::Meta, step).await? {
            Told::Answer(record) => record,
            Told::Loaded(entry, now) => entry.view(now),
        })
    }

    async fn answer(
        &self,
        step: impl FnMut(&mut State) -> Result<Step<Resolved>, Refusal>,
    ) -> Result<Resolved, StoreError> {
        match self.take(WHAT, Part::Meta, step).await? {
            Told::Answer(resolved) => Ok(resolved),
            Told::Loaded(..) => Ok(Resolved::Refused),
        }
    }
}

/// The first `most` live records of one shard behind `after` that pass the page's filter.
fn find(
    state: &mut State,
    shard: usize,
    after: Option<RecordId>,
    page: &Page,
    most: usize,
) -> Result<Vec<Found>, Refusal> {
    state.check()?;
    let now = state.now();
    let mut found: Vec<_> = state
        .index
        .shard(shard)
        .filter(|(id, slot)| {
            let kind = match &slot.open {
                None if slot.kept => Some(StateKind::Completed),
                None => Some(StateKind::NotKept),
                Some(entry) => entry.view(now).as_ref().map(StateKind::of),
            };
            !slot.is_expired(now)
                && after.is_none_or(|after| **id > after)
                && kind.is_some_and(|kind| page.filter.state.is_none_or(|only| only == kind))
        })
        .map(|(id, slot)| (*id, slot))
        .collect();
    found.sort_unstable_by_key(|(id, _)| *id);
    found.truncate(most);
    let found = found.into_iter().filter_map(|(id, slot)| {
        Some(match &slot.open {
            None => Found::Completed(state.load(id, slot, now)),
            Some(entry) => {
                let record = entry.view(now)?;
                Found::Open(Listed { id, record }, state.settled(slot.at))
            }
        })
    });
    Ok(found.collect())
}

fn count_shard(state: &mut State, shard: usize, counts: &mut Counts) -> Result<(), Refusal> {
    state.check()?;
    let now = state.now();
    for (_, slot) in state.index.shard(shard) {
        if slot.is_expired(now) {
            continue;
        }
        let kind = match &slot.open {
            None if slot.kept => StateKind::Completed,
            None => StateKind::NotKept,
            Some(entry) => match &entry.state {
                EntryState::InProgress { lease_until, .. } if now < *lease_until => {
                    StateKind::InProgress
                }
                _ => StateKind::Unknown,
            },
        };
        counts.add(kind);
        counts.bytes += u64::from(slot.size);
    }
    Ok(())
}
