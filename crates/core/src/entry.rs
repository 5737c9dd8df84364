//! A record as a store keeps it, and every step it can take, as pure functions of time.
//!
//! Stores that hold a lock across a read and a write (memory, disk) are thin shells around this
//! file; those that run elsewhere (Lua, SQL) write it again in their own tongue and are held to
//! it by the conformance suite.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    Attempt, Completion, Decision, Done, Effects, Fence, Fingerprint, Lease, Nonce, Record,
    Renewal, Resolution, State, StateKind, Timestamp, decide,
};

/// A record as a store keeps it: with instants on the store's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the first request asked for; `None` while its body is still being read.
    pub fingerprint: Option<Fingerprint>,
    /// How many executions were begun under this key.
    pub attempt: u32,
    /// The fence of the last claim or resolution.
    pub fence: Fence,
    /// The nonce of the last claim.
    pub nonce: Nonce,
    /// When the key was first claimed.
    pub created: Timestamp,
    /// When the record is as good as absent.
    pub expires: Timestamp,
    /// How far it has come.
    pub state: EntryState,
    /// What the operator sees in listings.
    pub label: Box<str>,
}

/// How far a key has come, with instants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// An owner claimed the key and has not finished.
    InProgress {
        /// When the lease runs out.
        lease_until: Timestamp,
        /// How long the record is kept after that.
        keep: Duration,
    },
    /// Held until somebody resolves it.
    Unknown,
    /// It was executed.
    Completed {
        /// The response's status.
        status: u16,
        /// The encoded result, if it was kept.
        kept: Option<Bytes>,
    },
}

/// What a claim does to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum ClaimStep {
    /// The claim is won: write this entry, then hand out its [`lease`](Entry::lease).
    Write(Box<Entry>),
    /// The claim is lost, and nothing is written.
    Held(Record),
}

/// What a completion does to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum CompleteStep {
    /// Write this entry.
    Write(Box<Entry>),
    /// This owner has completed it already: applied, nothing to write.
    Already,
    /// Not this owner's any more: nothing is written.
    Superseded,
}

/// What a resolution does to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum ResolveStep {
    /// Write this entry.
    Write(Box<Entry>),
    /// Remove the entry.
    Remove,
    /// An owner is at work on it, or it is completed.
    Refused,
}

