//! The future of a response.

use std::pin::Pin;
use std::task::{self, Poll, ready};

use http::{HeaderName, HeaderValue, Response};
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;

use super::Context;

const TRACE_ID: HeaderName = HeaderName::from_static("trace-id");

pin_project! {
    /// The future of a response with its trace ID.
    pub struct ResponseFuture<F> {
        #[pin]
        inner: TaskLocalFuture<Context, F>,
        // Whose trace ID the response is to carry.
        shown: Option<Context>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(inner: TaskLocalFuture<Context, F>, shown: Option<Context>) -> Self {
        Self { inner, shown }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(context) = this.shown.take()
            && let Ok(id) = HeaderValue::from_str(context.trace_id().as_str())
        {
            // A replay brings the first answer's; this request has one of its own.
            response.headers_mut().insert(TRACE_ID, id);
            response.extensions_mut().insert(context);
        }
        Poll::Ready(Ok(response))
    }
}
