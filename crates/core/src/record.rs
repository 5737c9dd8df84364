//! What a store says of a key.

use std::time::Duration;

use bytes::Bytes;

use crate::{Fence, Fingerprint};

/// What a store knows of one key, seen at one moment.
///
/// It speaks in durations that were true when the store answered, never in instants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What the first request asked for; `None` while its body is still being read.
    pub fingerprint: Option<Fingerprint>,
    /// How many executions were begun under this key.
    pub attempt: u32,
    /// The fence of the last claim.
    pub fence: Fence,
    /// How far it has come.
    pub state: State,
    /// How long ago the key was first claimed.
    pub age: Duration,
    /// Time until the record expires. Never zero: an expired record is as good as absent.
    pub expires_in: Duration,
    /// What the operator sees in listings, such as `POST /v1/charges`. Never the key.
    pub label: Box<str>,
}

/// How far a key has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// An owner claimed the key and has not finished.
    InProgress {
        /// Time left on the owner's lease; zero when it has run out and the owner has vanished.
        lease_left: Duration,
    },
    /// It may or may not have been executed; held until somebody resolves it.
    Unknown,
    /// It was executed.
    Completed {
        /// The response's status (0 for results that are not HTTP responses).
        status: u16,
        /// The encoded result; `None` when the response was not kept.
        ///
        /// Opaque to stores. For HTTP it is a [`StoredResponse`](crate::StoredResponse) under
        /// [`codec`](crate::codec); wrappers may have sealed or compressed it.
        kept: Option<Bytes>,
    },
}

/// How an owner ends its claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The request's fingerprint, which may have become known only since the claim.
    /// `None` leaves what the record has.
    pub fingerprint: Option<Fingerprint>,
    /// What became of it.
    pub done: Done,
}

/// What became of a claimed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was executed; this is its result.
    Kept {
        /// The response's status (0 for results that are not HTTP responses).
        status: u16,
        /// The encoded result, opaque to stores.
        result: Bytes,
    },
    /// It was executed; its response was too long, or a stream, and is not kept.
    NotKept {
        /// The response's status.
        status: u16,
    },
    /// Nobody knows whether it was executed. Held until it is resolved or expires.
    Unknown,
}
