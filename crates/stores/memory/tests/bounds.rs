//! Bounds, and room given back, in this store's own way.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use onlyonce_core::{
    Attempt, Claim, Completion, Done, Fenced, Fingerprint, Inspect, Lease, ManualClock, Nonce,
    OnUnknown, Page, RecordId, Renewal, Resolution, Resolved, Store, StoreError, StoreErrorKind,
};
use onlyonce_memory::{Builder, MemoryStore};
use proptest::prelude::*;
use tokio::sync::Barrier;

const LEASE: Duration = Duration::from_millis(10);
const KEEP: Duration = Duration::from_millis(40);
const LIFETIME: Duration = Duration::from_millis(60);

struct Subject {
    clock: Arc<ManualClock>,
    store: MemoryStore,
}

impl Subject {
    fn new(set: impl FnOnce(Builder) -> Builder) -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = set(MemoryStore::builder().clock(Arc::clone(&clock))).build();
        Self { clock, store }
    }

    fn pass(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    async fn win(&self, attempt: &Attempt) -> Lease {
        match self.store.claim(attempt).await {
            Ok(Claim::Won(lease)) => lease,
            other => panic!("the claim should have been won: {other:?}"),
        }
    }

    async fn refused(&self, attempt: &Attempt) -> StoreError {
        match self.store.claim(attempt).await {
            Err(error) => error,
            Ok(claim) => panic!("there is no room for it: {claim:?}"),
        }
    }

    async fn complete(&self, lease: &Lease, result: impl Into<Bytes>) -> Fenced {
        let completion = completion(result);
        let done = self.store.complete(lease, &completion, LIFETIME).await;
        done.expect("this store takes every completion")
    }
}

/// Identifiers that are spread evenly over any number of shards.
fn id(number: u16) -> RecordId {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&number.reverse_bits().to_be_bytes());
    RecordId::from_bytes(bytes)
}

fn attempt(number: u16) -> Attempt {
    Attempt {
        id: id(number),
        nonce: Nonce::random(),
        fingerprint: Some(Fingerprint::of(b"request")),
        lease: LEASE,
        keep: KEEP,
        on_unknown: OnUnknown::Retry,
        label: "POST /bounds".into(),
    }
}

fn completion(result: impl Into<Bytes>) -> Completion {
    Completion {
        fingerprint: None,
        done: Done::Kept {
            status: 200,
            result: result.into(),
        },
    }
}

#[tokio::test]
async fn a_full_store_refuses_new_claims_and_says_what_to_do() {
    let subject = Subject::new(|store| store.max_records(3));
    for number in 0..3 {
        subject.win(&attempt(number)).await;
    }
    let error = subject.refused(&attempt(3)).await;
    assert_eq!(error.kind(), StoreErrorKind::Full);
    assert!(!error.is_retryable());
    let text = error.to_string();
    assert!(text.contains("3 of 3 records"), "{text}");
    assert!(text.contains("raise its bounds"), "{text}");
}

#[tokio::test]
async fn hazard_49_a_full_store_serves_the_keys_that_it_has() {
    let subject = Subject::new(|store| store.max_records(3));
    let bids = [0, 1, 2].map(attempt);
    let mut leases = Vec::new();
    for bid in &bids {
        leases.push(subject.win(bid).await);
    }
    for flood in 100..1_100 {
        subject.refused(&attempt(flood)).await;
    }
    assert_eq!(subject.store.len(), 3, "no live record was evicted");
    // Sent again, renewed, taken over, completed, replayed.
    assert_eq!(subject.win(&bids[0]).await, leases[0]);
    let renewal = Renewal {
        extend: LEASE * 2,
        fingerprint: None,
    };
    let renewed = subject.store.renew(&leases[0], &renewal).await;
    assert_eq!(renewed.unwrap(), Fenced::Applied);
    subject.pass(10);
    let successor = subject.win(&attempt(1)).await;
    assert_eq!(successor.attempt, 2);
    for lease in [&leases[0], &successor] {
        assert_eq!(subject.complete(lease, "done").await, Fenced::Applied);
    }
    let replay = subject.store.claim(&attempt(0)).await;
    assert!(matches!(replay, Ok(Claim::Held(_))));
    // Room is made by whoever leaves.
    assert_eq!(
        subject.store.release(&leases[2]).await.unwrap(),
        Fenced::Applied
    );
    subject.win(&attempt(9)).await;
    subject.refused(&attempt(10)).await;
}

