//! A store under test, with its operations as short sentences that panic when the store fails.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Counts, Done, Fence, Fenced, Fingerprint, Inspect, Lease,
    Listed, Nonce, OnUnknown, Page, Record, RecordId, Renewal, Resolution, Resolved, State, Store,
};

use crate::{Harness, Reopen};

/// Ticks that a lease lasts, unless a check says otherwise.
pub(crate) const LEASE: u32 = 10;
/// Ticks that an unfinished record outlives its lease, unless a check says otherwise.
pub(crate) const KEEP: u32 = 40;
/// Ticks that a finished record is kept, unless a check says otherwise.
pub(crate) const LIFETIME: u32 = 60;

pub(crate) struct Rig<H: Harness> {
    harness: H,
    store: Arc<H::Store>,
}

impl<H: Harness> Rig<H> {
    pub(crate) async fn new() -> Self {
        Self::of(H::fresh().await)
    }

    fn of(harness: H) -> Self {
        let store = harness.store();
        Self { harness, store }
    }

    pub(crate) fn store(&self) -> Arc<H::Store> {
        Arc::clone(&self.store)
    }

    pub(crate) fn open_watches(&self) -> usize {
        self.harness.open_watches()
    }

    /// Lets `ticks` ticks pass.
    pub(crate) async fn pass(&self, ticks: u32) {
        self.harness.advance(H::TICK * ticks).await;
    }

    pub(crate) async fn advance(&self, by: Duration) {
        self.harness.advance(by).await;
    }

    pub(crate) async fn advance_millis(&self, millis: u64) {
        self.harness.advance(Duration::from_millis(millis)).await;
    }

    pub(crate) async fn reopen(self) -> Self
    where
        H: Reopen,
    {
        let Self { harness, store } = self;
        drop(store);
        Self::of(harness.reopen().await)
    }

    pub(crate) async fn claim(&self, attempt: &Attempt) -> Claim {
        let claim = self.store.claim(attempt).await;
        claim.expect("the store takes a claim")
    }

    /// Claims, and must win.
    pub(crate) async fn win(&self, attempt: &Attempt) -> Lease {
        match self.claim(attempt).await {
            Claim::Won(lease) => {
                assert_eq!(lease.id, attempt.id, "the lease is for the claimed record");
                lease
            }
            Claim::Held(record) => panic!("the claim should have been won; held by {record:?}"),
        }
    }

    /// Claims, and must lose.
    pub(crate) async fn held(&self, attempt: &Attempt) -> Record {
        match self.claim(attempt).await {
            Claim::Held(record) => record,
            Claim::Won(lease) => panic!("the claim should have been held; it won {lease:?}"),
        }
    }

    /// Renews for another [`LEASE`].
    pub(crate) async fn renew(&self, lease: &Lease) -> Fenced {
        self.renew_with(lease, ticks::<H>(LEASE), None).await
    }

    pub(crate) async fn renew_with(
        &self,
        lease: &Lease,
        extend: Duration,
        fingerprint: Option<Fingerprint>,
    ) -> Fenced {
        let renewal = Renewal {
            extend,
            fingerprint,
        };
        let renewed = self.store.renew(lease, &renewal).await;
        renewed.expect("the store takes a renewal")
    }

    /// Completes with `result`, kept for [`LIFETIME`].
    pub(crate) async fn complete(&self, lease: &Lease, result: &'static str) -> Fenced {
        self.complete_with(lease, &kept(result), ticks::<H>(LIFETIME))
            .await
    }

