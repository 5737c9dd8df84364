//! The power goes, at every single point.
//!
//! A script runs on the simulated disk, which keeps a trace. For every beginning of that trace,
//! and for many choices of what survived of all that was not flushed by then, the store is
//! opened on what is left. It must open; everything acknowledged must be there; of what was under
//! way at most the whole step may be; and no fence may come twice.

use std::collections::BTreeMap;

use onlyonce_core::{Clock as _, Fenced, Renewal};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;
use crate::Durability;
use crate::disk::sim::{Crash, Image, Traced};

/// So many doubts are gone through in full, as many as there are subsets.
const EXHAUSTIVE: usize = 5;
/// Of more doubts, so many random choices are tried beside none and all.
const RANDOM: usize = 8;

/// The script's steps, as they were begun and acknowledged: by number, noted in the trace.
#[derive(Default)]
struct Story {
    steps: Vec<Told>,
}

/// One step: which key, and what the key's record is when it has been taken.
struct Told {
    key: usize,
    after: Option<Seen>,
    fence: u64,
    /// How long after the beginning of the script it was begun, and acknowledged.
    at: [Duration; 2],
}

struct Script {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    store: DiskStore,
    story: Story,
}

impl Script {
    fn new(disk: SimDisk, durability: Durability) -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = open_with(&disk, &builder(&clock).durability(durability)).unwrap();
        Self {
            disk,
            clock,
            store,
            story: Story::default(),
        }
    }

    /// Runs a step and notes its beginning and its acknowledgement.
    async fn step<T>(&mut self, key: usize, take: impl AsyncFnOnce(&DiskStore) -> T) -> T {
        let number = self.begin(key);
        let value = with_upkeep(&self.store, take(&self.store)).await;
        self.end(number).await;
        value
    }

    fn begin(&mut self, key: usize) -> usize {
        let number = self.story.steps.len();
        self.story.steps.push(Told {
            key,
            after: None,
            fence: 0,
            at: [self.at(); 2],
        });
        self.disk.note(number * 2);
        number
    }

    async fn end(&mut self, number: usize) {
        self.disk.note(number * 2 + 1);
        let at = self.at();
        let told = &mut self.story.steps[number];
        told.at[1] = at;
        let record = show(&self.store, told.key).await;
        told.after = record.as_ref().map(Seen::of);
        told.fence = record.map_or(0, |record| record.fence.get());
    }

    async fn claim(&mut self, key: usize) -> Lease {
        self.step(key, async |store| win(store, key).await).await
    }

    async fn complete(&mut self, key: usize, lease: &Lease, length: usize, keep: Duration) {
        let body = vec![u8::try_from(key % 251).unwrap() + 1; length];
        self.step(key, async |store| finish(store, lease, body, keep).await)
            .await;
    }

    async fn release(&mut self, key: usize, lease: &Lease) {
        let fenced = self
            .step(key, async |store| store.release(lease).await)
            .await;
        assert_eq!(fenced.unwrap(), Fenced::Applied);
    }

    async fn renew(&mut self, key: usize, lease: &Lease) {
        let renewal = Renewal {
            extend: LEASE,
            fingerprint: None,
        };
        let fenced = self
            .step(key, async |store| store.renew(lease, &renewal).await)
            .await;
        assert_eq!(fenced.unwrap(), Fenced::Applied);
    }

    /// Claims and completes many keys at once, so that they share a flush.
    async fn crowd(&mut self, keys: std::ops::Range<usize>, length: usize) {
        let mut leases = BTreeMap::new();
        for complete in [false, true] {
            let numbers: Vec<_> = keys.clone().map(|key| (key, self.begin(key))).collect();
            let (store, disk) = (&self.store, &self.disk);
            let taken = numbers.iter().map(|(key, number)| {
                let lease = leases.get(key).cloned();
                async move {
                    let lease = match lease {
                        None => win(store, *key).await,
                        Some(lease) => {
                            finish(store, &lease, vec![9; length], KEEP).await;
                            lease
                        }
                    };
                    disk.note(number * 2 + 1);
                    (*key, lease)
                }
            });
            let taken = with_upkeep(store, join_all(taken.collect())).await;
            leases = taken.into_iter().collect();
            assert!(!complete || leases.len() == keys.len());
            for (key, number) in numbers {
                let record = show(&self.store, key).await.unwrap();
                let told = &mut self.story.steps[number];
                told.fence = record.fence.get();
                told.after = Some(Seen::of(&record));
            }
        }
    }

    fn at(&self) -> Duration {
        self.clock.now().since(ManualClock::new().now())
    }

    fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
    }
}

