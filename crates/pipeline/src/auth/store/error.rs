//! Why a store of sessions could not do what it was asked.

use std::error::Error;
use std::fmt;

use onlyonce_core::{BoxError, StoreError, StoreErrorKind};

/// A store's failure: what kind, and why. Callers are refused with 503, never let in.
#[derive(Debug)]
pub struct TokenStoreError {
    kind: StoreErrorKind,
    message: Box<str>,
    source: Option<BoxError>,
}

impl TokenStoreError {
    /// An error with a message of its own, which should name the place and the remedy.
    #[must_use]
    pub fn new(kind: StoreErrorKind, message: impl Into<Box<str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Adds the error behind this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it was.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

/// For stores that share connections with a store of records.
impl From<StoreError> for TokenStoreError {
    fn from(error: StoreError) -> Self {
        Self::new(error.kind(), "its connection failed").with_source(error)
    }
}

impl fmt::Display for TokenStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token store: {}", self.message)
    }
}

impl Error for TokenStoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
