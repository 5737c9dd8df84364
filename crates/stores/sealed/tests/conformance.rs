//! The contract holds around sealed results, compressed or not.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_conformance::{ExactTime, Harness, conformance};
use onlyonce_core::ManualClock;
use onlyonce_memory::MemoryStore;
use onlyonce_sealed::{Compression, KeyRing, Sealed, SealingKey};

struct Subject {
    clock: Arc<ManualClock>,
    store: Arc<Sealed<MemoryStore>>,
    memory: MemoryStore,
}

impl Harness for Subject {
    type Store = Sealed<MemoryStore>;
    const TICK: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn fresh() -> Self {
        let clock = Arc::new(ManualClock::new());
        let memory = MemoryStore::builder().clock(Arc::clone(&clock)).build();
        let ring = KeyRing::new("k1", SealingKey::random()).expect("a good name");
        let store = Sealed::builder()
            .keys(ring)
            .compression(Compression::Lz4)
            .build(memory.clone());
        Self {
            clock,
            store: Arc::new(store),
            memory,
        }
    }

    fn store(&self) -> Arc<Self::Store> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn open_watches(&self) -> usize {
        self.memory.open_watches()
    }
}

impl ExactTime for Subject {}

conformance! {
    harness: Subject,
    exact_time: yes,
    reopen: no("the records are gone with the process"),
}
