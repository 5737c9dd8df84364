//! Why a request got no (whole) answer, and whether it may have had an effect.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use onlyonce_core::BoxError;

use crate::front::BodyReadError;

/// Whether the upstream may have seen the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Certainly not: no byte of it left this process, or HTTP/2 says that it was not processed.
    No,
    /// Perhaps: at least one byte may have left.
    Maybe,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// No connection: refused, unreachable, unknown name, failed TLS handshake.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// No response head in time.
    HeadTimeout,
    /// Nothing came in the middle of a response's body for too long.
    IdleTimeout,
    /// The whole exchange took too long.
    TotalTimeout,
    /// The upstream refused the stream before it processed it (HTTP/2 `REFUSED_STREAM`).
    Refused,
    /// The connection was closed or reset before the first byte of a response.
    Reset,
    /// The connection was closed or reset in the middle of a response.
    CutResponse,
    /// The response is malformed, or can be read in two ways.
    Protocol,
    /// The client's body failed while it was passed on.
    ClientBody,
}

/// A request that was not answered, or a response that was not finished.
#[derive(Debug)]
pub struct ForwardError {
    kind: FailureKind,
    sent: Sent,
    upstream: Arc<str>,
    source: Option<BoxError>,
}

impl ForwardError {
    pub(crate) fn new(kind: FailureKind, sent: Sent, upstream: &Arc<str>) -> Self {
        Self {
            kind,
            sent,
            upstream: Arc::clone(upstream),
            source: None,
        }
    }

    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Whether the upstream may have seen the request.
    #[must_use]
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// The upstream's `host:port`.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// What to answer: the client's own fault for its body; 502 when nothing was sent; 504 for a
    /// time-out; else 502.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.kind {
            FailureKind::HeadTimeout | FailureKind::IdleTimeout | FailureKind::TotalTimeout
                if self.sent == Sent::Maybe =>
            {
                StatusCode::GATEWAY_TIMEOUT
            }
            FailureKind::ClientBody => {
                let mut source = Error::source(self);
                while let Some(error) = source {
                    if let Some(error) = error.downcast_ref::<BodyReadError>() {
                        return error.status();
                    }
                    source = error.source();
                }
                StatusCode::BAD_REQUEST
            }
            FailureKind::Connect
            | FailureKind::ConnectTimeout
            | FailureKind::HeadTimeout
            | FailureKind::IdleTimeout
            | FailureKind::TotalTimeout
            | FailureKind::Refused
            | FailureKind::Reset
            | FailureKind::CutResponse
            | FailureKind::Protocol => StatusCode::BAD_GATEWAY,
        }
    }
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            FailureKind::Connect => "cannot be reached",
            FailureKind::ConnectTimeout => "could not be reached in time",
            FailureKind::HeadTimeout => "did not answer in time",
            FailureKind::IdleTimeout => "stopped in the middle of its response",
            FailureKind::TotalTimeout => "did not finish its response in time",
            FailureKind::Refused => "refused the request before processing it",
            FailureKind::Reset => "closed the connection without an answer",
            FailureKind::CutResponse => "cut its response off",
            FailureKind::Protocol => "sent a malformed response",
            FailureKind::ClientBody => "was not sent the whole request: the client's body failed",
        };
        write!(f, "upstream {} {what}", self.upstream)
    }
}

impl Error for ForwardError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Finds what kind of failure `error` is; `answered` says whether a byte of the response came.
pub(crate) fn kind_of(error: &hyper::Error, answered: bool) -> FailureKind {
    let broken = if answered {
        FailureKind::CutResponse
    } else {
        FailureKind::Reset
    };
    if error.is_parse() || error.is_parse_too_large() {
        return FailureKind::Protocol;
    }
    if error.is_incomplete_message() {
        return broken;
    }
    let mut source = Error::source(error);
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return match h2.reason() {
                // Of this very stream: what a GOAWAY gives as its reason says nothing of it.
                Some(h2::Reason::REFUSED_STREAM) if h2.is_remote() && h2.is_reset() => {
                    FailureKind::Refused
                }
                Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::COMPRESSION_ERROR)
                    if !h2.is_remote() =>
                {
                    FailureKind::Protocol
                }
                _ => broken,
            };
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            // What hyper's chunk decoder refuses.
            return match io.kind() {
                std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
                    FailureKind::Protocol
                }
                _ => broken,
            };
        }
        source = cause.source();
    }
    broken
}
