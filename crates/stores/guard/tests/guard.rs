//! When the guard steps in, and when it does not.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Done, Fenced, Fingerprint, Lease, Nonce, OnUnknown,
    Operation, RecordId, Renewal, Store, StoreError, StoreErrorKind,
};
use onlyonce_guard::{Breaker, BreakerState, Guard};
use onlyonce_memory::MemoryStore;

/// What the next call comes to.
#[derive(Clone, Copy, Debug)]
enum Next {
    Fails(StoreErrorKind),
    /// It lands, and its answer is lost.
    Lost,
    Hangs,
}

/// Fails as it is told, in order; then works.
#[derive(Clone, Default)]
struct Moody {
    memory: MemoryStore,
    moods: Arc<Mutex<VecDeque<Next>>>,
    calls: Arc<AtomicUsize>,
}

impl Moody {
    fn told(moods: impl IntoIterator<Item = Next>) -> Self {
        let store = Self::default();
        store.tell(moods);
        store
    }

    fn tell(&self, moods: impl IntoIterator<Item = Next>) {
        self.moods.lock().unwrap().extend(moods);
    }

    fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::SeqCst)
    }

    async fn act<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mood = self.moods.lock().unwrap().pop_front();
        match mood {
            None => call.await,
            Some(Next::Fails(kind)) => Err(StoreError::new(operation, kind, "as told")),
            Some(Next::Lost) => {
                drop(call.await);
                Err(StoreError::new(
                    operation,
                    StoreErrorKind::Timeout,
                    "as told",
                ))
            }
            Some(Next::Hangs) => std::future::pending().await,
        }
    }
}

impl Store for Moody {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.act(Operation::Claim, self.memory.claim(attempt)).await
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        self.act(Operation::Renew, self.memory.renew(lease, renewal))
            .await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let complete = self.memory.complete(lease, completion, keep);
        self.act(Operation::Complete, complete).await
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        self.act(Operation::Release, self.memory.release(lease))
            .await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.act(Operation::Watch, self.memory.watch(id)).await
    }
}

const DOWN: Next = Next::Fails(StoreErrorKind::Unavailable);
const OPEN_FOR: Duration = Duration::from_secs(5);

fn guarded(store: &Moody) -> Guard<Moody> {
    let breaker = Breaker::new().failures(3).open_for(OPEN_FOR);
    Guard::builder().breaker(breaker).build(store.clone())
}

fn attempt(number: u8) -> Attempt {
    Attempt {
        id: RecordId::from_bytes([number; 32]),
        nonce: Nonce::random(),
        fingerprint: Some(Fingerprint::of(b"a charge")),
        lease: Duration::from_secs(10),
        keep: Duration::from_secs(60),
        on_unknown: OnUnknown::Hold,
        label: "POST /charges".into(),
    }
}

async fn claim(guard: &Guard<Moody>) -> Result<Claim, StoreError> {
    guard.claim(&attempt(1)).await
}

fn done() -> Completion {
    Completion {
        fingerprint: None,
        done: Done::NotKept { status: 200 },
    }
}

