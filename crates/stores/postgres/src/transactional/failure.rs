//! What went wrong, as a driver tells it.

use deadpool_postgres::PoolError;
use onlyonce_core::{BoxError, Operation, StoreError, StoreErrorKind};
use tokio_postgres::Error;

use crate::error::is_lost;

#[derive(Debug)]
pub struct Failure {
    why: Why,
    source: BoxError,
}

#[derive(Debug)]
enum Why {
    /// The server refuses, by SQLSTATE.
    Refused(Box<str>),
    /// No connection of the pool is free.
    Exhausted,
    /// The server does not answer, or not any more.
    Broken,
    /// It answers in a way that is not understood.
    Strange,
}

impl Failure {
    pub fn refused(state: impl Into<Box<str>>, source: impl Into<BoxError>) -> Self {
        Self::new(Why::Refused(state.into()), source)
    }

    pub fn exhausted(source: impl Into<BoxError>) -> Self {
        Self::new(Why::Exhausted, source)
    }

    pub fn broken(source: impl Into<BoxError>) -> Self {
        Self::new(Why::Broken, source)
    }

    pub fn strange(source: impl Into<BoxError>) -> Self {
        Self::new(Why::Strange, source)
    }

    fn new(why: Why, source: impl Into<BoxError>) -> Self {
        Self {
            why,
            source: source.into(),
        }
    }

    /// Whether the server refused with one of these codes.
    pub(super) fn is_state(&self, codes: &[&str]) -> bool {
        matches!(&self.why, Why::Refused(state) if codes.contains(&&**state))
    }

    /// Whether the connection is gone, so that another may do better.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self.why, Why::Broken)
    }

    /// Whether a commit may have taken place for all that. A pooler that has lost its server says so
    /// in the server's name (08), as a server that is going down does (57).
    #[must_use]
    pub fn leaves_it_open(&self) -> bool {
        match &self.why {
            Why::Refused(state) => ["08", "57", "58", "XX"]
                .iter()
                .any(|class| state.starts_with(class)),
            Why::Exhausted | Why::Broken | Why::Strange => true,
        }
    }

    pub fn into_error(self, operation: Operation) -> StoreError {
        use StoreErrorKind::{Corrupt, Full, Misconfigured, Unavailable};
        let (kind, message) = match &self.why {
            Why::Refused(state) => match &**state {
                "53100" => (Full, "the server's disk is full"),
                "42P01" | "42883" | "3F000" => (
                    Misconfigured,
                    "the schema is not there, or of another version: run `onlyonce migrate`",
                ),
                "42501" => (Misconfigured, "the user lacks a right in the schema"),
                "28P01" | "28000" => (Misconfigured, "the server refuses the user or the password"),
                "3D000" => (Misconfigured, "the server has no database of this name"),
                _ => (Unavailable, "PostgreSQL refuses the step"),
            },
            Why::Exhausted => (Unavailable, "no connection of the pool is free"),
            Why::Broken => (
                Unavailable,
                "the connection to PostgreSQL broke, or none comes about",
            ),
            Why::Strange => (
                Corrupt,
                "PostgreSQL answers in a way that is not understood",
            ),
        };
        StoreError::new(operation, kind, message).with_source(self.source)
    }

    pub(super) fn with_message(self, operation: Operation, message: String) -> StoreError {
        StoreError::new(operation, StoreErrorKind::Misconfigured, message).with_source(self.source)
    }

    pub(super) fn source(&self) -> &(dyn std::error::Error + 'static) {
        &*self.source
    }

    pub(super) fn into_source(self) -> BoxError {
        self.source
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.code().map(|state| state.code().to_owned()) {
            Some(state) => Self::refused(state, error),
            None if is_lost(&error) => Self::broken(error),
            None => Self::strange(error),
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) if error.code().is_some() => Self::from(error),
            PoolError::Backend(error) => Self::broken(error),
            error => Self::exhausted(error),
        }
    }
}
