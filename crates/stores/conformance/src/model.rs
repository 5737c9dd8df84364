//! A simple model of one key, written from the contract alone.
//!
//! It shares the contract's vocabulary with `onlyonce-core` (records, fingerprints, resolutions)
//! and none of its decisions. It does not foretell answers, it judges them: given an operation
//! and the answer that a store gave, it says whether that answer was right, and what is known
//! afterwards. Fences need that: which number comes next is the store's business.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use onlyonce_core::{
    Completion, Done, Fence, Fenced, Fingerprint, Nonce, Record, Renewal, Resolution, Resolved,
    State, StateKind,
};

/// What was asked of a key.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Claim {
        nonce: Nonce,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
        keep: Duration,
        retry: bool,
        label: Box<str>,
    },
    Renew(Fence, Renewal),
    Complete(Fence, Completion, Duration),
    Release(Fence),
    Show,
    Resolve(Resolution),
    Forget,
}

/// What the store answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Won { fence: Fence, attempt: u32 },
    Held(Record),
    Fenced(Fenced),
    Shown(Option<Record>),
    Resolved(Resolved),
}

/// All that is known of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    life: Option<Life>,
    /// The highest fence that was seen on it.
    highest: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Life {
    fingerprint: Option<Fingerprint>,
    attempt: u32,
    fence: Number,
    nonce: Nonce,
    label: Box<str>,
    born: u64,
    dies: u64,
    stage: Stage,
}

/// A fence; that of a resolution is not seen until somebody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Number {
    Seen(u64),
    Above(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Working { until: u64, keep: u64 },
    Doubt,
    Done(State),
}

impl Key {
    pub(crate) fn new() -> Self {
        Self {
            life: None,
            highest: 0,
        }
    }

    /// Judges `answer` to `op` at `now` (milliseconds). `Ok`: it was right, and this is known now.
    pub(crate) fn step(&self, now: u64, op: &Op, answer: &Answer) -> Result<Self, String> {
        let mut key = self.clone();
        if key.life.as_ref().is_some_and(|life| life.dies <= now) {
            key.life = None;
        }
        let judged = match (op, answer) {
            (Op::Claim { .. }, Answer::Won { fence, attempt }) => {
                key.won(now, op, fence.get(), *attempt)
            }
            (Op::Claim { .. }, Answer::Held(record)) => key.held(now, op, record),
            (Op::Renew(fence, renewal), Answer::Fenced(fenced)) => {
                key.renewed(now, *fence, renewal, *fenced)
            }
            (Op::Complete(fence, completion, keep), Answer::Fenced(fenced)) => {
                key.completed(now, *fence, completion, *keep, *fenced)
            }
            (Op::Release(fence), Answer::Fenced(fenced)) => key.released(*fence, *fenced),
            (Op::Show, Answer::Shown(record)) => key.shown(now, record.as_ref()),
            (Op::Resolve(resolution), Answer::Resolved(resolved)) => {
                key.resolved(now, resolution, *resolved)
            }
            (Op::Forget, Answer::Resolved(resolved)) => key.forgotten(now, *resolved),
            _ => Err("an answer to another question".into()),
        };
        match judged {
            Ok(()) => Ok(key),
            Err(wrong) => Err(format!(
                "at {now} ms, {op:?} was answered by {answer:?}\n  wrong: {wrong}\n  known: {self:?}"
            )),
        }
    }

    /// Its state as operators count it, and what a listing would say of it, if it is live.
    pub(crate) fn listed(&self, now: u64) -> Option<StateKind> {
        let life = self.life.as_ref().filter(|life| now < life.dies)?;
        Some(match &life.stage {
            Stage::Working { until, .. } if now < *until => StateKind::InProgress,
            Stage::Working { .. } | Stage::Doubt => StateKind::Unknown,
            Stage::Done(State::Completed { kept: None, .. }) => StateKind::NotKept,
            Stage::Done(_) => StateKind::Completed,
        })
    }

