//! The response's body, as the client gets it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

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
            Projected::Channel { body } => body.poll_frame(cx),
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

type Piece = Result<Frame<Bytes>, BodyError>;

/// The client's end of a stream.
#[derive(Debug)]
pub(crate) struct ChannelBody {
    frames: mpsc::Receiver<Piece>,
    ended: Arc<AtomicBool>,
    hint: SizeHint,
}

impl ChannelBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        let piece = ready!(self.frames.poll_recv(cx));
        // Whatever closes the channel but `FrameSender::end` has lost the rest of the body, which
        // must not look whole. Said once: `swap` makes it the end.
        if piece.is_none() && !self.ended.swap(true, Ordering::AcqRel) {
            return Poll::Ready(Some(Err(BodyError::given_up())));
        }
        if matches!(piece, Some(Err(_))) {
            self.ended.store(true, Ordering::Release);
        }
        Poll::Ready(piece)
    }
}

/// The recording task's end of a stream. Dropped without [`end`](Self::end), it cuts the stream
/// short for the client.
#[derive(Debug)]
pub(crate) struct FrameSender {
    frames: mpsc::Sender<Piece>,
    ended: Arc<AtomicBool>,
}

impl FrameSender {
    /// Sends a frame; whether the client is still there.
    pub(crate) async fn send(&self, piece: Piece) -> bool {
        self.frames.send(piece).await.is_ok()
    }

    /// Resolves when the client has gone away.
    pub(crate) async fn closed(&self) {
        self.frames.closed().await;
    }

    /// Ends the stream as it should.
    pub(crate) fn end(self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// A stream from the task that records it to the client. One frame may wait: the service is
/// never read faster than the client reads.
pub(crate) fn channel(hint: SizeHint) -> (FrameSender, ChannelBody) {
    let (sender, frames) = mpsc::channel(1);
    let ended = Arc::new(AtomicBool::new(false));
    let sender = FrameSender {
        frames: sender,
        ended: Arc::clone(&ended),
    };
    let body = ChannelBody {
        frames,
        ended,
        hint,
    };
    (sender, body)
}
