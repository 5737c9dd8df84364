//! Bodies at the front: requests that may not trickle, responses that are counted.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{LengthLimitError, Limited};
use hyper::body::Incoming;
use onlyonce_core::BoxError;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::guard::Violation;
use super::state::Active;

pin_project! {
    /// A request's body as it comes from the client.
    ///
    /// It ends in an error, never in a clean end, when the client goes away, breaks the framing,
    /// sends more than allowed, or leaves a reader waiting for longer than allowed.
    #[derive(Debug)]
    pub struct FrontBody {
        #[pin]
        inner: Limited<Incoming>,
        #[pin]
        timer: Option<Sleep>,
        waiting: bool,
        timeout: Duration,
    }
}

impl FrontBody {
    pub(crate) fn new(inner: Incoming, timeout: Duration, limit: Option<u64>) -> Self {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.unwrap_or(usize::MAX);
        Self {
            inner: Limited::new(inner, limit),
            timer: None,
            waiting: false,
            timeout,
        }
    }
}

/// Why a request's body could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyReadError {
    /// Nothing came for [`FrontOptions::body_timeout`](super::FrontOptions::body_timeout).
    #[error("the client sent nothing of its body in time")]
    Timeout,
    /// More than [`FrontOptions::max_body`](super::FrontOptions::max_body).
    #[error("the request's body is larger than allowed")]
    TooLarge(#[source] LengthLimitError),
    /// Its framing is broken.
    #[error("the request's body is malformed")]
    Malformed(#[source] Violation),
    /// The client went away, or reset the stream.
    #[error("the request's body was cut off")]
    Cut(#[source] hyper::Error),
    /// It could not be read for another reason.
    #[error("the request's body could not be read")]
    Lost(#[source] BoxError),
}

impl BodyReadError {
    /// What to answer, if anybody is still listening: 408, 413 or 400.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Malformed(_) | Self::Cut(_) | Self::Lost(_) => StatusCode::BAD_REQUEST,
        }
    }

    fn from_limited(error: BoxError) -> Self {
        match error.downcast::<hyper::Error>() {
            Ok(error) => Self::from_hyper(*error),
            Err(error) => match error.downcast::<LengthLimitError>() {
                Ok(error) => Self::TooLarge(*error),
                Err(error) => Self::Lost(error),
            },
        }
    }

    fn from_hyper(error: hyper::Error) -> Self {
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let io = cause.downcast_ref::<std::io::Error>();
            if let Some(violation) = io
                .and_then(std::io::Error::get_ref)
                .and_then(|inner| inner.downcast_ref::<Violation>())
            {
                return Self::Malformed(*violation);
            }
            source = cause.source();
        }
        Self::Cut(error)
    }
}

impl Body for FrontBody {
    type Data = Bytes;
    type Error = BodyReadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyReadError>>> {
        let mut this = self.project();
        let Poll::Ready(frame) = this.inner.poll_frame(cx) else {
            if this.timer.is_none() {
                this.timer.set(Some(sleep(*this.timeout)));
            }
            let Some(mut timer) = this.timer.as_mut().as_pin_mut() else {
                return Poll::Pending;
            };
            if !*this.waiting {
                timer.as_mut().reset(Instant::now() + *this.timeout);
                *this.waiting = true;
            }
            ready!(timer.poll(cx));
            return Poll::Ready(Some(Err(BodyReadError::Timeout)));
        };
        *this.waiting = false;
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => Some(Err(BodyReadError::from_limited(error))),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

pin_project! {
    /// A response's body on its way out; its request counts as active until it is dropped.
    #[derive(Debug)]
    pub(crate) struct CountedBody<B> {
        #[pin]
        inner: Option<B>,
        active: Active,
        close_delimited: bool,
        watched: bool,
    }
}

impl<B> CountedBody<B> {
    pub(crate) fn new(inner: Option<B>, active: Active) -> Self {
        Self {
            inner,
            active,
            close_delimited: false,
            watched: false,
        }
    }

    /// Has the connection told how long the client lets each frame wait.
    pub(crate) fn watched(mut self, yes: bool) -> Self {
        self.watched = yes;
        self
    }

    /// Says that only the connection's end tells where this body ends.
    pub(crate) fn close_delimited(mut self, yes: bool) -> Self {
        self.close_delimited = yes;
        self
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Ready(None);
        };
        if *this.watched {
            this.active.written();
        }
        let frame = ready!(inner.poll_frame(cx));
        if *this.watched && matches!(frame, Some(Ok(_))) {
            this.active.handed_over();
        }
        if *this.close_delimited && matches!(frame, Some(Err(_))) {
            this.active.state().cut_short();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