    fn won(&mut self, now: u64, op: &Op, fence: u64, attempt: u32) -> Result<(), String> {
        let Op::Claim {
            nonce,
            fingerprint,
            lease,
            keep,
            retry,
            label,
        } = op
        else {
            return Err("only a claim is won".into());
        };
        let until = now.saturating_add(millis(*lease));
        let stage = Stage::Working {
            until,
            keep: millis(*keep),
        };
        let dies = until.saturating_add(millis(*keep));
        let Some(life) = &mut self.life else {
            right(attempt == 1, || "a new life begins with attempt 1".into())?;
            right(fence > self.highest, || "the fence went back".into())?;
            self.highest = fence;
            self.life = Some(Life {
                fingerprint: *fingerprint,
                attempt,
                fence: Number::Seen(fence),
                nonce: *nonce,
                label: label.clone(),
                born: now,
                dies,
                stage,
            });
            return Ok(());
        };
        let Stage::Working { until, .. } = life.stage else {
            return Err("nobody wins what is not in progress".into());
        };
        if life.nonce == *nonce {
            let same = life.fence == Number::Seen(fence) && life.attempt == attempt;
            right(same, || "a claim that is sent again is the same".into())?;
        } else {
            right(*retry, || "vanished owners are held here".into())?;
            right(until <= now, || "its owner is at work".into())?;
            right(life.may_pass_to(*fingerprint), || {
                "it may be another request".into()
            })?;
            right(attempt == life.attempt + 1, || "one attempt more".into())?;
            right(fence > self.highest, || "the fence is newer".into())?;
            self.highest = fence;
            life.fence = Number::Seen(fence);
            life.attempt = attempt;
            life.nonce = *nonce;
            life.fingerprint = *fingerprint;
            life.label = label.clone();
        }
        life.stage = stage;
        life.dies = dies;
        Ok(())
    }

    fn held(&mut self, now: u64, op: &Op, record: &Record) -> Result<(), String> {
        let Op::Claim {
            nonce,
            fingerprint,
            retry,
            ..
        } = op
        else {
            return Err("only a claim is held".into());
        };
        let Some(life) = &self.life else {
            return Err("there is no record that could hold it".into());
        };
        if let Stage::Working { until, .. } = life.stage {
            right(life.nonce != *nonce, || "it is its own".into())?;
            let open = *retry && until <= now && life.may_pass_to(*fingerprint);
            right(!open, || "it should have taken over".into())?;
        }
        self.shown(now, Some(record))
    }

    fn renewed(
        &mut self,
        now: u64,
        fence: Fence,
        renewal: &Renewal,
        fenced: Fenced,
    ) -> Result<(), String> {
        let Some((life, keep)) = self.working(fence) else {
            return right(fenced == Fenced::Superseded, || "not its own".into());
        };
        right(fenced == Fenced::Applied, || "it is its own".into())?;
        let until = now.saturating_add(millis(renewal.extend));
        life.stage = Stage::Working { until, keep };
        life.dies = until.saturating_add(keep);
        life.fingerprint = renewal.fingerprint.or(life.fingerprint);
        Ok(())
    }

    fn completed(
        &mut self,
        now: u64,
        fence: Fence,
        completion: &Completion,
        keep: Duration,
        fenced: Fenced,
    ) -> Result<(), String> {
        if let Some((life, _)) = self.working(fence) {
            right(fenced == Fenced::Applied, || "it is its own".into())?;
            life.stage = match completion.done.clone() {
                Done::Kept { status, result } => Stage::Done(State::Completed {
                    status,
                    kept: Some(result),
                }),
                Done::NotKept { status } => Stage::Done(State::Completed { status, kept: None }),
                Done::Unknown => Stage::Doubt,
            };
            life.dies = now.saturating_add(millis(keep));
            life.fingerprint = completion.fingerprint.or(life.fingerprint);
            return Ok(());
        }
        // Ended already, by this very owner: applied, and nothing changes.
        let life = self.life.as_ref();
        let own = life.is_some_and(|life| life.fence == Number::Seen(fence.get()));
        right((fenced == Fenced::Applied) == own, || {
            format!(
                "this owner {} completed it",
                if own { "has" } else { "has not" }
            )
        })
    }

