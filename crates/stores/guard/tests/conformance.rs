//! The contract holds around a guard.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_conformance::{ExactTime, Harness, conformance};
use onlyonce_core::ManualClock;
use onlyonce_guard::{Breaker, Guard};
use onlyonce_memory::MemoryStore;

struct Subject {
    clock: Arc<ManualClock>,
    store: Arc<Guard<MemoryStore>>,
    memory: MemoryStore,
}

impl Harness for Subject {
    type Store = Guard<MemoryStore>;
    const TICK: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn fresh() -> Self {
        let clock = Arc::new(ManualClock::new());
        let memory = MemoryStore::builder().clock(Arc::clone(&clock)).build();
        let store = Guard::builder()
            .timeout(Self::PATIENCE)
            .breaker(Breaker::new())
            .retries(1)
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
