//! All wrappers around one store, in the order in which the gateway stacks them.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

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

/// A store that keeps a secret, all else being memory.
#[derive(Default)]
struct Drawer(std::sync::Mutex<Option<onlyonce_core::KeptSecret>>);

impl onlyonce_core::Pepper for Drawer {
    fn keep<'a>(
        &'a self,
        offer: Option<&'a onlyonce_core::KeptSecret>,
    ) -> onlyonce_core::InspectFuture<'a, Option<onlyonce_core::KeptSecret>> {
        let mut kept = self.0.lock().unwrap();
        if kept.is_none() {
            *kept = offer.cloned();
        }
        let kept = kept.clone();
        Box::pin(async move { Ok(kept) })
    }

    fn place(&self) -> String {
        "the drawer".to_owned()
    }
}

/// What is kept below all wrappers is the same as what is kept through them.
#[tokio::test]
async fn the_secret_goes_through_all_wrappers() {
    use onlyonce_core::{Pepper as _, Secret, check_secret, settle_secret};
    let drawer = Arc::new(Drawer::default());
    let bare = AnyStore::announcing(Arc::new(MemoryStore::new()));
    let refused = settle_secret(&bare, None).await.unwrap_err();
    assert!(
        matches!(refused, onlyonce_core::SecretError::Store(_)),
        "one that keeps none says so: {refused}"
    );
    let bare = bare.with_pepper(drawer.clone());
    let guard = Guard::builder().build(bare.clone());
    let stack = Sealed::builder().build(Near::new(guard, 1 << 20));
    let secret = settle_secret(&stack, None).await.unwrap();
    assert_ne!(secret, Secret::well_known());
    assert_eq!(settle_secret(&bare, None).await.unwrap(), secret);
    check_secret(&stack, Some(&Secret::random()))
        .await
        .unwrap_err();
    assert_eq!(stack.place(), "the drawer");
}
