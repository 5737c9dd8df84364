//! Random histories, held against a simple model of the contract.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use onlyonce_core::{
    Attempt, Claim, Fenced, Lease, OnUnknown, Page, RecordId, Renewal, StateKind, Store,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use tokio::sync::Barrier;

use crate::linear::{self, Event};
use crate::model::Key;
use crate::rig::{Rig, attempt, kept, new_id, result_of, ticks};
use crate::steps::{Dice, Step, Subject, spans, steps};
use crate::{ExactTime, Harness, Reopen};

/// One step of a sequential history over three keys.
#[derive(Clone, Debug)]
enum Turn {
    On(usize, Step),
    Pass(u64),
    ListAndCount,
    Reopen,
}

const KEYS: usize = 3;
const SEQUENCES: usize = 96;

/// One operation after another, with time steps in between that often meet a deadline exactly:
/// every answer is the model's. A failure is shrunk to the shortest history that shows it.
pub async fn sequences_agree_with_the_model<H: ExactTime>() {
    sequences::<H>(0, async |rig| rig).await;
}

/// Likewise, with the store closed and opened again at any moment.
pub async fn sequences_agree_across_reopening<H: ExactTime + Reopen>() {
    sequences::<H>(2, async |rig: Rig<H>| rig.reopen().await).await;
}

/// Many operations at once on one key: the answers are such as some order of them would have
/// given, one that keeps to real time (linearizability). With that, invariants 1 to 3 hold: one
/// owner at a time, one answer, and no effect of an old fence.
pub async fn concurrent_histories_are_linearizable<H: Harness>() {
    concurrently::<H>(true).await;
}

/// Likewise while time goes by, in steps that often meet a deadline exactly.
pub async fn concurrent_histories_in_time_are_linearizable<H: ExactTime>() {
    concurrently::<H>(false).await;
}

async fn sequences<H: ExactTime>(reopen: u32, reopener: impl AsyncFn(Rig<H>) -> Rig<H>) {
    let turn = prop_oneof![
        20 => (0..KEYS, steps(false)).prop_map(|(key, step)| Turn::On(key, step)),
        8 => spans().prop_map(Turn::Pass),
        1 => Just(Turn::ListAndCount),
        reopen => Just(Turn::Reopen),
    ];
    let sequence = vec(turn, 1..60);
    let mut dice = Dice::new();
    for _ in 0..SEQUENCES {
        let mut tree = dice.throw(&sequence);
        let Err(mut wrong) = run(&tree.current(), &reopener).await else {
            continue;
        };
        // Shrink: on as long as it fails, back one step when it does not.
        let mut more = tree.simplify();
        for _ in 0..2_000 {
            if !more {
                break;
            }
            more = match run(&tree.current(), &reopener).await {
                Ok(()) => tree.complicate(),
                Err(again) => {
                    wrong = again;
                    tree.simplify()
                }
            };
        }
        panic!("{wrong}\n  again with {}", dice.hint());
    }
}

async fn run<H: ExactTime>(
    turns: &[Turn],
    reopener: &impl AsyncFn(Rig<H>) -> Rig<H>,
) -> Result<(), String> {
    let mut rig = Rig::<H>::new().await;
    let mut subjects: Vec<_> = (0..KEYS).map(|_| Subject::new(new_id())).collect();
    subjects.sort_by_key(|subject| subject.id);
    let mut keys = vec![Key::new(); KEYS];
    let mut now = 1_000_000;
    for (number, turn) in turns.iter().enumerate() {
        let judged = match turn {
            Turn::On(key, step) => {
                let op = subjects[*key].op(step);
                let answer = subjects[*key].act(&*rig.store(), &op).await;
                keys[*key]
                    .step(now, &op, &answer)
                    .map(|known| keys[*key] = known)
            }
            Turn::Pass(millis) => {
                rig.advance_millis(*millis).await;
                now += millis;
                Ok(())
            }
            Turn::ListAndCount => compare_listing(&rig, &subjects, &keys, now).await,
            Turn::Reopen => {
                rig = reopener(rig).await;
                Ok(())
            }
        };
        judged.map_err(|wrong| {
            let story: Vec<_> = turns[..=number]
                .iter()
                .map(|t| format!("  {t:?}"))
                .collect();
            format!("this history:\n{}\n{wrong}", story.join("\n"))
        })?;
    }
    Ok(())
}