impl Entry {
    /// Whether the entry is as good as absent at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires
    }

    /// The entry as seen at `now`; `None` when it has expired.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> Option<Record> {
        if self.is_expired(now) {
            return None;
        }
        let state = match &self.state {
            EntryState::InProgress { lease_until, .. } => State::InProgress {
                lease_left: lease_until.since(now),
            },
            EntryState::Unknown => State::Unknown,
            EntryState::Completed { status, kept } => State::Completed {
                status: *status,
                kept: kept.clone(),
            },
        };
        Some(Record {
            fingerprint: self.fingerprint,
            attempt: self.attempt,
            fence: self.fence,
            state,
            age: now.since(self.created),
            expires_in: self.expires.since(now),
            label: self.label.clone(),
        })
    }

    /// The right of the owner that wrote this entry, as the record `id`.
    #[must_use]
    pub fn lease(&self, id: crate::RecordId) -> Lease {
        Lease {
            id,
            fence: self.fence,
            attempt: self.attempt,
            effects: Effects::Apart,
        }
    }

    /// [`Store::claim`](crate::Store::claim) on what the store has (`current`, expired or not).
    ///
    /// `next_fence` is called at most once, and only when the claim takes a new fence.
    pub fn claim(
        current: Option<&Self>,
        attempt: &Attempt,
        now: Timestamp,
        next_fence: impl FnOnce() -> Fence,
    ) -> ClaimStep {
        let lease_until = now.plus(attempt.lease);
        let state = EntryState::InProgress {
            lease_until,
            keep: attempt.keep,
        };
        let expires = lease_until.plus(attempt.keep);

        let live = current.and_then(|entry| Some((entry, entry.view(now)?)));
        let Some((entry, record)) = live else {
            return ClaimStep::Write(Box::new(Self {
                fingerprint: attempt.fingerprint,
                attempt: 1,
                fence: next_fence(),
                nonce: attempt.nonce,
                created: now,
                expires,
                state,
                label: attempt.label.clone(),
            }));
        };
        if entry.in_progress() && entry.nonce == attempt.nonce {
            // The reply to this very claim was lost; it starts its lease again.
            return ClaimStep::Write(Box::new(Self {
                expires,
                state,
                ..entry.clone()
            }));
        }
        match decide(
            Some(&record),
            attempt.fingerprint.as_ref(),
            attempt.on_unknown,
        ) {
            Decision::TakeOver => ClaimStep::Write(Box::new(Self {
                fingerprint: attempt.fingerprint,
                attempt: entry.attempt.saturating_add(1),
                fence: next_fence(),
                nonce: attempt.nonce,
                created: entry.created,
                expires,
                state,
                label: attempt.label.clone(),
            })),
            Decision::Execute
            | Decision::InProgress
            | Decision::Replay
            | Decision::NotKept
            | Decision::Unknown
            | Decision::Mismatch => ClaimStep::Held(record),
        }
    }

    /// [`Store::renew`](crate::Store::renew): the entry to write, or `None` when superseded.
    #[must_use]
    pub fn renew(&self, lease: &Lease, renewal: &Renewal, now: Timestamp) -> Option<Self> {
        let EntryState::InProgress { keep, .. } = self.state else {
            return None;
        };
        if !self.is_owned_by(lease, now) {
            return None;
        }
        let lease_until = now.plus(renewal.extend);
        Some(Self {
            fingerprint: renewal.fingerprint.or(self.fingerprint),
            state: EntryState::InProgress { lease_until, keep },
            expires: lease_until.plus(keep),
            ..self.clone()
        })
    }

    /// [`Store::complete`](crate::Store::complete).
    pub fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
        now: Timestamp,
    ) -> CompleteStep {
        if !self.is_owned_by(lease, now) {
            return CompleteStep::Superseded;
        }
        if !self.in_progress() {
            return CompleteStep::Already;
        }
        let state = match &completion.done {
            Done::Kept { status, result } => EntryState::Completed {
                status: *status,
                kept: Some(result.clone()),
            },
            Done::NotKept { status } => EntryState::Completed {
                status: *status,
                kept: None,
            },
            Done::Unknown => EntryState::Unknown,
        };
        CompleteStep::Write(Box::new(Self {
            fingerprint: completion.fingerprint.or(self.fingerprint),
            expires: now.plus(keep),
            state,
            ..self.clone()
        }))
    }

    /// [`Store::release`](crate::Store::release): whether to remove the entry.
    #[must_use]
    pub fn may_release(&self, lease: &Lease, now: Timestamp) -> bool {
        self.in_progress() && self.is_owned_by(lease, now)
    }

    /// [`Inspect::resolve`](crate::Inspect::resolve) on a live entry.
    pub fn resolve(
        &self,
        resolution: &Resolution,
        now: Timestamp,
        next_fence: impl FnOnce() -> Fence,
    ) -> ResolveStep {
        if self
            .view(now)
            .is_none_or(|record| StateKind::of(&record) != StateKind::Unknown)
        {
            return ResolveStep::Refused;
        }
        match resolution {
            Resolution::NotExecuted => ResolveStep::Remove,
            Resolution::Completed { status, result } => ResolveStep::Write(Box::new(Self {
                fence: next_fence(),
                state: EntryState::Completed {
                    status: *status,
                    kept: result.clone(),
                },
                ..self.clone()
            })),
        }
    }

    /// [`Inspect::forget`](crate::Inspect::forget) on a live entry: whether to remove it.
    #[must_use]
    pub fn may_forget(&self, now: Timestamp) -> bool {
        self.view(now)
            .is_some_and(|record| StateKind::of(&record) != StateKind::InProgress)
    }

    /// Whether an owner has claimed it and not finished (its lease may have run out).
    #[must_use]
    pub fn in_progress(&self) -> bool {
        matches!(self.state, EntryState::InProgress { .. })
    }

    fn is_owned_by(&self, lease: &Lease, now: Timestamp) -> bool {
        self.fence == lease.fence && !self.is_expired(now)
    }
}
