//! Why a body broke off.

use std::error::Error;
use std::fmt;

use onlyonce_core::BoxError;

/// A body broke off: its source did, it is longer than the policy allows, or it was given up.
#[derive(Debug)]
pub struct BodyError(Kind);

#[derive(Debug)]
enum Kind {
    Inner(BoxError),
    TooLong(u64),
    Panicked,
    GivenUp,
}

impl BodyError {
    pub(crate) fn inner(error: impl Into<BoxError>) -> Self {
        Self(Kind::Inner(error.into()))
    }

    pub(crate) const fn too_long(most: u64) -> Self {
        Self(Kind::TooLong(most))
    }

    pub(crate) const fn panicked() -> Self {
        Self(Kind::Panicked)
    }

    pub(crate) const fn given_up() -> Self {
        Self(Kind::GivenUp)
    }

    /// Whether the request's body is longer than
    /// [`Policy::max_request_body`](onlyonce_core::Policy::max_request_body).
    #[must_use]
    pub const fn is_too_long(&self) -> bool {
        matches!(self.0, Kind::TooLong(_))
    }

    /// Whether a limit outside this layer ended the body: that of axum and tower-http, say.
    pub(crate) fn is_beyond_a_limit(&self) -> bool {
        let mut source = self.source();
        while let Some(error) = source {
            if error.is::<http_body_util::LengthLimitError>() {
                return true;
            }
            source = error.source();
        }
        false
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Inner(_) => f.write_str("the body broke off"),
            Kind::Panicked => f.write_str("the body panicked while it was read"),
            Kind::GivenUp => {
                f.write_str("the stream was given up: its client did not read, or its task ended")
            }
            Kind::TooLong(most) => write!(f, "the request's body is longer than {most} bytes"),
        }
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Kind::Inner(error) => Some(&**error),
            Kind::TooLong(_) | Kind::Panicked | Kind::GivenUp => None,
        }
    }
}