#[tokio::test(start_paused = true)]
async fn it_opens_after_failures_in_a_row_probes_once_and_closes() {
    let store = Moody::told([DOWN, DOWN]);
    let guard = guarded(&store);
    claim(&guard).await.unwrap_err();
    claim(&guard).await.unwrap_err();
    // One success, and the count starts anew.
    let _ = claim(&guard).await.unwrap();
    store.tell([DOWN; 3]);
    for _ in 0..3 {
        claim(&guard).await.unwrap_err();
    }
    assert_eq!((guard.breaker(), store.calls()), (BreakerState::Open, 6));
    tokio::time::advance(Duration::from_secs(2)).await;
    let refused = claim(&guard).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(store.calls(), 0);
    // The probe fails, and it is open for as long again.
    tokio::time::advance(Duration::from_secs(3)).await;
    store.tell([DOWN]);
    claim(&guard).await.unwrap_err();
    assert_eq!(
        claim(&guard).await.unwrap_err().retry_after(),
        Some(OPEN_FOR)
    );
    assert_eq!(store.calls(), 1);
    tokio::time::advance(OPEN_FOR).await;
    let _ = claim(&guard).await.unwrap();
    assert_eq!((guard.breaker(), store.calls()), (BreakerState::Closed, 1));
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_and_one_that_is_given_up_leaves_its_place() {
    let store = Moody::told([DOWN; 3]);
    let guard = Arc::new(guarded(&store));
    for _ in 0..3 {
        claim(&guard).await.unwrap_err();
    }
    tokio::time::advance(OPEN_FOR).await;
    store.tell([Next::Hangs]);
    let probing = Arc::clone(&guard);
    let probe = tokio::spawn(async move { claim(&probing).await });
    tokio::task::yield_now().await;
    assert_eq!(guard.breaker(), BreakerState::Trying);
    claim(&guard).await.unwrap_err();
    assert_eq!(store.calls(), 4);
    probe.abort();
    assert!(probe.await.unwrap_err().is_cancelled());
    // Nothing was found out; the next claim does it.
    assert_eq!(guard.breaker(), BreakerState::Open);
    let _ = claim(&guard).await.unwrap();
    assert_eq!(guard.breaker(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_counts_even_when_its_callers_give_up_first() {
    let store = Moody::told([Next::Hangs; 4]);
    let guard = guarded(&store);
    let error = claim(&guard).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Timeout);
    // A client that hangs up at once says nothing of the store.
    let hasty = tokio::time::timeout(Duration::from_millis(10), claim(&guard)).await;
    hasty.unwrap_err();
    assert_eq!(guard.breaker(), BreakerState::Closed);
    for _ in 0..2 {
        let patient = tokio::time::timeout(Duration::from_millis(500), claim(&guard)).await;
        patient.unwrap_err();
    }
    assert_eq!(guard.breaker(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn hazard_19_what_owners_do_is_never_refused() {
    let store = Moody::default();
    let guard = guarded(&store);
    let leases = [1, 2, 3].map(attempt);
    let mut won = Vec::new();
    for attempt in &leases {
        match guard.claim(attempt).await.unwrap() {
            Claim::Won(lease) => won.push(lease),
            Claim::Held(record) => panic!("{record:?}"),
        }
    }
    store.tell([DOWN; 3]);
    for _ in 0..3 {
        claim(&guard).await.unwrap_err();
    }
    assert_eq!(guard.breaker(), BreakerState::Open);
    store.tell([DOWN]);
    let completed = guard.complete(&won[0], &done(), OPEN_FOR).await;
    assert_eq!(completed.unwrap_err().retry_after(), None, "it was tried");
    assert_eq!(guard.breaker(), BreakerState::Open);
    let completed = guard.complete(&won[0], &done(), OPEN_FOR).await;
    assert_eq!(completed.unwrap(), Fenced::Applied);
    // It answers: no need to wait for a probe.
    assert_eq!(guard.breaker(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_is_not_away_whatever_it_says() {
    use StoreErrorKind::{Corrupt, Full, Misconfigured, Poisoned};
    let moods = [Full, Corrupt, Misconfigured, Poisoned, Full, Full].map(Next::Fails);
    let store = Moody::told(moods);
    let guard = guarded(&store);
    for _ in moods {
        claim(&guard).await.unwrap_err();
    }
    assert_eq!((guard.breaker(), store.calls()), (BreakerState::Closed, 6));
}

#[tokio::test(start_paused = true)]
async fn hazard_03_a_claim_whose_answer_is_lost_is_sent_again_by_its_nonce() {
    let store = Moody::told([Next::Lost, DOWN]);
    let guard = Guard::builder().retries(2).build(store.clone());
    let Claim::Won(lease) = claim(&guard).await.unwrap() else {
        panic!("it is its own");
    };
    assert_eq!((lease.attempt, store.calls()), (1, 3));
    store.tell([Next::Lost]);
    let completed = guard.complete(&lease, &done(), OPEN_FOR).await;
    assert_eq!(completed.unwrap(), Fenced::Applied);
    // Bounded, and not for errors that stay.
    store.tell([DOWN; 4]);
    store.calls();
    guard.claim(&attempt(2)).await.unwrap_err();
    assert_eq!(store.calls(), 3);
    let _ = guard.claim(&attempt(2)).await;
    store.calls();
    store.tell([Next::Fails(StoreErrorKind::Full)]);
    guard.claim(&attempt(3)).await.unwrap_err();
    assert_eq!(store.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_tries_together_have_a_deadline() {
    let store = Moody::told([Next::Hangs; 100]);
    let deadline = Duration::from_millis(2_500);
    let guard = Guard::builder()
        .retries(50)
        .deadline(deadline)
        .build(store.clone());
    let started = tokio::time::Instant::now();
    claim(&guard).await.unwrap_err();
    assert!(started.elapsed() <= deadline, "{:?}", started.elapsed());
    assert!(store.calls() <= 3);
}
