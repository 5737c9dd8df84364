//! What became of a request: for the code around the layer.

use std::fmt;
use std::time::Duration;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The inner service ran; this is its answer.
    Executed,
    /// An earlier execution's recorded answer.
    Replayed,
    /// Not protected: a safe method, no key, or a store that failed under `bypass`.
    Bypassed,
    /// Refused: the first request with the key is at work.
    InProgress,
    /// Refused: the key was used for another request.
    Mismatch,
    /// Refused: nobody knows whether it was executed.
    Unknown,
    /// Refused: it was executed, but its response was not kept.
    NotKept,
    /// Refused for another reason: a bad key, a full or failing store, a limit.
    Rejected,
}

impl Outcome {
    /// Its name in headers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Replayed => "replayed",
            Self::Bypassed => "bypassed",
            Self::InProgress => "in-progress",
            Self::Mismatch => "mismatch",
            Self::Unknown => "unknown",
            Self::NotKept => "not-kept",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the idempotency layer did with a request; in the extensions of its response.
///
/// For layers outside this one, such as an access log. (Fiber's `IsFromCache` is
/// [`is_replayed`](Self::is_replayed), its `WasPutToCache` is
/// [`was_recorded`](Self::was_recorded).)
///
/// # Example
/// ```
/// use onlyonce::Verdict;
///
/// fn log(response: &http::Response<()>) {
///     if let Some(verdict) = response.extensions().get::<Verdict>() {
///         println!("{} {}", verdict.outcome(), verdict.key_tag().unwrap_or("-"));
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) recorded: bool,
    pub(crate) attempt: Option<u32>,
    pub(crate) key_tag: Option<Box<str>>,
    pub(crate) expires_in: Option<Duration>,
}

impl Verdict {
    pub(crate) const fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            recorded: false,
            attempt: None,
            key_tag: None,
            expires_in: None,
        }
    }

    /// What became of the request.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether the response is an earlier execution's.
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        self.outcome == Outcome::Replayed
    }

    /// Whether this response was recorded, so that a retry replays it. A stream is recorded at
    /// its end, which is not known yet when its response begins.
    #[must_use]
    pub const fn was_recorded(&self) -> bool {
        self.recorded
    }

    /// The execution's number under its key, where one is known.
    #[must_use]
    pub const fn attempt(&self) -> Option<u32> {
        self.attempt
    }

    /// The short hash that stands for the key; `None` for a request without one.
    #[must_use]
    pub fn key_tag(&self) -> Option<&str> {
        self.key_tag.as_deref()
    }

    /// How long the record is still kept, where there is one.
    #[must_use]
    pub const fn expires_in(&self) -> Option<Duration> {
        self.expires_in
    }
}
