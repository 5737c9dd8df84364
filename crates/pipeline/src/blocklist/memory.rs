//! A blocklist in this process alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onlyonce_core::{Changes, StoreError, Timestamp};
use tokio::sync::watch;

use super::entry::{Draft, Entry, EntryId};
use super::store::{BlocklistStore, Listing, Revision};

/// Keeps entries in memory: they go with the process. Cloning is cheap and gives the same store,
/// so that several [`Blocklist`](super::Blocklist)s may share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryBlocklist(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<EntryId, Entry>,
    last: u64,
    revision: u64,
}

impl MemoryBlocklist {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> Option<T>) -> Option<(Revision, T)> {
        let changed = {
            let mut state = self.lock();
            let done = change(&mut state)?;
            state.revision += 1;
            (state.revision(), done)
        };
        self.0.changed.send_replace(());
        Some(changed)
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl State {
    fn revision(&self) -> Revision {
        Revision {
            epoch: 0,
            number: self.revision,
        }
    }
}

impl BlocklistStore for MemoryBlocklist {
    async fn list(&self, since: Option<Revision>) -> Result<Listing, StoreError> {
        let state = self.lock();
        let revision = state.revision();
        if since == Some(revision) {
            return Ok(Listing::nothing_new(revision));
        }
        Ok(Listing {
            complete: true,
            entries: state.entries.values().cloned().collect(),
            ..Listing::nothing_new(revision)
        })
    }

    async fn look_up(&self, ids: &[EntryId]) -> Result<Vec<Entry>, StoreError> {
        let state = self.lock();
        let found = ids.iter().filter_map(|id| state.entries.get(id));
        Ok(found.cloned().collect())
    }

    async fn add(&self, draft: &Draft, now: Timestamp) -> Result<(Revision, Entry), StoreError> {
        let added = self.change(|state| {
            state.last += 1;
            let entry = draft.entry(EntryId(state.last), now);
            state.entries.insert(entry.id, entry.clone());
            Some(entry)
        });
        Ok(added.expect("it always adds one"))
    }

    async fn update(
        &self,
        id: EntryId,
        draft: &Draft,
        now: Timestamp,
    ) -> Result<Option<(Revision, Entry)>, StoreError> {
        Ok(self.change(|state| {
            let entry = state.entries.get_mut(&id)?;
            *entry = draft.over(entry, now);
            Some(entry.clone())
        }))
    }

    async fn remove(&self, id: EntryId) -> Result<Option<Revision>, StoreError> {
        let removed = self.change(|state| state.entries.remove(&id));
        Ok(removed.map(|(revision, _)| revision))
    }

    async fn add_hits(&self, hits: &[(EntryId, u64)]) -> Result<(), StoreError> {
        let mut state = self.lock();
        for (id, count) in hits {
            if let Some(entry) = state.entries.get_mut(id) {
                entry.hits = entry.hits.saturating_add(*count);
            }
        }
        Ok(())
    }

    async fn watch(&self) -> Result<Changes, StoreError> {
        let mut changed = self.0.changed.subscribe();
        Ok(Changes::new(async move {
            // The sender goes when nobody is left who could change anything.
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }))
    }
}
