//! The body of a response that may be the service's own or a layer's.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response that may be the service's own or a layer's: unboxed, so that a
    /// request that passes costs no allocation.
    pub struct PipelineBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = Projected]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Whole { data: Option<Bytes> },
    }
}

impl<B> PipelineBody<B> {
    /// The service's own body.
    pub const fn inner(body: B) -> Self {
        Self {
            kind: Kind::Inner { body },
        }
    }

    /// A body that is known from start to end.
    pub fn whole(data: impl Into<Bytes>) -> Self {
        let data: Bytes = data.into();
        Self {
            kind: Kind::Whole {
                data: (!data.is_empty()).then_some(data),
            },
        }
    }

    /// A body without a byte.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            kind: Kind::Whole { data: None },
        }
    }
}

impl<B: Body<Data = Bytes>> Body for PipelineBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            Projected::Inner { body } => body.poll_frame(cx),
            Projected::Whole { data } => Poll::Ready(data.take().map(Frame::data).map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Whole { data } => data.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Whole { data } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
        }
    }
}

impl<B> Default for PipelineBody<B> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<B> fmt::Debug for PipelineBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Inner { .. } => "PipelineBody::inner",
            Kind::Whole { .. } => "PipelineBody::whole",
        })
    }
}
