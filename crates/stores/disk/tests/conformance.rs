//! The contract, on a real disk.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_conformance::{ExactTime, Harness, Reopen, conformance};
use onlyonce_core::ManualClock;
use onlyonce_disk::{DiskStore, Durability};
use tempfile::TempDir;

struct Subject<const RELAXED: bool> {
    folder: TempDir,
    clock: Arc<ManualClock>,
    store: Arc<DiskStore>,
}

impl<const RELAXED: bool> Subject<RELAXED> {
    fn open(folder: TempDir, clock: Arc<ManualClock>) -> Self {
        let durability = if RELAXED {
            let every = Duration::from_millis(5);
            Durability::Relaxed { every }
        } else {
            Durability::Record
        };
        let store = DiskStore::builder(folder.path())
            .segment_bytes(1 << 20)
            .durability(durability)
            .clock(Arc::clone(&clock))
            .open()
            .expect("the store opens");
        Self {
            folder,
            clock,
            store: Arc::new(store),
        }
    }
}

impl<const RELAXED: bool> Harness for Subject<RELAXED> {
    type Store = DiskStore;
    const TICK: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn fresh() -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        Self::open(folder, Arc::new(ManualClock::new()))
    }

    fn store(&self) -> Arc<DiskStore> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn open_watches(&self) -> usize {
        usize::try_from(self.store.stats().watches).expect("few watches are open")
    }
}

impl<const RELAXED: bool> ExactTime for Subject<RELAXED> {}

impl<const RELAXED: bool> Reopen for Subject<RELAXED> {
    async fn reopen(self) -> Self {
        let Self {
            folder,
            clock,
            store,
        } = self;
        store.close().expect("the store closes");
        drop(store);
        Self::open(folder, clock)
    }
}

mod record {
    super::conformance! {
        harness: crate::Subject<false>,
        exact_time: yes,
        reopen: yes,
    }
}

mod relaxed {
    super::conformance! {
        harness: crate::Subject<true>,
        exact_time: yes,
        reopen: yes,
    }
}
