//! The same transitions on this store and on fjall, an embedded store that nobody here wrote:
//! after each reopening both hold the same.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::sync::Arc;
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use onlyonce_core::{
    Attempt, Claim, ClaimStep, Clock, CompleteStep, Completion, Done, Entry, Fence, Fenced,
    Fingerprint, Inspect, Lease, ManualClock, Nonce, OnUnknown, Page, RecordId, Renewal, Store,
    codec,
};
use onlyonce_disk::DiskStore;
use proptest::prelude::*;
use tempfile::TempDir;

const KEYS: u8 = 6;

#[derive(Clone, Debug)]
enum Step {
    Claim {
        key: u8,
        retry: bool,
        lease: u16,
        keep: u16,
    },
    Renew {
        lease: usize,
        extend: u16,
    },
    Complete {
        lease: usize,
        length: usize,
        keep: u16,
    },
    Unknown {
        lease: usize,
        keep: u16,
    },
    Release {
        lease: usize,
    },
    Forget {
        key: u8,
    },
    Pass {
        time: u16,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let time = 1..400_u16;
    prop_oneof![
        6 => (0..KEYS, any::<bool>(), time.clone(), time.clone())
            .prop_map(|(key, retry, lease, keep)| Step::Claim { key, retry, lease, keep }),
        2 => (0..8_usize, time.clone()).prop_map(|(lease, extend)| Step::Renew { lease, extend }),
        4 => (0..8_usize, 0..4000_usize, time.clone())
            .prop_map(|(lease, length, keep)| Step::Complete { lease, length, keep }),
        1 => (0..8_usize, time.clone()).prop_map(|(lease, keep)| Step::Unknown { lease, keep }),
        1 => (0..8_usize).prop_map(|lease| Step::Release { lease }),
        1 => (0..KEYS).prop_map(|key| Step::Forget { key }),
        2 => time.prop_map(|time| Step::Pass { time }),
        1 => Just(Step::Reopen),
    ]
}

fn id(key: u8) -> RecordId {
    RecordId::from_bytes([key.wrapping_mul(41); 32])
}

/// Records in fjall, one transition after the other.
struct Oracle {
    database: Database,
    records: Keyspace,
    fence: u64,
}

impl Oracle {
    fn open(folder: &TempDir, fence: u64) -> Self {
        let database = Database::builder(folder.path()).open().unwrap();
        let records = database
            .keyspace("records", KeyspaceCreateOptions::default)
            .unwrap();
        Self {
            database,
            records,
            fence,
        }
    }

    fn get(&self, id: &RecordId) -> Option<Entry> {
        let bytes = self.records.get(id.as_bytes()).unwrap()?;
        Some(codec::decode_entry(bytes.to_vec().into()).unwrap())
    }

    fn put(&self, id: &RecordId, entry: &Entry) {
        let bytes = codec::encode_entry(entry);
        self.records.insert(id.as_bytes(), &bytes[..]).unwrap();
    }

    fn remove(&self, id: &RecordId) {
        self.records.remove(id.as_bytes()).unwrap();
    }

    fn reopen(self, folder: &TempDir) -> Self {
        self.database.persist(PersistMode::SyncAll).unwrap();
        let fence = self.fence;
        drop(self);
        Self::open(folder, fence)
    }
}

struct Pair {
    folders: [TempDir; 2],
    clock: Arc<ManualClock>,
    store: Option<DiskStore>,
    oracle: Option<Oracle>,
    leases: Vec<Lease>,
}

impl Pair {
    fn new() -> Self {
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let clock = Arc::new(ManualClock::new());
        let store = Some(Self::open(&folders[0], &clock));
        let oracle = Some(Oracle::open(&folders[1], 0));
        Self {
            folders,
            clock,
            store,
            oracle,
            leases: Vec::new(),
        }
    }

    fn open(folder: &TempDir, clock: &Arc<ManualClock>) -> DiskStore {
        DiskStore::builder(folder.path())
            .segment_bytes(1 << 20)
            .clock(Arc::clone(clock))
            .open()
            .unwrap()
    }

