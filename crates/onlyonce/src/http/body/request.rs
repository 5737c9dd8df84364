//! The request's body, as the inner service gets it.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use onlyonce_core::BoxError;
use pin_project_lite::pin_project;

use super::{BodyError, HashingBody, to_bytes};

pin_project! {
    /// The request's body, as the inner service gets it: untouched, read ahead, or hashed while
    /// it streams.
    pub struct RequestBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = Projected]
    enum Kind<B> {
        Passed { #[pin] body: B },
        Read { data: Option<Bytes>, trailers: Option<HeaderMap> },
        Resumed { chunks: VecDeque<Bytes>, rest: Pin<Box<B>> },
        Hashing { body: HashingBody<B> },
    }
}

impl<B> RequestBody<B> {
    /// Not this layer's business.
    pub(crate) fn passed(body: B) -> Self {
        Self {
            kind: Kind::Passed { body },
        }
    }

    /// Read to its end before the claim.
    pub(crate) fn read(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        let data = (!data.is_empty()).then_some(data);
        Self {
            kind: Kind::Read { data, trailers },
        }
    }

    /// Read in part, and handed on without protection.
    pub(crate) fn resumed(chunks: VecDeque<Bytes>, rest: Pin<Box<B>>) -> Self {
        Self {
            kind: Kind::Resumed { chunks, rest },
        }
    }

    /// Hashed while the handler reads it.
    pub(crate) fn hashing(body: HashingBody<B>) -> Self {
        Self {
            kind: Kind::Hashing { body },
        }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.project().kind.project() {
            Projected::Passed { body } => poll_inner(body, cx),
            Projected::Read { data, trailers } => {
                let data = data.take().map(Frame::data);
                Poll::Ready(
                    data.or_else(|| trailers.take().map(Frame::trailers))
                        .map(Ok),
                )
            }
            Projected::Resumed { chunks, rest } => match chunks.pop_front() {
                Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
                None => poll_inner(rest.as_mut(), cx),
            },
            Projected::Hashing { body } => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passed { body } => body.is_end_stream(),
            Kind::Read { data, trailers } => data.is_none() && trailers.is_none(),
            Kind::Resumed { chunks, rest } => chunks.is_empty() && rest.is_end_stream(),
            Kind::Hashing { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passed { body } => body.size_hint(),
            Kind::Read { data, .. } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
            Kind::Resumed { chunks, rest } => {
                let ahead = chunks.iter().map(|chunk| chunk.len() as u64).sum();
                plus(rest.size_hint(), ahead)
            }
            Kind::Hashing { body } => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Passed { .. } => "passed",
            Kind::Read { .. } => "read",
            Kind::Resumed { .. } => "resumed",
            Kind::Hashing { .. } => "hashing",
        };
        write!(f, "RequestBody({kind})")
    }
}

pub(crate) fn poll_inner<B>(
    body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let frame = ready!(body.poll_frame(cx));
    Poll::Ready(frame.map(|frame| frame.map(to_bytes).map_err(BodyError::inner)))
}

/// `hint` with `ahead` bytes before it.
pub(super) fn plus(hint: SizeHint, ahead: u64) -> SizeHint {
    let mut sum = SizeHint::new();
    sum.set_lower(hint.lower().saturating_add(ahead));
    if let Some(upper) = hint.upper() {
        sum.set_upper(upper.saturating_add(ahead));
    }
    sum
}

/// What came of reading the start of a body.
pub(crate) enum Prefix<B> {
    /// All of it was read.
    Whole {
        data: Bytes,
        trailers: Option<HeaderMap>,
    },
    /// It is longer: what was read, and the rest.
    Longer {
        chunks: VecDeque<Bytes>,
        rest: Pin<Box<B>>,
    },
}

/// Reads a body up to a little more than `buffer` bytes; not at all when it says itself that it
/// is longer.
pub(crate) async fn read_prefix<B>(body: B, buffer: usize) -> Result<Prefix<B>, BodyError>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    if body.is_end_stream() {
        return Ok(Prefix::Whole {
            data: Bytes::new(),
            trailers: None,
        });
    }
    let mut body = Box::pin(body);
    let mut chunks = VecDeque::new();
    if body.size_hint().lower() > buffer as u64 {
        return Ok(Prefix::Longer { chunks, rest: body });
    }
    let (mut length, mut trailers) = (0, None);
    while let Some(frame) = poll_fn(|cx| poll_inner(body.as_mut(), cx)).await {
        match frame?.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                length += data.len();
                chunks.push_back(data);
                if length > buffer {
                    return Ok(Prefix::Longer { chunks, rest: body });
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let data = match (chunks.pop_front(), chunks.is_empty()) {
        (None, _) => Bytes::new(),
        (Some(only), true) => only,
        (Some(first), false) => {
            let mut whole = BytesMut::with_capacity(length);
            whole.extend_from_slice(&first);
            chunks
                .iter()
                .for_each(|chunk| whole.extend_from_slice(chunk));
            whole.freeze()
        }
    };
    Ok(Prefix::Whole { data, trailers })
}
