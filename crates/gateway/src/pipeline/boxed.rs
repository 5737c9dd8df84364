//! One type for all stacks, whatever layers stand in them.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use onlyonce_core::BoxError;
use tower::ServiceExt as _;
use tower_service::Service;

use super::StackResponse;

/// The body of what a stack answers.
pub(crate) type StackBody = UnsyncBoxBody<Bytes, BoxError>;

/// The future of what a stack answers.
pub(crate) type StackFuture =
    Pin<Box<dyn Future<Output = Result<StackResponse, Infallible>> + Send>>;

/// A service of any make for requests with a body `B`. Cloning shares it: every request gets a
/// copy of what is inside, so that no request waits for another.
pub(super) struct Stack<B>(Arc<dyn Fn(Request<B>) -> StackFuture + Send + Sync>);

impl<B> Clone for Stack<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> Stack<B> {
    pub(super) fn call(&self, request: Request<B>) -> StackFuture {
        (self.0)(request)
    }
}

pub(super) fn boxed<S, B, R>(service: S) -> Stack<B>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    Stack(Arc::new(move |request| {
        let answer = service.clone().oneshot(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    }))
}

impl<B> Service<Request<B>> for Stack<B> {
    type Response = StackResponse;
    type Error = Infallible;
    type Future = StackFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> StackFuture {
        Self::call(self, request)
    }
}
