//! The body of an answer that may be in an envelope.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::AheadBody;
use crate::{Asked, PipelineBody};

pin_project! {
    /// The body of an answer: in an envelope, or the handler's own.
    #[derive(Debug)]
    pub struct EnvelopeBody<R>
    where
        R: Body,
    {
        #[pin]
        inner: PipelineBody<AheadBody<R>>,
        // Whose errors are to be logged: nobody else hears of a stream that broke off.
        stream: Option<Box<str>>,
    }
}

impl<R: Body> EnvelopeBody<R> {
    pub(super) const fn inner(body: AheadBody<R>) -> Self {
        Self {
            inner: PipelineBody::inner(body),
            stream: None,
        }
    }

    pub(super) fn stream(body: AheadBody<R>, asked: &Asked) -> Self {
        Self {
            inner: PipelineBody::inner(body),
            stream: Some(asked.trace_id().into()),
        }
    }

    pub(super) fn whole(data: Bytes) -> Self {
        Self {
            inner: PipelineBody::whole(data),
            stream: None,
        }
    }
}

impl<R: Body<Data = Bytes>> Body for EnvelopeBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        let this = self.project();
        let frame = this.inner.poll_frame(cx);
        if let (Poll::Ready(Some(Err(_))), Some(trace_id)) = (&frame, this.stream) {
            tracing::error!(trace_id = &**trace_id, "an event stream broke off");
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<R: Body> Default for EnvelopeBody<R> {
    fn default() -> Self {
        Self {
            inner: PipelineBody::default(),
            stream: None,
        }
    }
}