async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// Everything that a store does, over several segments, with some of them given back.
async fn everything(script: &mut Script) {
    upkeep(&script.store);
    let long = script.claim(1).await;
    script.renew(1, &long).await;
    for key in 2..5 {
        let lease = script.claim(key).await;
        script.complete(key, &lease, 100 * key, KEEP).await;
    }
    let lease = script.claim(5).await;
    script.release(5, &lease).await;
    script.crowd(10..16, 300).await;
    upkeep(&script.store);
    // More than a sector, more than a segment.
    let lease = script.claim(6).await;
    script.complete(6, &lease, 3000, KEEP).await;
    upkeep(&script.store);
    let lease = script.claim(5).await;
    script.complete(5, &lease, 0, KEEP).await;
    script.crowd(20..28, 700).await;
    upkeep(&script.store);
    script.renew(1, &long).await;
    script.crowd(30..34, 500).await;
    upkeep(&script.store);
    script.complete(1, &long, 50, KEEP * 10).await;
}

/// Keys that expire, and the room they give back.
async fn expiring(script: &mut Script) {
    upkeep(&script.store);
    let lease = script.claim(1).await;
    script.complete(1, &lease, 600, KEEP * 100).await;
    for round in 0..4 {
        for key in 0..4 {
            let key = 100 * (round + 1) + key;
            let lease = script.claim(key).await;
            script.complete(key, &lease, 900, KEEP).await;
            upkeep(&script.store);
        }
        // Their last step is their end.
        let ends: Vec<_> = (0..4)
            .map(|key| script.begin(100 * (round + 1) + key))
            .collect();
        script.pass(KEEP * 2);
        for end in ends {
            script.end(end).await;
        }
        upkeep(&script.store);
        upkeep(&script.store);
    }
    assert!(script.store.stats().segments_dropped >= 2);
    assert!(script.store.stats().copied_bytes > 0);
    let lease = script.claim(2).await;
    script.complete(2, &lease, 10, KEEP).await;
}

/// What every key may be after a crash at the end of this beginning of the trace. Unless
/// `strict`, what was acknowledged may be gone.
fn expectations(story: &Story, trace: &[Traced], strict: bool) -> Expected {
    let mut may: BTreeMap<usize, Vec<Option<Seen>>> = BTreeMap::new();
    let mut fence = 0;
    let mut at = Duration::ZERO;
    for step in trace {
        let Traced::Note(note) = step else { continue };
        let told = &story.steps[note / 2];
        at = told.at[note % 2];
        let states = may.entry(told.key).or_insert_with(|| vec![None]);
        if note % 2 == 0 {
            states.push(told.after.clone());
        } else {
            if strict {
                *states = vec![told.after.clone()];
            }
            fence = fence.max(told.fence);
        }
    }
    Expected { may, fence, at }
}

struct Expected {
    /// By key, the states that it may be in.
    may: BTreeMap<usize, Vec<Option<Seen>>>,
    /// The highest fence that was told.
    fence: u64,
    /// How long after the beginning of the script the crash was.
    at: Duration,
}

/// A disk as a crash may have left it.
struct Left {
    image: Image,
    /// Whether nothing was lost of what the system had been given.
    whole: bool,
}