#[tokio::test]
async fn expired_records_make_room_at_their_deadline_and_not_before() {
    for shards in [1, 64] {
        let subject = Subject::new(|store| store.max_records(50).shards(shards));
        for number in 0..50 {
            subject.win(&attempt(number)).await;
        }
        subject.pass(49);
        assert_eq!(
            subject.refused(&attempt(50)).await.kind(),
            StoreErrorKind::Full
        );
        subject.pass(1);
        // All at once: what each takes over was another shard's.
        for number in 50..100 {
            subject.win(&attempt(number)).await;
        }
        subject.refused(&attempt(100)).await;
        assert_eq!(subject.store.len(), 50);
    }
}

#[tokio::test]
async fn results_of_claims_under_way_land_beyond_the_bound() {
    let subject = Subject::new(|store| store.max_bytes(20_000));
    let leases = [
        subject.win(&attempt(0)).await,
        subject.win(&attempt(1)).await,
    ];
    let large = vec![7_u8; 30_000];
    for lease in &leases {
        assert_eq!(
            subject.complete(lease, large.clone()).await,
            Fenced::Applied
        );
    }
    assert!(subject.store.bytes() > 60_000);
    assert_eq!(
        subject.refused(&attempt(2)).await.kind(),
        StoreErrorKind::Full
    );
    for lease in &leases {
        let record = subject.store.show(&lease.id).await.unwrap();
        let record = record.expect("a live record is never evicted");
        assert_eq!(record.attempt, 1);
    }
    subject.pass(60);
    subject.win(&attempt(2)).await;
    assert!(subject.store.bytes() < 1_000, "{}", subject.store.bytes());
}

#[tokio::test]
async fn labels_and_results_count() {
    let subject = Subject::new(|store| store);
    let plain = subject.win(&attempt(0)).await;
    let small = subject.store.bytes();
    let labelled = Attempt {
        label: "l".repeat(1_000).into(),
        ..attempt(1)
    };
    subject.win(&labelled).await;
    assert_eq!(
        subject.store.bytes(),
        2 * small + 1_000 - "POST /bounds".len()
    );
    let before = subject.store.bytes();
    assert_eq!(
        subject.complete(&plain, vec![0; 500]).await,
        Fenced::Applied
    );
    assert_eq!(subject.store.bytes(), before + 500);
    assert_eq!(
        subject.store.count().await.unwrap().bytes,
        before as u64 + 500
    );
}

#[tokio::test]
async fn every_way_to_go_gives_the_room_back() {
    let subject = Subject::new(|store| store);
    let released = subject.win(&attempt(0)).await;
    assert_eq!(
        subject.store.release(&released).await.unwrap(),
        Fenced::Applied
    );
    let forgotten = subject.win(&attempt(1)).await;
    assert_eq!(subject.complete(&forgotten, "x").await, Fenced::Applied);
    let resolved = subject.win(&attempt(2)).await;
    subject.pass(10);
    assert_eq!(
        subject.store.forget(&forgotten.id).await.unwrap(),
        Resolved::Applied
    );
    let resolution = Resolution::NotExecuted;
    assert_eq!(
        subject
            .store
            .resolve(&resolved.id, &resolution)
            .await
            .unwrap(),
        Resolved::Applied
    );
    assert_eq!((subject.store.len(), subject.store.bytes()), (0, 0));
    subject.win(&attempt(3)).await;
    subject.pass(50);
    // Nobody asks for it again; something else is asked for.
    for _ in 0..64 {
        subject.store.show(&id(9)).await.unwrap();
    }
    assert_eq!((subject.store.len(), subject.store.bytes()), (0, 0));
}

