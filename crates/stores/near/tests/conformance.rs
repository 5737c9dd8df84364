//! The contract holds through a near cache, also on two nodes that share a store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onlyonce_conformance::{ExactTime, Harness, Still, conformance};
use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Counts, Fence, Fenced, Inspect, InspectFuture, Lease,
    Listed, ManualClock, Page, Record, RecordId, Renewal, Resolution, Resolved, Store, StoreError,
};
use onlyonce_memory::MemoryStore;
use onlyonce_near::Near;

fn near(store: &MemoryStore, clock: &Arc<ManualClock>) -> Near<MemoryStore> {
    Near::<MemoryStore>::builder()
        .max_bytes(16 << 20)
        .clock(Arc::clone(clock))
        .build(store.clone())
}

struct One {
    clock: Arc<ManualClock>,
    memory: MemoryStore,
    store: Arc<Still<Near<MemoryStore>>>,
}

impl Harness for One {
    type Store = Still<Near<MemoryStore>>;
    const TICK: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn fresh() -> Self {
        let clock = Arc::new(ManualClock::new());
        let memory = MemoryStore::builder().clock(Arc::clone(&clock)).build();
        let store = Arc::new(Still::new(near(&memory, &clock)));
        Self {
            clock,
            memory,
            store,
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

impl ExactTime for One {}

mod one_node {
    use super::*;

    conformance! {
        harness: One,
        exact_time: yes,
        reopen: no("the records are gone with the process"),
    }
}

/// Two nodes before one store. A request stays on its node, whatever it asks for; operators and
/// those who watch come to either.
struct Turns {
    nodes: [Near<MemoryStore>; 2],
    turn: AtomicUsize,
    owners: Mutex<HashMap<Fence, usize>>,
}

impl Turns {
    fn node(&self) -> &Near<MemoryStore> {
        &self.nodes[self.turn.fetch_add(1, Ordering::Relaxed) % 2]
    }

    fn node_of(&self, lease: &Lease) -> &Near<MemoryStore> {
        let node = self
            .owners
            .lock()
            .expect("no panic under it")
            .get(&lease.fence)
            .copied();
        &self.nodes[node.unwrap_or_default()]
    }
}

impl Store for Turns {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        let node = usize::from(attempt.nonce.as_bytes()[0] % 2);
        let claim = self.nodes[node].claim(attempt).await?;
        if let Claim::Won(lease) = &claim {
            self.owners
                .lock()
                .expect("no panic under it")
                .insert(lease.fence, node);
        }
        Ok(claim)
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        self.node_of(lease).renew(lease, renewal).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        self.node_of(lease).complete(lease, completion, keep).await
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        self.node_of(lease).release(lease).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.node().watch(id).await
    }
}

impl Inspect for Turns {
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
        self.node().list(page)
    }

    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
        self.node().show(id)
    }

    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved> {
        self.node().resolve(id, resolution)
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        self.node().forget(id)
    }

    fn count(&self) -> InspectFuture<'_, Counts> {
        self.node().count()
    }
}

struct Two {
    clock: Arc<ManualClock>,
    memory: MemoryStore,
    store: Arc<Still<Turns>>,
}

impl Harness for Two {
    type Store = Still<Turns>;
    const TICK: Duration = One::TICK;
    const PATIENCE: Duration = One::PATIENCE;

    async fn fresh() -> Self {
        let clock = Arc::new(ManualClock::new());
        let memory = MemoryStore::builder().clock(Arc::clone(&clock)).build();
        let nodes = [near(&memory, &clock), near(&memory, &clock)];
        let turn = AtomicUsize::new(0);
        let owners = Mutex::default();
        let store = Arc::new(Still::new(Turns {
            nodes,
            turn,
            owners,
        }));
        Self {
            clock,
            memory,
            store,
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

impl ExactTime for Two {}

mod two_nodes {
    use super::*;

    conformance! {
        harness: Two,
        exact_time: yes,
        reopen: no("the records are gone with the process"),
    }
}