    pub(crate) async fn complete_with(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Fenced {
        let completed = self.store.complete(lease, completion, keep).await;
        completed.expect("the store takes a completion")
    }

    pub(crate) async fn release(&self, lease: &Lease) -> Fenced {
        let released = self.store.release(lease).await;
        released.expect("the store takes a release")
    }

    pub(crate) async fn watch(&self, id: &RecordId) -> Changes {
        let watch = self.store.watch(id).await;
        watch.expect("the store takes a watch")
    }

    pub(crate) async fn show(&self, id: &RecordId) -> Option<Record> {
        let shown = self.store.show(id).await;
        shown.expect("the store shows a record")
    }

    /// The record, which must be there.
    pub(crate) async fn record(&self, id: &RecordId) -> Record {
        let shown = self.show(id).await;
        shown.expect("the record is there")
    }

    pub(crate) async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Resolved {
        let resolved = self.store.resolve(id, resolution).await;
        resolved.expect("the store takes a resolution")
    }

    pub(crate) async fn forget(&self, id: &RecordId) -> Resolved {
        let forgotten = self.store.forget(id).await;
        forgotten.expect("the store takes an order to forget")
    }

    pub(crate) async fn list(&self, page: &Page) -> Vec<Listed> {
        let listed = self.store.list(page).await;
        listed.expect("the store lists records")
    }

    pub(crate) async fn count(&self) -> Counts {
        let counts = self.store.count().await;
        counts.expect("the store counts records")
    }

    /// A whole, unremarkable life of a fresh key: the store is fit for use.
    pub(crate) async fn assert_fit(&self) {
        let attempt = attempt::<H>(new_id());
        let lease = self.win(&attempt).await;
        assert_eq!(self.renew(&lease).await, Fenced::Applied);
        assert_eq!(self.complete(&lease, "fit").await, Fenced::Applied);
        let record = self.held(&retry_of(&attempt)).await;
        assert_eq!(result_of(&record), Some("fit".into()));
        assert_eq!(self.forget(&attempt.id).await, Resolved::Applied);
    }
}

pub(crate) fn ticks<H: Harness>(count: u32) -> Duration {
    H::TICK * count
}

/// An identifier that nobody had before.
pub(crate) fn new_id() -> RecordId {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Nonce::random().as_bytes());
    bytes[16..].copy_from_slice(Nonce::random().as_bytes());
    RecordId::from_bytes(bytes)
}

pub(crate) fn fingerprint(number: u8) -> Fingerprint {
    Fingerprint::of(&[number])
}

/// A first request with fingerprint 1, for a key whose vanished owners are held against it.
pub(crate) fn attempt<H: Harness>(id: RecordId) -> Attempt {
    Attempt {
        id,
        nonce: Nonce::random(),
        fingerprint: Some(fingerprint(1)),
        lease: ticks::<H>(LEASE),
        keep: ticks::<H>(KEEP),
        on_unknown: OnUnknown::Hold,
        label: "POST /conformance".into(),
    }
}

/// The same request, sent again by its client: all is the same but the nonce.
pub(crate) fn retry_of(attempt: &Attempt) -> Attempt {
    Attempt {
        nonce: Nonce::random(),
        ..attempt.clone()
    }
}

/// The same request again, where vanished owners are succeeded.
pub(crate) fn successor_of(attempt: &Attempt) -> Attempt {
    Attempt {
        on_unknown: OnUnknown::Retry,
        ..retry_of(attempt)
    }
}

pub(crate) fn kept(result: impl Into<Bytes>) -> Completion {
    Completion {
        fingerprint: None,
        done: Done::Kept {
            status: 201,
            result: result.into(),
        },
    }
}

pub(crate) const NOT_KEPT: Completion = Completion {
    fingerprint: None,
    done: Done::NotKept { status: 200 },
};

pub(crate) const OUTCOME_UNKNOWN: Completion = Completion {
    fingerprint: None,
    done: Done::Unknown,
};

/// The kept result, if there is one.
pub(crate) fn result_of(record: &Record) -> Option<Bytes> {
    match &record.state {
        State::Completed { kept, .. } => kept.clone(),
        State::InProgress { .. } | State::Unknown => None,
    }
}

/// All of a record that does not change by itself as time goes by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lasting {
    fingerprint: Option<Fingerprint>,
    attempt: u32,
    fence: Fence,
    state: State,
    label: Box<str>,
}

impl Lasting {
    pub(crate) fn of(record: &Record) -> Self {
        let state = match &record.state {
            State::InProgress { lease_left } => State::InProgress {
                lease_left: Duration::from_secs(u64::from(!lease_left.is_zero())),
            },
            state => state.clone(),
        };
        Self {
            fingerprint: record.fingerprint,
            attempt: record.attempt,
            fence: record.fence,
            state,
            label: record.label.clone(),
        }
    }
}

/// Waits for `future`, but not for ever: what takes longer than [`Harness::PATIENCE`] is lost.
pub(crate) async fn soon<H: Harness, T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(H::PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: it did not happen within {:?}", H::PATIENCE),
    }
}

/// Polls `future` at most `times` times, then drops it. Gives its output if it came to one.
pub(crate) async fn poll_then_drop<T>(future: impl Future<Output = T>, times: u32) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..times {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}