    async fn take(&mut self, step: &Step) {
        let now = self.clock.now();
        let store = self.store.as_ref().unwrap();
        let oracle = self.oracle.as_mut().unwrap();
        let millis = |time: &u16| Duration::from_millis((*time).into());
        let lease = |number: &usize| {
            let len = self.leases.len();
            (len > 0).then(|| self.leases[len - 1 - number % len].clone())
        };
        let told = |applied| {
            if applied {
                Fenced::Applied
            } else {
                Fenced::Superseded
            }
        };
        match step {
            Step::Claim {
                key,
                retry,
                lease,
                keep,
            } => {
                let attempt = Attempt {
                    id: id(*key),
                    nonce: Nonce::random(),
                    fingerprint: Some(Fingerprint::of(b"asked")),
                    lease: millis(lease),
                    keep: millis(keep),
                    on_unknown: if *retry {
                        OnUnknown::Retry
                    } else {
                        OnUnknown::Hold
                    },
                    label: "POST /".into(),
                };
                let current = oracle.get(&attempt.id);
                let next = oracle.fence + 1;
                let step = Entry::claim(current.as_ref(), &attempt, now, || Fence::new(next));
                match (store.claim(&attempt).await.unwrap(), step) {
                    (Claim::Won(lease), ClaimStep::Write(mut entry)) => {
                        // Fences need not be without gaps: they only ever grow.
                        assert!(lease.fence.get() >= next);
                        assert_eq!(lease.attempt, entry.attempt);
                        entry.fence = lease.fence;
                        oracle.fence = lease.fence.get();
                        oracle.put(&attempt.id, &entry);
                        self.leases.push(lease);
                    }
                    (Claim::Held(found), ClaimStep::Held(expected)) => assert_eq!(found, expected),
                    (found, expected) => panic!("{found:?} and not {expected:?}"),
                }
            }
            Step::Renew {
                lease: number,
                extend,
            } => {
                let Some(lease) = lease(number) else { return };
                let renewal = Renewal {
                    extend: millis(extend),
                    fingerprint: None,
                };
                let current = oracle.get(&lease.id);
                let renewed = current.and_then(|entry| entry.renew(&lease, &renewal, now));
                let fenced = store.renew(&lease, &renewal).await.unwrap();
                assert_eq!(fenced, told(renewed.is_some()));
                if let Some(entry) = renewed {
                    oracle.put(&lease.id, &entry);
                }
            }
            Step::Complete {
                lease: number,
                keep,
                ..
            }
            | Step::Unknown {
                lease: number,
                keep,
            } => {
                let Some(lease) = lease(number) else { return };
                let done = match step {
                    Step::Complete { length, .. } => Done::Kept {
                        status: 200,
                        result: vec![b'x'; *length].into(),
                    },
                    _ => Done::Unknown,
                };
                let completion = Completion {
                    fingerprint: None,
                    done,
                };
                let step = oracle
                    .get(&lease.id)
                    .map(|entry| entry.complete(&lease, &completion, millis(keep), now));
                let fenced = store
                    .complete(&lease, &completion, millis(keep))
                    .await
                    .unwrap();
                match step {
                    Some(CompleteStep::Write(entry)) => {
                        assert_eq!(fenced, Fenced::Applied);
                        oracle.put(&lease.id, &entry);
                    }
                    Some(CompleteStep::Already) => assert_eq!(fenced, Fenced::Applied),
                    Some(CompleteStep::Superseded) | None => {
                        assert_eq!(fenced, Fenced::Superseded);
                    }
                }
            }
            Step::Release { lease: number } => {
                let Some(lease) = lease(number) else { return };
                let current = oracle.get(&lease.id);
                let may = current.is_some_and(|entry| entry.may_release(&lease, now));
                assert_eq!(store.release(&lease).await.unwrap(), told(may));
                if may {
                    oracle.remove(&lease.id);
                }
            }
            Step::Forget { key } => {
                let _ = store.forget(&id(*key)).await.unwrap();
                if oracle
                    .get(&id(*key))
                    .is_some_and(|entry| entry.may_forget(now))
                {
                    oracle.remove(&id(*key));
                }
            }
            Step::Pass { time } => self.clock.advance(millis(time)),
            Step::Reopen => {
                self.store = None;
                self.store = Some(Self::open(&self.folders[0], &self.clock));
                let oracle = self.oracle.take().unwrap();
                self.oracle = Some(oracle.reopen(&self.folders[1]));
                self.compare().await;
            }
        }
    }

    async fn compare(&self) {
        let (store, now) = (self.store.as_ref().unwrap(), self.clock.now());
        let mut live = 0;
        for key in 0..KEYS {
            let entry = self.oracle.as_ref().unwrap().get(&id(key));
            let expected = entry.and_then(|entry| entry.view(now));
            live += usize::from(expected.is_some());
            assert_eq!(store.show(&id(key)).await.unwrap(), expected);
        }
        assert_eq!(store.list(&Page::default()).await.unwrap().len(), live);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn agrees_with_fjall(steps in proptest::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for step in &steps {
                pair.take(step).await;
            }
            pair.take(&Step::Reopen).await;
        });
    }
}
