//! When a copy is used, and when not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Counts, Done, Fenced, Fingerprint, Inspect, InspectFuture,
    InvalidationHub, InvalidationListener, Invalidations, Lease, Listed, ManualClock, Nonce,
    OnUnknown, Page, Record, RecordId, Renewal, Resolution, Resolved, State, Store, StoreError,
    Subscription,
};
use onlyonce_memory::MemoryStore;
use onlyonce_near::Near;
use tokio::sync::Notify;

/// As if it were far away: counts the claims, says nothing by itself, and holds answers back.
#[derive(Clone)]
struct Remote {
    memory: MemoryStore,
    hub: InvalidationHub,
    claims: Arc<AtomicUsize>,
    hold: Arc<AtomicBool>,
    answered: Arc<Notify>,
    deliver: Arc<Notify>,
}

impl Store for Remote {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        let claim = self.memory.claim(attempt).await;
        if self.hold.load(Ordering::SeqCst) {
            self.answered.notify_one();
            self.deliver.notified().await;
        }
        claim
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        self.memory.renew(lease, renewal).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        self.memory.complete(lease, completion, keep).await
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        self.memory.release(lease).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.memory.watch(id).await
    }
}

impl Inspect for Remote {
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
        self.memory.list(page)
    }

    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
        self.memory.show(id)
    }

    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved> {
        self.memory.resolve(id, resolution)
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        self.memory.forget(id)
    }

    fn count(&self) -> InspectFuture<'_, Counts> {
        self.memory.count()
    }
}

impl Invalidations for Remote {
    fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription {
        self.hub.subscribe(listener)
    }
}

struct Rig {
    clock: Arc<ManualClock>,
    remote: Remote,
    near: Arc<Near<Remote>>,
}

const ID: RecordId = RecordId::from_bytes([7; 32]);
const TRUST: Duration = Duration::from_secs(6);
const LIFETIME: Duration = Duration::from_secs(1_000);

impl Rig {
    /// Connected, with a completed record that was made elsewhere.
    async fn with_record() -> Self {
        let clock = Arc::new(ManualClock::new());
        let memory = MemoryStore::builder().clock(Arc::clone(&clock)).build();
        let remote = Remote {
            memory,
            hub: InvalidationHub::new(),
            claims: Arc::default(),
            hold: Arc::default(),
            answered: Arc::default(),
            deliver: Arc::default(),
        };
        let near = Near::<Remote>::builder()
            .max_bytes(16 << 20)
            .clock(Arc::clone(&clock))
            .build(remote.clone());
        let near = Arc::new(near);
        remote.hub.connected(TRUST);
        let rig = Self {
            clock,
            remote,
            near,
        };
        rig.execute(&rig.remote.memory).await;
        rig
    }

    async fn execute(&self, store: &impl Store) {
        let Ok(Claim::Won(lease)) = store.claim(&attempt()).await else {
            panic!("nobody has it");
        };
        let done = Done::Kept {
            status: 201,
            result: "the first".into(),
        };
        let completion = Completion {
            fingerprint: None,
            done,
        };
        let completed = store.complete(&lease, &completion, LIFETIME).await;
        assert_eq!(completed.ok(), Some(Fenced::Applied));
    }

    /// A retry: how it ended, and how many claims the store saw of it.
    async fn retry(&self) -> (Option<u16>, usize) {
        let before = self.remote.claims.load(Ordering::SeqCst);
        let status = match self.near.claim(&attempt()).await.expect("an answer") {
            Claim::Held(record) => match record.state {
                State::Completed { status, .. } => Some(status),
                state => panic!("{state:?}"),
            },
            Claim::Won(_) => None,
        };
        let claims = self.remote.claims.load(Ordering::SeqCst) - before;
        (status, claims)
    }
}

fn attempt() -> Attempt {
    Attempt {
        id: ID,
        nonce: Nonce::random(),
        fingerprint: Some(Fingerprint::of(b"a charge")),
        lease: Duration::from_secs(10),
        keep: Duration::from_secs(60),
        on_unknown: OnUnknown::Hold,
        label: "POST /charges".into(),
    }
}

#[tokio::test]
async fn a_hot_replay_costs_no_round_trip() {
    let rig = Rig::with_record().await;
    assert_eq!(rig.retry().await, (Some(201), 1));
    assert_eq!(rig.retry().await, (Some(201), 0));
    assert!(rig.near.bytes() > 0);
    rig.clock.advance(Duration::from_secs(5));
    let Claim::Held(record) = rig.near.claim(&attempt()).await.unwrap() else {
        panic!("it is completed");
    };
    assert_eq!(record.expires_in, LIFETIME - Duration::from_secs(5));
    assert_eq!(record.age, Duration::from_secs(5));
}

#[tokio::test]
async fn what_was_completed_here_is_replayed_from_here() {
    let rig = Rig::with_record().await;
    assert_eq!(rig.near.forget(&ID).await.unwrap(), Resolved::Applied);
    rig.execute(rig.near.as_ref()).await;
    assert_eq!(rig.retry().await, (Some(201), 0));
}

