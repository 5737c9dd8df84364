//! What the proxy answers with.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::upstream::{ForwardError, UpstreamBody};

pin_project! {
    /// An upstream's body, or none.
    #[derive(Debug)]
    pub struct ProxyBody {
        #[pin]
        inner: Option<UpstreamBody>,
    }
}

impl ProxyBody {
    pub(crate) fn upstream(inner: UpstreamBody) -> Self {
        Self { inner: Some(inner) }
    }

    pub(crate) fn empty() -> Self {
        Self { inner: None }
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        match self.project().inner.as_pin_mut() {
            Some(inner) => inner.poll_frame(cx),
            None => Poll::Ready(None),
        }
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
