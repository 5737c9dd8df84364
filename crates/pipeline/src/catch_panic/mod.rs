//! A panic becomes an answer.
//!
//! A handler that panics would otherwise cost the client its connection, without a word.
//! [`CatchPanicLayer`] answers code 68 with the request's trace ID; what the panic said goes to
//! the log alone (and to clients only where [`Answers::with_debug`](crate::Answers::with_debug)
//! is on).
//!
//! # Order
//! Outside of everything whose panics it is to catch; inside of the access log, which sees the
//! answer. A second one inside of an idempotency layer has the answer recorded that the client
//! gets, where the policy stores it ([`Control::Failed`]); [`Pipeline`](crate::Pipeline) puts both
//! there. It finds the trace ID of a [`ContextLayer`](crate::context::ContextLayer) that stands
//! further in. A panic while the body of a response streams is out of its reach.
//!
//! # Example
//! ```
//! use http::{Request, Response};
//! use onlyonce_pipeline::{Answers, PipelineBody, catch_panic::CatchPanicLayer};
//! use tower::{ServiceBuilder, ServiceExt as _, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! # std::panic::set_hook(Box::new(|_| {}));
//! let service = ServiceBuilder::new()
//!     .layer(CatchPanicLayer::new(Answers::new()))
//!     .service(service_fn(async |request: Request<()>| {
//!         assert_eq!(request.uri().path(), "/", "no such page");
//!         Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Empty::<bytes::Bytes>::new()))
//!     }));
//! let response = service.oneshot(Request::get("/x").body(()).unwrap()).await.unwrap();
//! assert_eq!(response.status(), 500);
//! # }
//! ```

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use http::{HeaderValue, Request, Response};
use onlyonce::Control;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::context::{ContextSlot, random_trace_id};
use crate::telemetry::PANICS;
use crate::{Answers, Asked, Code, Error, Language, PipelineBody, Text};

/// Answers code 68 where the inner service panics.
#[derive(Clone, Debug)]
#[must_use]
pub struct CatchPanicLayer {
    answers: Answers,
}

impl CatchPanicLayer {
    /// Answers as `answers` say.
    pub const fn new(answers: Answers) -> Self {
        Self { answers }
    }
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic {
            inner,
            answers: self.answers.clone(),
        }
    }
}

/// A service whose panics become answers. Made by [`CatchPanicLayer`].
#[derive(Clone, Debug)]
pub struct CatchPanic<S> {
    inner: S,
    answers: Answers,
}

impl<S, B, R> Service<Request<B>> for CatchPanic<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<PipelineBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let about = About {
            slot: ContextSlot::of(request.extensions_mut()),
            asked: self.answers.asked(&request),
            answers: self.answers.clone(),
        };
        let inner = &mut self.inner;
        match catch_unwind(AssertUnwindSafe(|| inner.call(request))) {
            Ok(future) => ResponseFuture {
                kind: Kind::Running { future, about },
            },
            Err(panic) => ResponseFuture {
                kind: Kind::Panicked {
                    answer: Some(about.answer(panic)),
                },
            },
        }
    }
}

/// How the answer is made, if there is to be one.
struct About {
    slot: ContextSlot,
    asked: Asked,
    answers: Answers,
}

impl About {
    fn answer(&self, panic: Box<dyn Any + Send>) -> Response<bytes::Bytes> {
        let trace_id = match self.slot.context() {
            Some(context) => context.trace_id().clone(),
            None => random_trace_id(),
        };
        metrics::counter!(PANICS).increment(1);
        let said = text(&*panic);
        drop(panic);
        tracing::error!(
            trace_id = trace_id.as_str(),
            panic = &*said,
            "a handler panicked"
        );
        let (en, zh) = (Language::En, Language::ZhCn);
        let message = |language| Code::INTERNAL_PANIC.message(language).unwrap_or_default();
        let error = Error::plain(said)
            .with_frames(Vec::new())
            .internal()
            .wrap_code(Code::INTERNAL_PANIC, Text::both(message(en), message(zh)))
            .with_frames(Vec::new());
        let asked = self.asked.clone().with_trace_id(&trace_id);
        let mut response = self.answers.error(&Arc::new(error), &asked, None);
        response.extensions_mut().insert(Control::Failed);
        if let Ok(id) = HeaderValue::from_str(trace_id.as_str()) {
            response.headers_mut().insert("trace-id", id);
        }
        response
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a value that is no text").to_owned()
}

pin_project! {
    /// The future of an answer.
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = Projected]
    #[project_replace = Replaced]
    enum Kind<F> {
        Running { #[pin] future: F, about: About },
        Panicked { answer: Option<Response<bytes::Bytes>> },
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<PipelineBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut kind = self.project().kind;
        let answer = match kind.as_mut().project() {
            Projected::Panicked { answer } => answer.take().expect("polled after its end"),
            Projected::Running { future, about } => {
                match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(result)) => {
                        return Poll::Ready(result.map(|r| r.map(PipelineBody::inner)));
                    }
                    Err(panic) => {
                        let answer = about.answer(panic);
                        // What is left of it is dropped now: it holds the request. That may
                        // panic as well.
                        let end = Kind::Panicked { answer: None };
                        let _ = catch_unwind(AssertUnwindSafe(|| kind.project_replace(end)));
                        answer
                    }
                }
            }
        };
        Poll::Ready(Ok(answer.map(PipelineBody::whole)))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, Full};
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::AnswerNote;
    use crate::context::ContextLayer;

    async fn oneshot(answers: Answers, early: bool) -> (http::response::Parts, String) {
        let panicking = service_fn(move |_: Request<()>| {
            assert!(!early, "the password is 1234");
            async move {
                tokio::task::yield_now().await;
                assert!(early, "the password is 1234");
                Ok::<Response<Full<bytes::Bytes>>, Infallible>(Response::default())
            }
        });
        let service = CatchPanicLayer::new(answers).layer(ContextLayer::new().layer(panicking));
        let request = Request::get("/").header(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        );
        let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_code_68_with_the_trace_id_and_without_its_text() {
        for early in [false, true] {
            let (head, body) = oneshot(Answers::new(), early).await;
            assert_eq!(head.status, 500);
            assert_eq!(head.headers["trace-id"], "4bf92f3577b34da6a3ce929d0e0e4736");
            assert!(
                body.starts_with(r#"{"code":68,"message":"Internal Panic","timestamp":"#),
                "{body}"
            );
            assert!(
                body.ends_with(r#""traceID":"4bf92f3577b34da6a3ce929d0e0e4736"}"#),
                "{body}"
            );
            let note = head.extensions.get::<AnswerNote>().unwrap();
            let chain: Vec<_> = note.error.as_ref().unwrap().chain().collect();
            assert_eq!(
                chain,
                ["Internal Panic", "the password is 1234"],
                "for the log"
            );
        }
    }

    #[tokio::test]
    async fn with_debug_the_text_is_shown() {
        let (_, body) = oneshot(Answers::new().with_debug(true), false).await;
        assert!(body.contains(r#""2. the password is 1234""#), "{body}");
    }

    #[tokio::test]
    async fn what_does_not_panic_passes() {
        let service = service_fn(async |_: Request<()>| {
            Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from("fine"))))
        });
        let service = CatchPanicLayer::new(Answers::new()).layer(service);
        let response = service.oneshot(Request::new(())).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "fine");
    }
}