fn check(image: &Image, expected: &Expected, rng: &mut TestRng, again: bool, what: &str) {
    let disk = SimDisk::new(image.clone());
    let Expected { may, fence, at } = expected;
    let clock = &Arc::new(ManualClock::new());
    clock.advance(*at);
    let opened =
        |disk: &SimDisk| open(disk, clock).unwrap_or_else(|error| panic!("{what}: {error}"));
    let agrees = async |store: &DiskStore| {
        for (key, states) in may {
            let found = show(store, *key).await.as_ref().map(Seen::of);
            assert!(
                states.contains(&found),
                "{what}: key {key} is {found:?}, and may be {states:?}"
            );
        }
    };
    let store = opened(&disk);
    let opening = disk.trace();
    block_on(async {
        agrees(&store).await;
        // And it goes on: newer fences, and what it records now is there after it.
        upkeep(&store);
        let lease = with_upkeep(&store, win(&store, 999_999)).await;
        assert!(
            lease.fence.get() > *fence,
            "{what}: fence {} after {fence}",
            lease.fence
        );
        with_upkeep(&store, finish(&store, &lease, vec![1; 700], KEEP)).await;
    });
    drop(store);
    let store = opened(&SimDisk::new(disk.live()));
    block_on(async {
        agrees(&store).await;
        assert!(show(&store, 999_999).await.is_some(), "{what}");
    });
    drop(store);
    if again {
        // The power goes once more, while the store is being opened.
        for end in 0..=opening.len() {
            let crash = Crash::at_end_of(image, &opening[..end]);
            for left in left_by(&crash, rng).iter().take(6) {
                let store = opened(&SimDisk::new(left.image.clone()));
                block_on(agrees(&store));
            }
        }
    }
}

/// The disks that may be left by a crash.
fn left_by(crash: &Crash, rng: &mut TestRng) -> Vec<Left> {
    let doubts = crash.doubts();
    if doubts <= EXHAUSTIVE {
        let all = (1_u32 << doubts) - 1;
        return (0..=all)
            .map(|choice| Left {
                image: crash.image(|doubt| choice >> doubt & 1 == 1),
                whole: choice == all,
            })
            .collect();
    }
    let mut left: Vec<_> = [false, true]
        .map(|whole| Left {
            image: crash.image(|_| whole),
            whole,
        })
        .into();
    for _ in 0..RANDOM {
        // From almost nothing survived to almost everything.
        let share = rng.next_u32() % 256;
        let image = crash.image(|_| rng.next_u32() % 256 < share);
        let whole = false;
        left.push(Left { image, whole });
    }
    left
}

fn crash_everywhere(durability: Durability, run: impl AsyncFnOnce(&mut Script)) {
    let mut script = Script::new(SimDisk::new(Image::new()), durability);
    block_on(run(&mut script));
    let Script {
        disk, store, story, ..
    } = script;
    drop(store);
    let (base, trace) = (disk.base(), disk.trace());
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut tried = 0;
    for end in 0..=trace.len() {
        let prefix = &trace[..end];
        let crash = Crash::at_end_of(&base, prefix);
        for (number, left) in left_by(&crash, &mut rng).iter().enumerate() {
            let what = format!("crash after {end} of {}, choice {number}", trace.len());
            let strict = durability == Durability::Record || left.whole;
            let expected = expectations(&story, prefix, strict);
            check(&left.image, &expected, &mut rng, number < 3, &what);
            tried += 1;
        }
    }
    println!("{} steps, {tried} disks", trace.len());
    assert!(tried > trace.len(), "some choices were tried");
}

#[test]
fn hazard_46_torn_writes_lose_nothing_acknowledged() {
    crash_everywhere(Durability::Record, everything);
}

#[test]
fn hazard_46_a_crash_while_room_is_given_back_loses_nothing_acknowledged() {
    crash_everywhere(Durability::Record, expiring);
}

/// Weaker, as it says: what was acknowledged may be gone with the power. But nothing is half
/// there, no fence comes twice, and what the system was given survives the process alone.
#[test]
fn hazard_46_relaxed_durability_leaves_whole_records() {
    let every = Duration::from_secs(60);
    crash_everywhere(Durability::Relaxed { every }, everything);
}