#[tokio::test]
async fn what_is_forgotten_elsewhere_is_gone_with_the_announcement() {
    let rig = Rig::with_record().await;
    rig.retry().await;
    let forgotten = rig.remote.memory.forget(&ID).await.unwrap();
    assert_eq!(forgotten, Resolved::Applied);
    rig.remote.hub.void(&ID);
    assert_eq!(rig.retry().await, (None, 1));
}

#[tokio::test]
async fn what_is_forgotten_here_is_gone_at_once() {
    let rig = Rig::with_record().await;
    rig.retry().await;
    assert_eq!(rig.near.forget(&ID).await.unwrap(), Resolved::Applied);
    assert_eq!(rig.retry().await, (None, 1));
}

/// The answer was made before the record was forgotten, and comes in after the announcement.
#[tokio::test]
async fn an_answer_that_was_under_way_is_not_kept() {
    for lose in [false, true] {
        let rig = Rig::with_record().await;
        rig.remote.hold.store(true, Ordering::SeqCst);
        let near = Arc::clone(&rig.near);
        let late = tokio::spawn(async move { near.claim(&attempt()).await });
        rig.remote.answered.notified().await;
        rig.remote.hold.store(false, Ordering::SeqCst);
        let forgotten = rig.remote.memory.forget(&ID).await.unwrap();
        assert_eq!(forgotten, Resolved::Applied);
        if lose {
            rig.remote.hub.lost();
            rig.remote.hub.connected(TRUST);
        } else {
            rig.remote.hub.void(&ID);
        }
        rig.remote.deliver.notify_one();
        assert!(matches!(late.await.unwrap(), Ok(Claim::Held(_))));
        assert_eq!(rig.retry().await, (None, 1), "lose: {lose}");
    }
}

#[tokio::test]
async fn without_announcements_all_goes_to_the_store_and_nothing_is_kept() {
    let rig = Rig::with_record().await;
    rig.retry().await;
    rig.remote.hub.lost();
    assert!(!rig.near.is_connected());
    assert_eq!(rig.retry().await, (Some(201), 1));
    assert_eq!(rig.retry().await, (Some(201), 1));
    rig.remote.hub.connected(TRUST);
    // It starts empty.
    assert_eq!(rig.retry().await, (Some(201), 1));
    assert_eq!(rig.retry().await, (Some(201), 0));
}

#[tokio::test]
async fn trust_runs_out_by_itself_and_can_be_renewed() {
    let rig = Rig::with_record().await;
    rig.retry().await;
    rig.clock.advance(TRUST - Duration::from_millis(1));
    assert_eq!(rig.retry().await, (Some(201), 0));
    rig.clock.advance(Duration::from_millis(1));
    assert_eq!(rig.retry().await, (Some(201), 1));
    rig.remote.hub.connected(TRUST);
    assert_eq!(rig.retry().await, (Some(201), 0));
}

/// Time is counted from the sending: an answer that took long has aged on the way.
#[tokio::test]
async fn a_copy_ends_before_its_record() {
    let rig = Rig::with_record().await;
    rig.remote.hub.connected(Duration::MAX);
    rig.remote.hold.store(true, Ordering::SeqCst);
    let near = Arc::clone(&rig.near);
    let late = tokio::spawn(async move { near.claim(&attempt()).await });
    rig.remote.answered.notified().await;
    rig.remote.hold.store(false, Ordering::SeqCst);
    rig.clock.advance(Duration::from_secs(400));
    rig.remote.deliver.notify_one();
    assert!(matches!(late.await.unwrap(), Ok(Claim::Held(_))));
    assert_eq!(rig.retry().await, (Some(201), 0));
    // A thousandth of its thousand seconds before the end.
    rig.clock.advance(Duration::from_secs(599));
    rig.remote.hold.store(false, Ordering::SeqCst);
    assert_eq!(rig.retry().await, (Some(201), 1));
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(rig.retry().await, (None, 1));
}

#[tokio::test]
async fn the_bound_in_bytes_holds() {
    let rig = Rig::with_record().await;
    let near = Near::<Remote>::builder()
        .max_bytes(1 << 20)
        .clock(Arc::clone(&rig.clock))
        .build(rig.remote.clone());
    rig.remote.hub.connected(TRUST);
    for number in 0..400_u16 {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let attempt = Attempt {
            id: RecordId::from_bytes(id),
            ..attempt()
        };
        let Ok(Claim::Won(lease)) = near.claim(&attempt).await else {
            panic!("nobody has it");
        };
        let completion = Completion {
            fingerprint: None,
            done: Done::Kept {
                status: 200,
                result: vec![0; 10_000].into(),
            },
        };
        let completed = near.complete(&lease, &completion, LIFETIME).await;
        assert_eq!(completed.unwrap(), Fenced::Applied);
        assert!(near.bytes() <= 1 << 20, "{}", near.bytes());
    }
    assert!(near.bytes() > 200_000, "{}", near.bytes());
}