async fn compare_listing<H: Harness>(
    rig: &Rig<H>,
    subjects: &[Subject],
    keys: &[Key],
    now: u64,
) -> Result<(), String> {
    let listed: Vec<_> = rig.list(&Page::default()).await;
    let listed: Vec<_> = listed
        .iter()
        .map(|line| (line.id, StateKind::of(&line.record)))
        .collect();
    let expected: Vec<_> = subjects
        .iter()
        .zip(keys)
        .filter_map(|(subject, key)| Some((subject.id, key.listed(now)?)))
        .collect();
    if listed != expected {
        return Err(format!("listed: {listed:?}\n  rather: {expected:?}"));
    }
    let counts = rig.count().await;
    let of = |kind| expected.iter().filter(|line| line.1 == kind).count() as u64;
    let counted = [
        counts.in_progress,
        counts.unknown,
        counts.completed,
        counts.not_kept,
    ];
    let expected = StateKind::ALL.map(of);
    if counted != expected {
        return Err(format!("counted: {counted:?}\n  rather: {expected:?}"));
    }
    Ok(())
}

const ROUNDS: usize = 150;
const TASKS: usize = 5;
const STEPS: usize = 7;

async fn concurrently<H: Harness>(timeless: bool) {
    let rig = Rig::<H>::new().await;
    let program = vec(vec(steps(timeless), STEPS), TASKS);
    let pauses = vec(spans(), STEPS);
    let mut dice = Dice::new();
    let clock = Arc::new(AtomicU64::new(0));
    for _ in 0..ROUNDS {
        let subject = Arc::new(Subject::new(new_id()));
        let start = Arc::new(Barrier::new(TASKS + 1));
        let tasks: Vec<_> = dice
            .throw(&program)
            .current()
            .into_iter()
            .map(|steps| {
                let (store, subject) = (rig.store(), Arc::clone(&subject));
                let (start, clock) = (Arc::clone(&start), Arc::clone(&clock));
                tokio::spawn(async move {
                    start.wait().await;
                    let mut events = Vec::new();
                    for step in steps {
                        let op = subject.op(&step);
                        let invoked = clock.fetch_add(1, Ordering::SeqCst);
                        let answer = subject.act(&*store, &op).await;
                        let returned = clock.fetch_add(1, Ordering::SeqCst);
                        events.push(Event::did(invoked, returned, op, answer));
                        tokio::task::yield_now().await;
                    }
                    events
                })
            })
            .collect();
        let pauses = dice.throw(&pauses).current();
        start.wait().await;
        let mut events = Vec::new();
        for millis in pauses {
            if timeless {
                break;
            }
            tokio::task::yield_now().await;
            let invoked = clock.fetch_add(1, Ordering::SeqCst);
            rig.advance(Duration::from_millis(millis)).await;
            let returned = clock.fetch_add(1, Ordering::SeqCst);
            events.push(Event::passed(invoked, returned, millis));
        }
        for task in tasks {
            events.extend(task.await.expect("no operation panics"));
        }
        if timeless {
            for event in &mut events {
                event.forget_time();
            }
        }
        if let Err(wrong) = linear::check(&events) {
            panic!(
                "{wrong}\n  the same choices (not the same races) with {}",
                dice.hint()
            );
        }
    }
}

/// Many requests as the engine makes them, on few keys, their owners often vanishing: under
/// `Hold` none is executed twice, and whoever gets a result gets the same one (invariants 1, 2).
pub async fn hold_executes_at_most_once<H: Harness>() {
    let executions = requests::<H>(false).await;
    for (key, count) in executions.iter().enumerate() {
        assert!(*count <= 1, "key {key} was executed {count} times");
    }
}

