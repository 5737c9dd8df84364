//! Tests that need to look inside, or put another disk under the store.

mod crash;
mod damage;
mod faults;
mod room;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{
    Attempt, Claim, Completion, Done, Fence, Fenced, Fingerprint, Inspect, Lease, ManualClock,
    Nonce, OnUnknown, Record, RecordId, State, Store, StoreError,
};

use crate::disk::sim::SimDisk;
use crate::index::SHARDS;
use crate::upkeep::Upkeep;
use crate::{Builder, DiskStore};

/// Small, so that a short script goes over many segments.
const SEGMENT: u32 = 12 << 10;
const LEASE: Duration = Duration::from_secs(10);
const KEEP: Duration = Duration::from_secs(3600);

fn builder(clock: &Arc<ManualClock>) -> Builder {
    let mut builder = DiskStore::builder("unused").clock(Arc::clone(clock));
    builder.manual_upkeep = true;
    builder
}

fn open(disk: &SimDisk, clock: &Arc<ManualClock>) -> Result<DiskStore, StoreError> {
    open_with(disk, &builder(clock))
}

fn open_with(disk: &SimDisk, builder: &Builder) -> Result<DiskStore, StoreError> {
    DiskStore::start(Arc::new(disk.clone()), "sim", builder, SEGMENT)
}

/// A whole round of upkeep, now.
fn upkeep(store: &DiskStore) {
    store.shared.lock().upkeep_due = false;
    Upkeep::new(Arc::clone(&store.shared)).round(SHARDS);
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async {
            tokio::time::timeout(Duration::from_secs(60), future)
                .await
                .expect("the store answers in time")
        })
}

/// Runs a future, and the upkeep whenever the store asks for it meanwhile.
async fn with_upkeep<T>(store: &DiskStore, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        loop {
            let polled = future.as_mut().poll(context);
            if polled.is_ready() || !store.shared.lock().upkeep_due {
                return polled;
            }
            upkeep(store);
        }
    })
    .await
}

fn id(number: usize) -> RecordId {
    RecordId::from_bytes(*Fingerprint::of(&number.to_le_bytes()).digest())
}

fn attempt(number: usize) -> Attempt {
    Attempt {
        id: id(number),
        nonce: Nonce::random(),
        fingerprint: Some(Fingerprint::of(b"asked")),
        lease: LEASE,
        keep: KEEP,
        on_unknown: OnUnknown::Hold,
        label: "POST /".into(),
    }
}

fn kept(body: Vec<u8>) -> Completion {
    Completion {
        fingerprint: None,
        done: Done::Kept {
            status: 200,
            result: body.into(),
        },
    }
}

async fn win(store: &DiskStore, number: usize) -> Lease {
    match store.claim(&attempt(number)).await.unwrap() {
        Claim::Won(lease) => lease,
        Claim::Held(record) => panic!("{number} is held: {record:?}"),
    }
}

async fn finish(store: &DiskStore, lease: &Lease, body: Vec<u8>, keep: Duration) {
    let fenced = store.complete(lease, &kept(body), keep).await.unwrap();
    assert_eq!(fenced, Fenced::Applied);
}

async fn show(store: &DiskStore, number: usize) -> Option<Record> {
    store.show(&id(number)).await.unwrap()
}

/// What a test compares of a record: nothing that moves with time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    fence: Fence,
    attempt: u32,
    state: SeenState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum SeenState {
    InProgress,
    Unknown,
    Completed(Option<Fingerprint>),
}

impl Seen {
    fn of(record: &Record) -> Self {
        Self {
            fence: record.fence,
            attempt: record.attempt,
            state: match &record.state {
                State::InProgress { .. } => SeenState::InProgress,
                State::Unknown => SeenState::Unknown,
                State::Completed { kept, .. } => {
                    SeenState::Completed(kept.as_deref().map(Fingerprint::of))
                }
            },
        }
    }
}
