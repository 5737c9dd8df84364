//! All wrappers around one store, in the order in which the gateway stacks them.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_conformance::{ExactTime, Harness, Still, conformance};
use onlyonce_core::{AnyStore, ManualClock};
use onlyonce_guard::{Breaker, Guard};
use onlyonce_memory::MemoryStore;
use onlyonce_near::Near;
use onlyonce_sealed::{Compression, KeyRing, Sealed, SealingKey};

struct Stack {
    clock: Arc<ManualClock>,
    store: Arc<Still<AnyStore>>,
    memory: MemoryStore,
}

impl Harness for Stack {
    type Store = Still<AnyStore>;
    const TICK: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn fresh() -> Self {
        let clock = Arc::new(ManualClock::new());
        let memory = MemoryStore::builder().clock(Arc::clone(&clock)).build();
        let store = AnyStore::announcing(Arc::new(memory.clone()));
        let guard = Guard::builder().breaker(Breaker::new());
        let guard = guard.timeout(Self::PATIENCE).build(store);
        let store = AnyStore::announcing(Arc::new(guard));
        let near = Near::<AnyStore>::builder().clock(Arc::clone(&clock));
        let store = AnyStore::announcing(Arc::new(near.max_bytes(16 << 20).build(store)));
        let ring = KeyRing::new("k1", SealingKey::random()).expect("a good name");
        let sealed = Sealed::builder().keys(ring).compression(Compression::Lz4);
        let store = AnyStore::announcing(Arc::new(sealed.build(store)));
        Self {
            clock,
            store: Arc::new(Still::new(store)),
            memory,
        }
    }

    fn store(&self) -> Arc<Self::Store> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        self.store.between_steps(|| self.clock.advance(by)).await;
    }

    fn open_watches(&self) -> usize {
        self.memory.open_watches()
    }
}

impl ExactTime for Stack {}

conformance! {
    harness: Stack,
    exact_time: yes,
    reopen: no("the records are gone with the process"),
}
