//! Why a store could not do what it was asked.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Any error, owned.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// What a store was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Opening or connecting.
    Open,
    /// [`Store::claim`](crate::Store::claim)
    Claim,
    /// [`Store::renew`](crate::Store::renew)
    Renew,
    /// [`Store::complete`](crate::Store::complete)
    Complete,
    /// [`Store::release`](crate::Store::release)
    Release,
    /// [`Store::watch`](crate::Store::watch)
    Watch,
    /// Anything of [`Inspect`](crate::Inspect)
    Inspect,
}

impl Operation {
    /// Its name, in lower case: for metrics and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Claim => "claim",
            Self::Renew => "renew",
            Self::Complete => "complete",
            Self::Release => "release",
            Self::Watch => "watch",
            Self::Inspect => "inspect",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store can't be reached or refuses to work just now. Worth another try.
    Unavailable,
    /// The store did not answer in time; whether it acted is not known. Worth another try:
    /// every operation of the contract can be repeated.
    Timeout,
    /// The store is full of live records and takes no new ones.
    Full,
    /// What it holds can't be decoded, or its checksum is wrong. Never taken for a miss.
    Corrupt,
    /// A write failed in a way after which the store can't be trusted: it takes no more work
    /// until it is opened anew.
    Poisoned,
    /// It is set up wrongly: a bad path, a foreign file, a wrong password, a second opener.
    Misconfigured,
}

/// A store's failure: what it was asked to do, what kind of failure, and why.
#[derive(Debug)]
pub struct StoreError {
    operation: Operation,
    kind: StoreErrorKind,
    message: Box<str>,
    source: Option<BoxError>,
    retry_after: Option<Duration>,
}

impl StoreError {
    /// An error with a message of its own. The message should name the place and the remedy.
    #[must_use]
    pub fn new(operation: Operation, kind: StoreErrorKind, message: impl Into<Box<str>>) -> Self {
        Self {
            operation,
            kind,
            message: message.into(),
            source: None,
            retry_after: None,
        }
    }

    /// Adds that the call was not made, and that none will be before this time has passed.
    #[must_use]
    pub const fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds the error behind this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the store was asked to do.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// What kind of failure it was.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// When the call was refused without being made: the time before which others are, too.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the same call may succeed when it is made again.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Unavailable | StoreErrorKind::Timeout
        )
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store: {}: {}", self.operation, self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
