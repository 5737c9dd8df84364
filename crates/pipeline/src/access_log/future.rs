//! The future of a response.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::pending::Pending;
use super::{Ending, LoggedBody};

pin_project! {
    /// The future of [`AccessLog`](super::AccessLog).
    ///
    /// # Cancellation safety
    /// Dropped before the response is there, it logs a client that hung up.
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        pending: Option<Pending>,
        bodyless: bool,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(inner: F, pending: Pending, bodyless: bool) -> Self {
        Self {
            inner,
            pending: Some(pending),
            bodyless,
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<LoggedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.inner.poll(cx));
        let mut pending = this.pending.take();
        match answered {
            Ok(response) => {
                let status = response.status();
                if let Some(pending) = &mut pending {
                    pending.answer(status.as_u16(), response.extensions());
                }
                let bodyless = *this.bodyless
                    || status.is_informational()
                    || matches!(status.as_u16(), 204 | 205 | 304);
                Poll::Ready(Ok(
                    response.map(|body| LoggedBody::new(body, pending, bodyless))
                ))
            }
            Err(error) => {
                if let Some(pending) = &mut pending {
                    pending.end(Ending::Failed);
                }
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
