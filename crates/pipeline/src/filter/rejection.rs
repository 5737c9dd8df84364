//! What a handler's caller gets when its input is refused.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use onlyonce::Control;

use crate::{Code, Error, Text};

/// A refused input, as a response: the [`Error`], for an
/// [`EnvelopeLayer`](crate::envelope::EnvelopeLayer) outside to show, and the word that nothing
/// was executed, for the idempotency layer.
pub struct FilterRejection {
    error: Error,
    status: Option<StatusCode>,
}

impl FilterRejection {
    pub(super) const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// Of a filter of one's own: its errors keep their code, and one without is an internal one.
    pub(super) fn of_filter(error: Error) -> Self {
        error.or_code(Code::INTERNAL_PANIC).into()
    }

    /// What is wrong with the input.
    #[must_use]
    pub const fn error(&self) -> &Error {
        &self.error
    }

    pub(super) fn into_parts(self) -> (Error, Option<StatusCode>) {
        (self.error, self.status)
    }
}

/// What a client did wrong: no place in the program tells more of it, and looking one up for the
/// log would cost more than the request.
pub(super) fn mistake(code: Code, text: Text) -> Error {
    Error::new(code, text).with_frames(Vec::new())
}

impl From<Error> for FilterRejection {
    fn from(error: Error) -> Self {
        Self {
            error,
            status: None,
        }
    }
}

impl IntoResponse for FilterRejection {
    fn into_response(self) -> Response {
        let mut response = self.error.into_response();
        if let Some(status) = self.status {
            *response.status_mut() = status;
        }
        response.extensions_mut().insert(Control::NotExecuted);
        response
    }
}

impl fmt::Debug for FilterRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterRejection")
            .field("error", &self.error)
            .field("status", &self.status)
            .finish()
    }
}
