//! The scripts against `Entry`: after any steps the bytes under a record's key are the encoding
//! of the entry that the same steps make, and the answers are the same.

use std::time::Duration;

use onlyonce_core::codec::{decode_entry, encode_entry};
use onlyonce_core::{
    Attempt, Claim, ClaimStep, Clock as _, CompleteStep, Completion, Done, Effects, Entry, Fence,
    Fenced, Fingerprint, Inspect as _, Lease, ManualClock, Nonce, OnUnknown, RecordId, Renewal,
    Resolution, ResolveStep, Resolved, Store as _,
};
use onlyonce_servers::redis::start_redis;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::TestClock;
use super::support::connect;
use crate::RedisStore;

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Claim(Bid),
    Renew(Owner, Duration, Option<Fingerprint>),
    Complete(Owner, Completion, Duration),
    Release(Owner),
    Resolve(Resolution),
    Forget,
}

#[derive(Clone, Debug)]
struct Bid {
    nonce: u8,
    fingerprint: Option<Fingerprint>,
    lease: Duration,
    keep: Duration,
    on_unknown: OnUnknown,
    label: String,
}

/// Whose fence a write carries.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Present,
    Former,
    Nobody,
}

/// Fractions of a millisecond, and spans that add up to one another.
fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => select(vec![0, 1, 2, 5, 10]).prop_map(Duration::from_millis),
        1 => (0..3_000_000_u64).prop_map(Duration::from_nanos),
        1 => Just(Duration::from_secs(10 * 366 * 24 * 3600)),
    ]
}

fn print() -> impl Strategy<Value = Option<Fingerprint>> {
    let one = Fingerprint::of(b"one");
    select(vec![
        None,
        Some(one),
        Some(one),
        Some(Fingerprint::of(b"two")),
        Some(Fingerprint::OFF),
    ])
}

fn result() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 0..40),
        Just(vec![0xff; 70_000]),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let owner = select(vec![
        Owner::Present,
        Owner::Present,
        Owner::Present,
        Owner::Former,
        Owner::Nobody,
    ]);
    let on_unknown = select(vec![OnUnknown::Hold, OnUnknown::Retry]);
    let bid = (0..3_u8, print(), span(), span(), on_unknown, ".{0,12}").prop_map(
        |(nonce, fingerprint, lease, keep, on_unknown, label)| {
            Step::Claim(Bid {
                nonce,
                fingerprint,
                lease,
                keep,
                on_unknown,
                label,
            })
        },
    );
    let done = prop_oneof![
        (any::<u16>(), result()).prop_map(|(status, result)| Done::Kept {
            status,
            result: result.into()
        }),
        any::<u16>().prop_map(|status| Done::NotKept { status }),
        Just(Done::Unknown),
    ];
    let completion =
        (print(), done).prop_map(|(fingerprint, done)| Completion { fingerprint, done });
    let resolution = prop_oneof![
        Just(Resolution::NotExecuted),
        (any::<u16>(), prop::option::of(result())).prop_map(|(status, result)| {
            Resolution::Completed {
                status,
                result: result.map(Into::into),
            }
        }),
    ];
    let step = prop_oneof![
        3 => select(vec![1_u64, 2, 5, 10, 20]).prop_map(Step::Pass),
        6 => bid,
        3 => (owner.clone(), span(), print()).prop_map(|(a, b, c)| Step::Renew(a, b, c)),
        3 => (owner.clone(), completion, span()).prop_map(|(a, b, c)| Step::Complete(a, b, c)),
        2 => owner.prop_map(Step::Release),
        2 => resolution.prop_map(Step::Resolve),
        1 => Just(Step::Forget),
    ];
    prop::collection::vec(step, 1..24)
}

/// One record, twice.
struct Twins<'a> {
    store: &'a RedisStore,
    clock: &'a ManualClock,
    id: RecordId,
    entry: Option<Entry>,
    fences: Vec<Fence>,
}