/// Likewise under `Retry`, where a vanished owner is succeeded: however often a request was
/// begun, one result is recorded, and everybody gets that one (invariants 2, 3).
pub async fn retry_gives_everybody_one_answer<H: Harness>() {
    let executions = requests::<H>(true).await;
    assert!(executions.iter().all(|count| *count >= 1), "{executions:?}");
}

/// Gives how often each key was executed.
async fn requests<H: Harness>(retry: bool) -> Vec<u64> {
    let rig = Rig::<H>::new().await;
    let ids: Vec<_> = (0..6).map(|_| new_id()).collect();
    let executions: Arc<[AtomicU64]> = ids.iter().map(|_| AtomicU64::new(0)).collect();
    let clients: Vec<_> = (0..40)
        .map(|number| {
            let (store, ids) = (rig.store(), ids.clone());
            let executions = Arc::clone(&executions);
            tokio::spawn(async move {
                let mut results = Vec::new();
                for (id, executed) in ids.iter().zip(&*executions) {
                    let client = Client {
                        number,
                        retry,
                        executed,
                    };
                    results.push(client.request::<H>(&*store, *id).await);
                }
                results
            })
        })
        .collect();
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::task::yield_now().await;
        rig.pass(1).await;
    }
    let mut answers: Vec<Vec<_>> = vec![Vec::new(); ids.len()];
    for client in clients {
        let results = client.await.expect("a client does not panic");
        for (answers, result) in answers.iter_mut().zip(results) {
            answers.extend(result);
        }
    }
    for (id, answers) in ids.iter().zip(&mut answers) {
        // The record as it is in the end is the answer that everybody had.
        answers.extend(rig.show(id).await.as_ref().and_then(result_of));
        answers.dedup();
        assert!(answers.len() <= 1, "two answers: {answers:?}");
    }
    let counts = executions.iter().map(|count| count.load(Ordering::SeqCst));
    counts.collect()
}

/// Nothing expires while clients ask: in a new life a key may have another answer.
const NEVER: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// A client's requests, as the engine treats them.
#[derive(Clone, Copy)]
struct Client<'a> {
    number: u32,
    retry: bool,
    executed: &'a AtomicU64,
}

impl Client<'_> {
    /// Asks until there is an answer, but not for ever: nobody answers for a vanished owner.
    async fn request<H: Harness>(self, store: &impl Store, id: RecordId) -> Option<Bytes> {
        for _ in 0..30 {
            let bid = Attempt {
                lease: ticks::<H>(3),
                keep: NEVER,
                on_unknown: if self.retry {
                    OnUnknown::Retry
                } else {
                    OnUnknown::Hold
                },
                ..attempt::<H>(id)
            };
            match store.claim(&bid).await.expect("the store takes a claim") {
                Claim::Won(lease) => return self.execute::<H>(store, &lease).await,
                Claim::Held(record) => match result_of(&record) {
                    Some(result) => return Some(result),
                    None => tokio::task::yield_now().await,
                },
            }
        }
        None
    }

    /// Every third owner vanishes. The others are slow, and some of them forget to renew.
    async fn execute<H: Harness>(self, store: &impl Store, lease: &Lease) -> Option<Bytes> {
        self.executed.fetch_add(1, Ordering::SeqCst);
        if self.number.is_multiple_of(3) {
            return None;
        }
        let renewal = Renewal {
            extend: ticks::<H>(3),
            fingerprint: None,
        };
        for _ in 0..self.number % 7 {
            tokio::task::yield_now().await;
            if self.number.is_multiple_of(2) {
                let renewed = store.renew(lease, &renewal).await;
                let (Fenced::Applied | Fenced::Superseded) =
                    renewed.expect("the store takes a renewal");
            }
        }
        let result = Bytes::from(format!("executed by {} as {}", self.number, lease.fence));
        let completion = kept(result.clone());
        let done = store.complete(lease, &completion, NEVER).await;
        match done.expect("the store takes a completion") {
            Fenced::Applied => Some(result),
            Fenced::Superseded => None,
        }
    }
}
