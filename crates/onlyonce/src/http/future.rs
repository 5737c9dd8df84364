//! The future of a response.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;

use super::body::ResponseBody;
use super::control::Control;
use crate::Verdict;

type Boxed<R, E> = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<R>>, E>> + Send>>;

pin_project! {
    /// The future of [`Idempotency`](super::Idempotency).
    ///
    /// # Cancellation safety
    /// Dropping it before the key is claimed leaves no trace. After that, the work goes on
    /// without it, and its result is recorded.
    pub struct ResponseFuture<F, R, E> {
        #[pin]
        state: State<F, R, E>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<F, R, E> {
        Passed { #[pin] future: F, verdict: Option<Verdict> },
        Refused { response: Option<Response<ResponseBody<R>>> },
        Keyed { future: Boxed<R, E> },
    }
}

impl<F, R, E> ResponseFuture<F, R, E> {
    pub(super) fn passed(future: F, verdict: Verdict) -> Self {
        Self {
            state: State::Passed {
                future,
                verdict: Some(verdict),
            },
        }
    }

    pub(super) fn refused(response: Response<ResponseBody<R>>) -> Self {
        Self {
            state: State::Refused {
                response: Some(response),
            },
        }
    }

    pub(super) fn boxed(
        future: impl Future<Output = Result<Response<ResponseBody<R>>, E>> + Send + 'static,
    ) -> Self {
        Self {
            state: State::Keyed {
                future: Box::pin(future),
            },
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Passed { future, verdict } => {
                let mut response = std::task::ready!(future.poll(cx))?;
                // A control says nothing to anybody where no key is: it is stripped all the same.
                let _ = Control::take(&mut response);
                if let Some(verdict) = verdict.take() {
                    response.extensions_mut().insert(verdict);
                }
                Poll::Ready(Ok(response.map(ResponseBody::passed)))
            }
            Projected::Refused { response } => Poll::Ready(Ok(response
                .take()
                .expect("a future is not polled after its end"))),
            Projected::Keyed { future } => future.as_mut().poll(cx),
        }
    }
}

impl<F, R, E> fmt::Debug for ResponseFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
