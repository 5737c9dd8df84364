//! Random histories: what is asked, in symbols, and what that means on a store.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use onlyonce_core::{
    Attempt, Claim, Completion, Done, Effects, Fence, Fingerprint, Inspect, Lease, Nonce,
    OnUnknown, RecordId, Renewal, Resolution, Store,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::model::{Answer, Op};

/// One thing that is done to one key of a history.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Claim {
        nonce: u8,
        fingerprint: Option<Fingerprint>,
        lease: u64,
        keep: u64,
        retry: bool,
    },
    /// By one of the owners that the key has had, late ones too: the last but so many.
    Renew(usize, u64, Option<Fingerprint>),
    Complete(usize, Completion, u64),
    Release(usize),
    Show,
    Resolve(Resolution),
    Forget,
}

/// Millisecond spans that often add up to one another, so that deadlines are often met exactly.
const SPANS: [u64; 6] = [1, 4, 5, 9, 10, 20];

pub(crate) fn spans() -> impl Strategy<Value = u64> {
    select(&SPANS[..])
}

/// Steps on a key. `timeless` histories have leases and lifetimes of hours.
pub(crate) fn steps(timeless: bool) -> impl Strategy<Value = Step> {
    let span = if timeless {
        Just(3_600_000).boxed()
    } else {
        spans().boxed()
    };
    let keep = if timeless {
        span.clone()
    } else {
        prop_oneof![1 => Just(0), 5 => spans()].boxed()
    };
    let prints = vec![
        None,
        Some(Fingerprint::of(b"one")),
        Some(Fingerprint::of(b"one")),
        Some(Fingerprint::of(b"two")),
        Some(Fingerprint::OFF),
    ];
    let print = select(prints);
    let learnt = prop_oneof![2 => Just(None), 1 => print.clone()];
    let done = prop_oneof![
        3 => vec(any::<u8>(), 0..4).prop_map(|result| Done::Kept {
            status: 200,
            result: result.into(),
        }),
        1 => Just(Done::NotKept { status: 500 }),
        1 => Just(Done::Unknown),
    ];
    let completion =
        (learnt.clone(), done).prop_map(|(fingerprint, done)| Completion { fingerprint, done });
    let resolution = prop_oneof![
        Just(Resolution::NotExecuted),
        Just(Resolution::Completed {
            status: 201,
            result: None,
        }),
        Just(Resolution::Completed {
            status: 202,
            result: Some("the operator's".into()),
        }),
    ];
    // The last owner mostly, else a late one.
    let owner = prop_oneof![4 => Just(0_usize), 2 => 1..4_usize];
    prop_oneof![
        8 => (0..4_u8, print, span.clone(), keep.clone(), any::<bool>()).prop_map(
            |(nonce, fingerprint, lease, keep, retry)| Step::Claim {
                nonce, fingerprint, lease, keep, retry,
            },
        ),
        3 => (owner.clone(), span, learnt).prop_map(|(who, by, print)| Step::Renew(who, by, print)),
        4 => (owner.clone(), completion, keep)
            .prop_map(|(who, completion, keep)| Step::Complete(who, completion, keep)),
        2 => owner.prop_map(Step::Release),
        1 => Just(Step::Show),
        2 => resolution.prop_map(Step::Resolve),
        1 => Just(Step::Forget),
    ]
}

/// A key of a history, and all its owners so far.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) id: RecordId,
    nonces: [Nonce; 4],
    owners: Mutex<Vec<Fence>>,
}

impl Subject {
    pub(crate) fn new(id: RecordId) -> Self {
        Self {
            id,
            nonces: std::array::from_fn(|_| Nonce::random()),
            owners: Mutex::default(),
        }
    }

