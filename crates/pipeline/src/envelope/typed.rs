//! What typed handlers return.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{Code, Error, Text};

/// A handler's result, to be put into the form that the route answers in.
///
/// With axum it is a response, so that status and headers can be set as usual:
/// `(StatusCode::CREATED, Envelope::new(order))`. Without an
/// [`EnvelopeLayer`](super::EnvelopeLayer) outside, its response has no body.
///
/// # Example
/// ```
/// use onlyonce_pipeline::envelope::Envelope;
///
/// let envelope = Envelope::new(vec![1, 2]).with_message("two of them");
/// # let _ = envelope;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Envelope<T> {
    data: T,
    message: Option<Text>,
}

impl<T> Envelope<T> {
    /// A success with this data; data that serialises to null is left out.
    pub const fn new(data: T) -> Self {
        Self {
            data,
            message: None,
        }
    }

    /// Says this instead of "OK"; nothing, if it is empty.
    pub fn with_message(mut self, message: impl Into<Text>) -> Self {
        self.message = Some(message.into());
        self
    }
}

impl Envelope<()> {
    /// A success without data.
    pub const fn empty() -> Self {
        Self::new(())
    }
}

impl<T> From<T> for Envelope<T> {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}

impl<T: Serialize> Envelope<T> {
    /// The response that an [`EnvelopeLayer`](super::EnvelopeLayer) outside completes: for
    /// services without axum.
    #[must_use]
    pub fn into_http<B: Default>(self) -> Response<B> {
        let typed = match to_raw_value(&self.data) {
            Ok(data) => Typed::Result {
                data: data.into(),
                message: self.message,
            },
            Err(error) => {
                let code = Code::INTERNAL;
                let text = Text::both("the result can't be shown", "结果无法显示");
                Typed::Error(Arc::new(Error::from(error).wrap_code(code, text)))
            }
        };
        typed.into_http()
    }
}

impl Error {
    /// The response that an [`EnvelopeLayer`](super::EnvelopeLayer) outside completes: for
    /// services without axum.
    #[must_use]
    pub fn into_http<B: Default>(self) -> Response<B> {
        Typed::Error(Arc::new(self)).into_http()
    }
}

/// What the layer finds in a response's extensions.
#[derive(Clone)]
pub(super) enum Typed {
    Result {
        data: Arc<RawValue>,
        message: Option<Text>,
    },
    Error(Arc<Error>),
}

impl Typed {
    fn into_http<B: Default>(self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = match &self {
            Self::Result { .. } => StatusCode::OK,
            Self::Error(error) => error.code().status(),
        };
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(feature = "axum")]
mod responses {
    use axum::response::{IntoResponse, Response};

    use super::{Envelope, Error, Serialize};

    impl<T: Serialize> IntoResponse for Envelope<T> {
        fn into_response(self) -> Response {
            self.into_http()
        }
    }

    impl IntoResponse for Error {
        fn into_response(self) -> Response {
            self.into_http()
        }
    }
}
