//! The decision table.

use crate::{Fingerprint, Record, State};

/// What to do with a key whose owner vanished before it recorded a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// Answer 409 `outcome-unknown` until somebody resolves it: never executes twice.
    #[default]
    Hold,
    /// Let the next request with the same fingerprint take over: executes at least once.
    Retry,
}

/// What a keyed request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nobody owns the key: claim it and execute as attempt 1.
    Execute,
    /// The owner vanished: claim with a newer fence and execute as the next attempt.
    TakeOver,
    /// The owner is at work: refuse or wait, by policy.
    InProgress,
    /// The result is there: replay it.
    Replay,
    /// It was executed, but its response was not kept.
    NotKept,
    /// Nobody knows whether it was executed.
    Unknown,
    /// The key was used for another request.
    Mismatch,
}

impl Decision {
    /// Whether the execution has ended: nothing will change until the record goes.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Replay | Self::NotKept)
    }
}

/// Decides what a request with `fingerprint` gets, given the `record` of its key.
///
/// A `fingerprint` of `None` means that the request's body has not been read yet; a record's
/// `None` that its owner has not read it yet. What is not known yet never makes a mismatch, and
/// an unknown fingerprint never takes over a record that has one.
///
/// # Example
/// ```
/// use onlyonce_core::{Decision, OnUnknown, decide};
///
/// assert_eq!(decide(None, None, OnUnknown::Hold), Decision::Execute);
/// ```
#[must_use]
pub fn decide(
    record: Option<&Record>,
    fingerprint: Option<&Fingerprint>,
    on_unknown: OnUnknown,
) -> Decision {
    let Some(record) = record else {
        return Decision::Execute;
    };
    let verified = match (&record.fingerprint, fingerprint) {
        (Some(first), Some(this)) if !first.matches(this) => return Decision::Mismatch,
        (Some(_), None) => false,
        (Some(_) | None, _) => true,
    };
    match &record.state {
        State::InProgress { lease_left } if !lease_left.is_zero() => Decision::InProgress,
        State::InProgress { .. } if on_unknown == OnUnknown::Retry && verified => {
            Decision::TakeOver
        }
        State::InProgress { .. } | State::Unknown => Decision::Unknown,
        State::Completed { kept: Some(_), .. } => Decision::Replay,
        State::Completed { kept: None, .. } => Decision::NotKept,
    }
}