#[tokio::test]
async fn hazard_38_expired_records_go_a_few_at_a_time_whoever_is_asked_for() {
    const RECORDS: u16 = 10_240;
    let subject = Subject::new(|store| store);
    for number in 0..RECORDS {
        subject.win(&attempt(number)).await;
    }
    subject.pass(50);
    // One key alone is asked for from now on: 64 shards of 160 records, four for each operation.
    let mut left = subject.store.len();
    assert_eq!(left, usize::from(RECORDS));
    for turn in 0..64 * 160 / 4 {
        subject.store.show(&id(u16::MAX)).await.unwrap();
        let now = subject.store.len();
        assert!(left - now <= 8, "no operation sweeps: {left} to {now}");
        // The key's own shard is tidied up each time, besides the one whose turn it is.
        assert!(turn > 35 || left - now >= 7, "{left} to {now}");
        left = now;
    }
    assert_eq!((left, subject.store.bytes()), (0, 0));
}

#[tokio::test]
async fn hazard_38_a_store_in_use_holds_little_more_than_what_is_live() {
    let subject = Subject::new(|store| store);
    let mut most = 0;
    for number in 0..20_000_u16 {
        // Each lives for fifty milliseconds; ten come in each.
        subject.win(&attempt(number)).await;
        if number % 10 == 0 {
            subject.pass(1);
        }
        most = most.max(subject.store.len());
    }
    assert!((500..600).contains(&most), "{most}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_bound_holds_among_claims_at_once() {
    for _ in 0..20 {
        let subject = Subject::new(|store| store.max_records(10));
        let start = Arc::new(Barrier::new(64));
        let claims: Vec<_> = (0..64)
            .map(|number| {
                let (store, start) = (subject.store.clone(), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    store.claim(&attempt(number)).await
                })
            })
            .collect();
        let mut won = 0;
        for claim in claims {
            match claim.await.unwrap() {
                Ok(Claim::Won(_)) => won += 1,
                Ok(Claim::Held(record)) => panic!("nobody held it: {record:?}"),
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::Full),
            }
        }
        assert_eq!((won, subject.store.len()), (10, 10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn room_left_by_the_expired_is_found_by_claims_at_once() {
    for _ in 0..20 {
        let subject = Subject::new(|store| store.max_records(64));
        for number in 0..64 {
            subject.win(&attempt(number)).await;
        }
        subject.pass(50);
        let start = Arc::new(Barrier::new(64));
        let claims: Vec<_> = (64..128)
            .map(|number| {
                let (store, start) = (subject.store.clone(), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    store.claim(&attempt(number)).await
                })
            })
            .collect();
        for claim in claims {
            let claim = claim.await.unwrap();
            assert!(matches!(claim, Ok(Claim::Won(_))), "{claim:?}");
        }
    }
}

#[tokio::test]
async fn fences_begin_at_the_clock_and_go_on_behind_a_restart() {
    let clock = Arc::new(ManualClock::new());
    let made = || MemoryStore::builder().clock(Arc::clone(&clock)).build();
    let fence = async |store: &MemoryStore, number| match store.claim(&attempt(number)).await {
        Ok(Claim::Won(lease)) => lease.fence.get(),
        other => panic!("the claim should have been won: {other:?}"),
    };
    let first = made();
    // 2026-01-01, in microseconds.
    assert_eq!(fence(&first, 0).await, 1_767_225_600_000_000);
    let mut last = 0;
    for number in 1..1_000 {
        last = fence(&first, number).await;
    }
    clock.advance(Duration::from_millis(1));
    assert!(fence(&made(), 0).await > last);
}

#[tokio::test]
async fn any_number_of_shards_will_do() {
    for shards in [0, 1, 2, 3, 64, 1_000, usize::MAX] {
        let subject = Subject::new(|store| store.shards(shards));
        for number in (0..2_000).step_by(7) {
            subject.win(&attempt(number)).await;
        }
        let page = Page {
            limit: 1_000,
            ..Page::default()
        };
        let listed = subject.store.list(&page).await.unwrap();
        assert_eq!(listed.len(), 286, "{shards} shards");
        assert!(listed.is_sorted_by_key(|line| line.id));
    }
}

#[tokio::test]
async fn long_listings_let_others_run() {
    let subject = Subject::new(|store| store.shards(1));
    for number in 0..1_000 {
        subject.win(&attempt(number)).await;
    }
    let page = Page {
        limit: 1_000,
        ..Page::default()
    };
    let mut listing = pin!(subject.store.list(&page));
    let mut context = Context::from_waker(Waker::noop());
    let mut pauses = 0;
    let listed = loop {
        match listing.as_mut().poll(&mut context) {
            Poll::Ready(listed) => break listed.unwrap(),
            Poll::Pending => pauses += 1,
        }
    };
    assert_eq!(listed.len(), 1_000);
    assert!(pauses >= 3, "{pauses}");
}

#[tokio::test]
async fn a_clone_is_the_same_store() {
    let subject = Subject::new(|store| store);
    let lease = subject.win(&attempt(0)).await;
    let clone = subject.store.clone();
    let watch = clone.watch(&lease.id).await.unwrap();
    assert_eq!(subject.complete(&lease, "done").await, Fenced::Applied);
    watch.await;
    assert_eq!(clone.len(), 1);
    assert_eq!(format!("{clone:?}"), format!("{:?}", subject.store));
}

/// What is done to a store, for the property below.
#[derive(Clone, Debug)]
enum Step {
    Claim(u16, usize),
    Complete(u16, usize),
    Release(u16),
    Forget(u16),
    Resolve(u16, Option<usize>),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..12_u16;
    let size = 0..2_000_usize;
    prop_oneof![
        6 => (key.clone(), size.clone()).prop_map(|(key, size)| Step::Claim(key, size)),
        4 => (key.clone(), size.clone()).prop_map(|(key, size)| Step::Complete(key, size)),
        1 => key.clone().prop_map(Step::Release),
        1 => key.clone().prop_map(Step::Forget),
        2 => (key, proptest::option::of(size)).prop_map(|(key, size)| Step::Resolve(key, size)),
        4 => (1..30_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// However records come, change size and go: in the end nothing is held and nothing counted,
    /// and no record ever counts for less than its result and its label.
    #[test]
    fn the_books_balance(steps in proptest::collection::vec(step(), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let subject = Subject::new(|store| store.max_records(8).max_bytes(12_000).shards(4));
            let mut leases = HashMap::new();
            for step in steps {
                match step {
                    Step::Claim(key, size) => {
                        let label = "l".repeat(size).into();
                        let bid = Attempt { label, ..attempt(key) };
                        match subject.store.claim(&bid).await {
                            Ok(Claim::Won(lease)) => drop(leases.insert(key, lease)),
                            Ok(Claim::Held(_)) => {}
                            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Full),
                        }
                    }
                    Step::Complete(key, size) => {
                        if let Some(lease) = leases.get(&key) {
                            let _ = subject.complete(lease, vec![0; size]).await;
                        }
                    }
                    Step::Release(key) => {
                        if let Some(lease) = leases.get(&key) {
                            let _ = subject.store.release(lease).await.unwrap();
                        }
                    }
                    Step::Forget(key) => drop(subject.store.forget(&id(key)).await.unwrap()),
                    Step::Resolve(key, size) => {
                        let resolution = size.map_or(Resolution::NotExecuted, |size| {
                            Resolution::Completed { status: 200, result: Some(vec![0; size].into()) }
                        });
                        let _ = subject.store.resolve(&id(key), &resolution).await.unwrap();
                    }
                    Step::Pass(millis) => subject.pass(millis),
                }
                let mut least = 0;
                for key in 0..12 {
                    if let Some(record) = subject.store.show(&id(key)).await.unwrap() {
                        least += record.label.len();
                        if let onlyonce_core::State::Completed { kept: Some(kept), .. } = record.state {
                            least += kept.len();
                        }
                    }
                }
                assert!(subject.store.bytes() >= least);
                assert!(subject.store.len() <= 8);
            }
            subject.pass(100);
            for _ in 0..12 {
                subject.store.show(&id(0)).await.unwrap();
            }
            assert_eq!((subject.store.len(), subject.store.bytes()), (0, 0));
        });
    }
}
