//! The future of a response.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::layer::Shared;
use super::service::{Question, introduce};
use super::texts::AuthRejection;
use crate::PipelineBody;
use crate::context::Identity;

type Asking = Pin<Box<dyn Future<Output = Result<Option<Identity>, AuthRejection>> + Send>>;

pin_project! {
    /// The future of [`Auth`](super::Auth).
    ///
    /// # Cancellation safety
    /// Dropping it before the inner service is called leaves no trace but that of the token store:
    /// a session that was refreshed, a ticket that was used up.
    pub struct ResponseFuture<S, Q, F> {
        #[pin]
        state: State<S, Q, F>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, Q, F> {
        Refused { response: Option<Response<Bytes>> },
        Asking { asking: Asking, waiting: Option<Waiting<S, Q>> },
        Passed { #[pin] future: F },
    }
}

/// What goes on once the caller is known.
struct Waiting<S, Q> {
    service: S,
    request: Q,
    shared: Arc<Shared>,
}

impl<S, Q, F> ResponseFuture<S, Q, F> {
    pub(super) const fn passed(future: F) -> Self {
        Self {
            state: State::Passed { future },
        }
    }

    pub(super) const fn refused(response: Response<Bytes>) -> Self {
        Self {
            state: State::Refused {
                response: Some(response),
            },
        }
    }

    pub(super) fn asked(question: Question, request: Q, service: S, shared: Arc<Shared>) -> Self {
        Self {
            state: State::Asking {
                // Boxed, as it waits for a store and not only for the inner service.
                asking: Box::pin(question.answer()),
                waiting: Some(Waiting {
                    service,
                    request,
                    shared,
                }),
            },
        }
    }
}

impl<S, B, R> Future for ResponseFuture<S, Request<B>, S::Future>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Output = Result<Response<PipelineBody<R>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project().state.project() {
                Projected::Refused { response } => {
                    let response = response.take();
                    let response = response.expect("a future is not polled after its end");
                    return Poll::Ready(Ok(response.map(PipelineBody::whole)));
                }
                Projected::Passed { future } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(response.map(PipelineBody::inner)));
                }
                Projected::Asking { asking, waiting } => {
                    let answer = ready!(asking.as_mut().poll(cx));
                    let waiting = waiting.take();
                    let Waiting {
                        mut service,
                        mut request,
                        shared,
                    } = waiting.expect("it is left as soon as it has an answer");
                    match answer {
                        Ok(identity) => {
                            if let Some(identity) = identity {
                                introduce(identity, &shared.told, &mut request);
                            }
                            State::Passed {
                                future: service.call(request),
                            }
                        }
                        Err(rejection) => State::Refused {
                            response: Some(shared.refuse(rejection, &request)),
                        },
                    }
                }
            };
            self.as_mut().project().state.set(next);
        }
    }
}

impl<S, Q, F> fmt::Debug for ResponseFuture<S, Q, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
