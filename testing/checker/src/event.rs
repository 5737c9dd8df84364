//! What can be in a log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::RecordId;

/// Everything that happened.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// In the order in which they were sent.
    pub requests: Vec<Request>,
    /// In the order in which they began.
    pub executions: Vec<Execution>,
    /// In the order in which they came.
    pub responses: Vec<Response>,
    /// In the order in which they began.
    pub calls: Vec<Call>,
    /// In the order in which they began.
    pub incidents: Vec<Incident>,
}

/// A place in the log, and when that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// What comes later has a greater one.
    pub order: u64,
    /// Since the log was begun.
    pub time: Duration,
}

/// A key, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Whose it is.
    pub scope: Arc<str>,
    /// The key.
    pub key: Arc<str>,
}

impl Name {
    /// This key of this scope.
    #[must_use]
    pub fn new(scope: &str, key: &str) -> Self {
        Self {
            scope: scope.into(),
            key: key.into(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.scope, self.key)
    }
}

/// Names a [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub usize);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// A client sends a request: a retry is another one.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its name.
    pub id: RequestId,
    /// Its key, and whose it is.
    pub name: Name,
    /// Where the key's record lies.
    pub record: RecordId,
    /// What it asks for.
    pub fingerprint: Arc<str>,
    /// Before it was sent.
    pub at: Moment,
}

/// Names an [`Execution`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionId(pub(crate) usize);

/// The handler runs.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Which request it runs for.
    pub request: RequestId,
    /// Under which record's claim.
    pub record: RecordId,
    /// What it was told of earlier executions.
    pub attempt: u32,
    /// Its claim's fence.
    pub fence: u64,
    /// When it began.
    pub started: Moment,
    /// When it ended, and with what; `None` if it never did.
    pub ended: Option<(Moment, Finish)>,
}

/// What an execution came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    /// The response's status.
    pub status: u16,
    /// The response's body, which no other execution has.
    pub digest: Digest,
    /// Whether such a response is recorded; if not, the key is released.
    pub kept: bool,
}

/// Stands for a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(u64);

impl Digest {
    /// That of `body`.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        let hash = blake3::hash(body);
        let (first, _) = hash.as_bytes().split_at(8);
        let fold = |number, byte: &u8| (number << 8) | u64::from(*byte);
        Self(first.iter().fold(0, fold))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:08x}", self.0 >> 32)
    }
}

/// A client has its answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// To which request.
    pub request: RequestId,
    /// What kind of answer.
    pub outcome: Outcome,
    /// Its status; 0 if there was none.
    pub status: u16,
    /// Its body.
    pub digest: Digest,
    /// After it had come.
    pub at: Moment,
}

/// What kind of answer a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was executed.
    Executed {
        /// Whether the answer says that retries will get the same.
        recorded: bool,
    },
    /// An earlier execution's answer.
    Replayed,
    /// None of either.
    Refused(Refusal),
    /// No answer: the connection broke, or the client gave up.
    ConnectionError,
}

impl Outcome {
    /// Whether the client need not ask again.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Executed { .. } | Self::Replayed => true,
            Self::Refused(why) => !matches!(why, Refusal::InProgress | Refusal::Unavailable),
            Self::ConnectionError => false,
        }
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another one with its key is at work.
    InProgress,
    /// Its key was used for another request.
    Mismatch,
    /// Nobody knows whether an earlier one was executed.
    Unknown,
    /// It was executed, but the response was not kept.
    NotKept,
    /// The store failed, or something else that says nothing of the key.
    Unavailable,
}

/// Names a [`Call`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId(pub(crate) usize);

/// The engine calls its store.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which of the engines.
    pub node: Arc<str>,
    /// On which record.
    pub record: RecordId,
    /// What it wants.
    pub op: Op,
    /// Before the store was called.
    pub began: Moment,
    /// After it had answered; `None` if nobody waited for that.
    pub ended: Option<(Moment, Answer)>,
}

/// What an engine wants of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// To own the record.
    Claim {
        /// For how long, unless it renews.
        lease: Duration,
    },
    /// To own it for longer.
    Renew {
        /// Under which fence.
        fence: u64,
        /// For how long.
        extend: Duration,
    },
    /// To settle it.
    Complete {
        /// Under which fence.
        fence: u64,
    },
    /// To give it back.
    Release {
        /// Under which fence.
        fence: u64,
    },
}

/// What a store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The claim is won.
    Won(Sighting),
    /// The record is as it is.
    Held(Sighting),
    /// The write took effect.
    Applied,
    /// The record is another's.
    Superseded,
    /// It failed, and may have taken effect.
    Failed(Arc<str>),
}

/// What a claim shows of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its fence.
    pub fence: u64,
    /// Its attempt.
    pub attempt: u32,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a record has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Claimed, and not completed.
    InProgress,
    /// Completed, with a response or without, or held as unknown.
    Settled,
}

/// Something that makes a store lose what it has acknowledged, such as a failover.
#[derive(Clone, Debug)]
pub struct Incident {
    /// What it is.
    pub what: Arc<str>,
    /// Before it was brought about.
    pub began: Moment,
    /// When nothing that was acknowledged from then on can fall to it; `None`: never.
    pub ended: Option<Moment>,
}
