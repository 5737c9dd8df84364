//! A store that can be told to fail, and patience.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onlyonce_core::{Changes, Operation, StoreError, StoreErrorKind, Timestamp};

use tokio::sync::Semaphore;

use super::super::*;

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Waits until it is so, but not for ever.
pub(super) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(30);
    let waited = tokio::time::timeout(limit, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"));
}

/// Polls for what no store says, so that a test need not wait.
pub(super) fn eager() -> BlocklistOptions {
    BlocklistOptions::new().with_poll(Duration::from_millis(20))
}

/// A store in memory that fails when it is told to, and may hold what nobody understands.
#[derive(Clone, Default)]
pub(super) struct Odd {
    pub(super) real: MemoryBlocklist,
    pub(super) broken: Arc<AtomicBool>,
    pub(super) silent: Arc<AtomicBool>,
    pub(super) garbage: Arc<AtomicBool>,
    /// What is added, somebody else removes at once, and the count has been lost in between.
    pub(super) forgets: Arc<AtomicBool>,
    /// Listings are always of everything, and wait here once they are made.
    pub(super) gate: Option<Arc<Semaphore>>,
}

impl Odd {
    fn check(&self) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            let kind = StoreErrorKind::Unavailable;
            return Err(StoreError::new(Operation::Inspect, kind, "told to fail"));
        }
        Ok(())
    }
}

impl BlocklistStore for Odd {
    async fn list(&self, since: Option<Revision>) -> Result<Listing, StoreError> {
        self.check()?;
        let since = since.filter(|_| self.gate.is_none());
        let mut listing = self.real.list(since).await?;
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        if self.garbage.load(Ordering::SeqCst) {
            let mut wrong = Draft::new("10.0.0.300").entry(EntryId(900), Timestamp::default());
            wrong.remark = "by hand".to_owned();
            listing.entries.insert(0, wrong);
            listing.unreadable.push(Unreadable {
                id: None,
                reason: "no entry at all".to_owned(),
            });
        }
        Ok(listing)
    }

    async fn look_up(&self, ids: &[EntryId]) -> Result<Vec<Entry>, StoreError> {
        self.check()?;
        self.real.look_up(ids).await
    }

    async fn add(&self, draft: &Draft, now: Timestamp) -> Result<(Revision, Entry), StoreError> {
        self.check()?;
        let (mut revision, entry) = self.real.add(draft, now).await?;
        if self.forgets.load(Ordering::SeqCst) {
            self.real.remove(entry.id).await?;
            revision.epoch += 1;
        }
        Ok((revision, entry))
    }

    async fn update(
        &self,
        id: EntryId,
        draft: &Draft,
        now: Timestamp,
    ) -> Result<Option<(Revision, Entry)>, StoreError> {
        self.check()?;
        self.real.update(id, draft, now).await
    }

    async fn remove(&self, id: EntryId) -> Result<Option<Revision>, StoreError> {
        self.check()?;
        self.real.remove(id).await
    }

    async fn add_hits(&self, hits: &[(EntryId, u64)]) -> Result<(), StoreError> {
        self.check()?;
        self.real.add_hits(hits).await
    }

    async fn watch(&self) -> Result<Changes, StoreError> {
        self.check()?;
        if self.silent.load(Ordering::SeqCst) {
            return Ok(Changes::new(std::future::pending()));
        }
        self.real.watch().await
    }
}