    fn released(&mut self, fence: Fence, fenced: Fenced) -> Result<(), String> {
        if self.working(fence).is_none() {
            return right(fenced == Fenced::Superseded, || "not its own".into());
        }
        self.life = None;
        right(fenced == Fenced::Applied, || "it is its own".into())
    }

    fn shown(&mut self, now: u64, record: Option<&Record>) -> Result<(), String> {
        let (life, record) = match (&mut self.life, record) {
            (None, None) => return Ok(()),
            (None, Some(_)) => return Err("there is no record".into()),
            (Some(_), None) => return Err("there is a record".into()),
            (Some(life), Some(record)) => (life, record),
        };
        let fence = record.fence.get();
        match life.fence {
            Number::Seen(seen) => right(fence == seen, || "not its fence".into())?,
            Number::Above(old) => {
                right(fence > old, || "a resolution takes a new fence".into())?;
                life.fence = Number::Seen(fence);
                self.highest = self.highest.max(fence);
            }
        }
        let expected = Record {
            fingerprint: life.fingerprint,
            attempt: life.attempt,
            fence: record.fence,
            state: match &life.stage {
                Stage::Working { until, .. } => State::InProgress {
                    lease_left: Duration::from_millis(until.saturating_sub(now)),
                },
                Stage::Doubt => State::Unknown,
                Stage::Done(state) => state.clone(),
            },
            age: Duration::from_millis(now - life.born),
            expires_in: Duration::from_millis(life.dies - now),
            label: life.label.clone(),
        };
        right(*record == expected, || format!("it says {expected:?}"))
    }

    fn resolved(
        &mut self,
        now: u64,
        resolution: &Resolution,
        resolved: Resolved,
    ) -> Result<(), String> {
        let expected = match self.listed(now) {
            None => Resolved::NotFound,
            Some(StateKind::Unknown) => Resolved::Applied,
            Some(_) => Resolved::Refused,
        };
        right(resolved == expected, || format!("rather {expected:?}"))?;
        let highest = self.highest;
        let Some(life) = self.life.as_mut().filter(|_| expected == Resolved::Applied) else {
            return Ok(());
        };
        match resolution {
            Resolution::NotExecuted => self.life = None,
            Resolution::Completed { status, result } => {
                life.stage = Stage::Done(State::Completed {
                    status: *status,
                    kept: result.clone(),
                });
                life.fence = Number::Above(highest);
            }
        }
        Ok(())
    }

    fn forgotten(&mut self, now: u64, resolved: Resolved) -> Result<(), String> {
        let expected = match self.listed(now) {
            None => Resolved::NotFound,
            Some(StateKind::InProgress) => Resolved::Refused,
            Some(_) => Resolved::Applied,
        };
        right(resolved == expected, || format!("rather {expected:?}"))?;
        if expected == Resolved::Applied {
            self.life = None;
        }
        Ok(())
    }

    /// The life that the owner with this fence is at work on, and how long it is kept.
    fn working(&mut self, fence: Fence) -> Option<(&mut Life, u64)> {
        let life = self.life.as_mut()?;
        match life.stage {
            Stage::Working { keep, .. } if life.fence == Number::Seen(fence.get()) => {
                Some((life, keep))
            }
            _ => None,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("the histories' durations are short")
}

fn right(is: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if is { Ok(()) } else { Err(wrong()) }
}

impl Life {
    /// Whether a request with this fingerprint may succeed its owner.
    fn may_pass_to(&self, fingerprint: Option<Fingerprint>) -> bool {
        const OFF: Fingerprint = Fingerprint::OFF;
        match (self.fingerprint, fingerprint) {
            (None, _) => true,
            (Some(first), Some(this)) => first == this || first == OFF || this == OFF,
            (Some(_), None) => false,
        }
    }
}

// By hand, as a record's state has no `Hash`: equal lives hash equally, which is all it takes.
impl Hash for Life {
    fn hash<S: Hasher>(&self, hasher: &mut S) {
        (self.attempt, self.fence, self.born, self.dies).hash(hasher);
    }
}