impl Twins<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let now = self.clock.now();
        match step {
            Step::Pass(millis) => self.clock.advance(Duration::from_millis(*millis)),
            Step::Claim(bid) => self.claim(bid).await?,
            Step::Renew(owner, extend, fingerprint) => {
                let lease = self.lease(*owner);
                let renewal = Renewal {
                    extend: *extend,
                    fingerprint: *fingerprint,
                };
                let said = self.store.renew(&lease, &renewal).await.unwrap();
                let renewed = self.entry.as_ref();
                let renewed = renewed.and_then(|entry| entry.renew(&lease, &renewal, now));
                prop_assert_eq!(said, fenced(renewed.is_some()));
                self.entry = renewed.or(self.entry.take());
            }
            Step::Complete(owner, completion, keep) => {
                let lease = self.lease(*owner);
                let said = self
                    .store
                    .complete(&lease, completion, *keep)
                    .await
                    .unwrap();
                let entry = self.entry.as_ref();
                match entry.map(|entry| entry.complete(&lease, completion, *keep, now)) {
                    Some(CompleteStep::Write(entry)) => {
                        prop_assert_eq!(said, Fenced::Applied);
                        self.entry = Some(*entry);
                    }
                    Some(CompleteStep::Already) => prop_assert_eq!(said, Fenced::Applied),
                    Some(CompleteStep::Superseded) | None => {
                        prop_assert_eq!(said, Fenced::Superseded);
                    }
                }
            }
            Step::Release(owner) => {
                let lease = self.lease(*owner);
                let said = self.store.release(&lease).await.unwrap();
                let entry = self.entry.take();
                let goes = entry.as_ref().is_some_and(|e| e.may_release(&lease, now));
                prop_assert_eq!(said, fenced(goes));
                self.entry = entry.filter(|_| !goes);
            }
            Step::Resolve(resolution) => self.resolve(resolution).await?,
            Step::Forget => {
                let said = self.store.forget(&self.id).await.unwrap();
                let entry = self.entry.take();
                let live = entry.as_ref().filter(|entry| !entry.is_expired(now));
                let goes = live.is_some_and(|entry| entry.may_forget(now));
                prop_assert_eq!(said, resolved(live.is_some(), goes));
                self.entry = entry.filter(|_| !goes);
            }
        }
        self.compare().await
    }

    async fn claim(&mut self, bid: &Bid) -> Result<(), TestCaseError> {
        let attempt = Attempt {
            id: self.id,
            nonce: Nonce::from_bytes([bid.nonce; 16]),
            fingerprint: bid.fingerprint,
            lease: bid.lease,
            keep: bid.keep,
            on_unknown: bid.on_unknown,
            label: bid.label.as_str().into(),
        };
        let said = self.store.claim(&attempt).await.unwrap();
        let now = self.clock.now();
        // Which fence comes next is the store's business; that it is newer is checked here.
        let (mut drawn, highest) = (false, self.fences.iter().max().copied());
        let next = || {
            drawn = true;
            match &said {
                Claim::Won(lease) => lease.fence,
                Claim::Held(_) => Fence::new(0),
            }
        };
        match (
            Entry::claim(self.entry.as_ref(), &attempt, now, next),
            &said,
        ) {
            (ClaimStep::Write(entry), Claim::Won(lease)) => {
                prop_assert_eq!(&entry.lease(self.id), lease);
                if drawn {
                    prop_assert!(Some(lease.fence) > highest, "{lease:?} after {highest:?}");
                    self.fences.push(lease.fence);
                }
                self.entry = Some(*entry);
            }
            (ClaimStep::Held(expected), Claim::Held(record)) => {
                prop_assert_eq!(&expected, record);
            }
            (expected, said) => prop_assert!(false, "{said:?} rather than {expected:?}"),
        }
        Ok(())
    }

    async fn resolve(&mut self, resolution: &Resolution) -> Result<(), TestCaseError> {
        let said = self.store.resolve(&self.id, resolution).await.unwrap();
        let (now, highest) = (self.clock.now(), self.fences.iter().max().copied());
        let entry = self.entry.take();
        let live = entry.as_ref().filter(|entry| !entry.is_expired(now));
        let shown = self.stored().await;
        let fence = || shown.as_ref().map_or(Fence::new(0), |entry| entry.fence);
        match live.map(|entry| entry.resolve(resolution, now, fence)) {
            Some(ResolveStep::Write(entry)) => {
                prop_assert_eq!(said, Resolved::Applied);
                prop_assert!(Some(entry.fence) > highest);
                self.fences.push(entry.fence);
                self.entry = Some(*entry);
            }
            Some(ResolveStep::Remove) => prop_assert_eq!(said, Resolved::Applied),
            Some(ResolveStep::Refused) => {
                prop_assert_eq!(said, Resolved::Refused);
                self.entry = entry;
            }
            None => {
                prop_assert_eq!(said, Resolved::NotFound);
                self.entry = entry;
            }
        }
        Ok(())
    }

    /// What lies under the key is what the entry says, byte for byte.
    async fn compare(&self) -> Result<(), TestCaseError> {
        let now = self.clock.now();
        let stored = self.stored().await;
        let bytes = |entry: &Entry| encode_entry(entry);
        let expected = self.entry.as_ref().map(bytes);
        prop_assert_eq!(stored.as_ref().map(bytes), expected);
        let shown = self.store.show(&self.id).await.unwrap();
        let expected = self.entry.as_ref().and_then(|entry| entry.view(now));
        prop_assert_eq!(shown, expected);
        Ok(())
    }

    async fn stored(&self) -> Option<Entry> {
        let places = &self.store.0.caller.places;
        let node = self
            .store
            .0
            .caller
            .routes
            .node(onlyonce_core::Operation::Inspect, 0)
            .await
            .unwrap();
        let mut get = redis::cmd("GET");
        get.arg(places.key(&self.id));
        match node.ask(get).await.unwrap() {
            redis::Value::BulkString(bytes) => Some(decode_entry(bytes.into()).unwrap()),
            redis::Value::Nil => None,
            other => panic!("not what GET answers: {other:?}"),
        }
    }

    fn lease(&self, owner: Owner) -> Lease {
        let place = match owner {
            Owner::Present => self.fences.len().checked_sub(1),
            Owner::Former => self.fences.len().checked_sub(2),
            Owner::Nobody => None,
        };
        Lease {
            id: self.id,
            fence: place.map_or(Fence::new(1), |place| self.fences[place]),
            attempt: 1,
            effects: Effects::Apart,
        }
    }
}

fn fenced(applied: bool) -> Fenced {
    if applied {
        Fenced::Applied
    } else {
        Fenced::Superseded
    }
}

fn resolved(found: bool, applied: bool) -> Resolved {
    match (found, applied) {
        (false, _) => Resolved::NotFound,
        (true, true) => Resolved::Applied,
        (true, false) => Resolved::Refused,
    }
}

#[test]
fn scripts_do_what_entry_does() {
    const CASES: u32 = 400;
    let server = start_redis();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let manual = std::sync::Arc::new(ManualClock::new());
    let clock = TestClock::Here(std::sync::Arc::clone(&manual));
    let store = runtime.block_on(connect(&server.url(), "oo:", &clock));
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let tried = TestRunner::new(config).run(&steps(), |steps| {
        let mut id = [0; 32];
        id[..16].copy_from_slice(Nonce::random().as_bytes());
        let mut twins = Twins {
            store: &store,
            clock: &manual,
            id: RecordId::from_bytes(id),
            entry: None,
            fences: Vec::new(),
        };
        runtime.block_on(async {
            for step in &steps {
                twins.step(step).await?;
            }
            Ok(())
        })
    });
    tried.unwrap_or_else(|failed| panic!("{failed}"));
}