    /// What `step` means at this moment.
    pub(crate) fn op(&self, step: &Step) -> Op {
        match step {
            Step::Claim {
                nonce,
                fingerprint,
                lease,
                keep,
                retry,
            } => Op::Claim {
                nonce: self.nonces[usize::from(*nonce)],
                fingerprint: *fingerprint,
                lease: Duration::from_millis(*lease),
                keep: Duration::from_millis(*keep),
                retry: *retry,
                label: format!("request {nonce}").into(),
            },
            Step::Renew(who, extend, fingerprint) => {
                let renewal = Renewal {
                    extend: Duration::from_millis(*extend),
                    fingerprint: *fingerprint,
                };
                Op::Renew(self.owner(*who), renewal)
            }
            Step::Complete(who, completion, keep) => {
                let keep = Duration::from_millis(*keep);
                Op::Complete(self.owner(*who), completion.clone(), keep)
            }
            Step::Release(who) => Op::Release(self.owner(*who)),
            Step::Show => Op::Show,
            Step::Resolve(resolution) => Op::Resolve(resolution.clone()),
            Step::Forget => Op::Forget,
        }
    }

    /// Does `op` to the store.
    pub(crate) async fn act(&self, store: &(impl Store + Inspect), op: &Op) -> Answer {
        let answer = match op {
            Op::Claim {
                nonce,
                fingerprint,
                lease,
                keep,
                retry,
                label,
            } => {
                let attempt = Attempt {
                    id: self.id,
                    nonce: *nonce,
                    fingerprint: *fingerprint,
                    lease: *lease,
                    keep: *keep,
                    on_unknown: if *retry {
                        OnUnknown::Retry
                    } else {
                        OnUnknown::Hold
                    },
                    label: label.clone(),
                };
                store.claim(&attempt).await.map(|claim| match claim {
                    Claim::Won(Lease { fence, attempt, .. }) => {
                        self.owners().push(fence);
                        Answer::Won { fence, attempt }
                    }
                    Claim::Held(record) => Answer::Held(record),
                })
            }
            Op::Renew(fence, renewal) => {
                let renewed = store.renew(&self.lease(*fence), renewal).await;
                renewed.map(Answer::Fenced)
            }
            Op::Complete(fence, completion, keep) => {
                let lease = self.lease(*fence);
                let completed = store.complete(&lease, completion, *keep).await;
                completed.map(Answer::Fenced)
            }
            Op::Release(fence) => {
                let released = store.release(&self.lease(*fence)).await;
                released.map(Answer::Fenced)
            }
            Op::Show => store.show(&self.id).await.map(Answer::Shown),
            Op::Resolve(resolution) => {
                let resolved = store.resolve(&self.id, resolution).await;
                resolved.map(Answer::Resolved)
            }
            Op::Forget => store.forget(&self.id).await.map(Answer::Resolved),
        };
        answer.unwrap_or_else(|error| panic!("the store takes {op:?}: {error}"))
    }

    /// The fence of the last owner but `back`; of nobody, when there were not so many.
    fn owner(&self, back: usize) -> Fence {
        let owners = self.owners();
        let owner = owners.iter().rev().nth(back);
        owner.copied().unwrap_or(Fence::new(0))
    }

    fn lease(&self, fence: Fence) -> Lease {
        Lease {
            id: self.id,
            fence,
            attempt: 1,
            effects: Effects::Apart,
        }
    }

    fn owners(&self) -> std::sync::MutexGuard<'_, Vec<Fence>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The random choices of one check: another seed at each run, told when the check fails.
pub(crate) struct Dice {
    seed: [u8; 16],
    runner: TestRunner,
}

/// Set to a seed that a failed check named, to have the same histories again.
const SEED: &str = "ONLYONCE_CONFORMANCE_SEED";

impl Dice {
    pub(crate) fn new() -> Self {
        let seed = match std::env::var(SEED) {
            Ok(text) => u128::from_str_radix(&text, 16)
                .unwrap_or_else(|error| panic!("{SEED}={text} is no hexadecimal seed: {error}"))
                .to_be_bytes(),
            Err(_) => *Nonce::random().as_bytes(),
        };
        let rng = TestRng::from_seed(RngAlgorithm::XorShift, &seed);
        Self {
            seed,
            runner: TestRunner::new_with_rng(Config::default(), rng),
        }
    }

    pub(crate) fn throw<S: Strategy>(&mut self, strategy: &S) -> S::Tree {
        let tree = strategy.new_tree(&mut self.runner);
        tree.expect("the strategies here reject nothing")
    }

    /// How to come by the same histories again.
    pub(crate) fn hint(&self) -> String {
        format!("{SEED}={:032x}", u128::from_be_bytes(self.seed))
    }
}
