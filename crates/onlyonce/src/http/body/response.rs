//! The response's body, as the client gets it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use onlyonce_core::BoxError;
use pin_project_lite::pin_project;
use tokio::sync::mpsc;

use super::BodyError;
use super::request::poll_inner;

pin_project! {
    /// The response's body, as the client gets it: the service's own, a recorded one, or a
    /// stream that is recorded on its way.
    pub struct ResponseBody<R> {
        #[pin]
        kind: Kind<R>,
    }
}

pin_project! {
    #[project = Projected]
    enum Kind<R> {
        Passed { #[pin] body: R },
        Whole { data: Option<Bytes>, trailers: Option<HeaderMap> },
        Channel { body: ChannelBody },
    }
}

impl<R> ResponseBody<R> {
    /// The service's own.
    pub(crate) fn passed(body: R) -> Self {
        Self {
            kind: Kind::Passed { body },
        }
    }

    /// Known from start to end.
    pub(crate) fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        let data = (!data.is_empty()).then_some(data);
        let trailers = trailers.filter(|trailers| !trailers.is_empty());
        Self {
            kind: Kind::Whole { data, trailers },
        }
    }

    /// Fed by the task that records it.
    pub(crate) fn channel(body: ChannelBody) -> Self {
        Self {
            kind: Kind::Channel { body },
        }
    }
}

impl<R> Body for ResponseBody<R>
where
    R: Body,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.project().kind.project() {
            Projected::Passed { body } => poll_inner(body, cx),
            Projected::Whole { data, trailers } => {
                let data = data.take().map(Frame::data);
                Poll::Ready(
                    data.or_else(|| trailers.take().map(Frame::trailers))
                        .map(Ok),
                )
            }
            Projected::Channel { body } => body.frames.poll_recv(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passed { body } => body.is_end_stream(),
            Kind::Whole { data, trailers } => data.is_none() && trailers.is_none(),
            Kind::Channel { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passed { body } => body.size_hint(),
            // With trailers the length must not be announced: HTTP/1.1 sends trailers only
            // behind a chunked body.
            Kind::Whole {
                data,
                trailers: Some(_),
            } => {
                let mut hint = SizeHint::new();
                hint.set_lower(data.as_ref().map_or(0, |data| data.len() as u64));
                hint
            }
            Kind::Whole {
                data,
                trailers: None,
            } => SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64)),
            Kind::Channel { body } => body.hint,
        }
    }
}

impl<R> fmt::Debug for ResponseBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Passed { .. } => "passed",
            Kind::Whole { .. } => "whole",
            Kind::Channel { .. } => "channel",
        };
        write!(f, "ResponseBody({kind})")
    }
}

/// The client's end of a stream.
#[derive(Debug)]
pub(crate) struct ChannelBody {
    frames: mpsc::Receiver<Result<Frame<Bytes>, BodyError>>,
    hint: SizeHint,
}

/// A stream from the task that records it to the client. One frame may wait: the service is
/// never read faster than the client reads.
pub(crate) fn channel(
    hint: SizeHint,
) -> (mpsc::Sender<Result<Frame<Bytes>, BodyError>>, ChannelBody) {
    let (sender, frames) = mpsc::channel(1);
    (sender, ChannelBody { frames, hint })
}
