//! The service.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::layer::Rules;
use super::{Exempt, ReadOnly, ResponseFuture};
use crate::{Code, PipelineBody, Refusal, Text};

/// A service that can be made read-only. Made by [`ReadOnlyLayer`](super::ReadOnlyLayer).
#[derive(Clone)]
pub struct ReadOnlyService<S> {
    pub(super) inner: S,
    pub(super) switch: ReadOnly,
    pub(super) rules: Arc<Rules>,
}

impl<S, B, R> Service<Request<B>> for ReadOnlyService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<PipelineBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.switch.is_on() {
            let exempt = request.extensions().get::<Exempt>().is_some();
            let path = request.uri().path();
            if !self.rules.allow(request.method(), path, exempt) {
                return ResponseFuture::refused(self.rules.answers.refuse(&refusal(), &request));
            }
        }
        ResponseFuture::passed(self.inner.call(request))
    }
}

fn refusal() -> Refusal {
    Refusal::new(Code::NOT_SUPPORTED).with_text(Text::both(
        "Read-only mode is on: nothing can be changed",
        "演示系统禁止操作！",
    ))
}

impl<S: fmt::Debug> fmt::Debug for ReadOnlyService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnlyService")
            .field("inner", &self.inner)
            .field("switch", &self.switch)
            .finish_non_exhaustive()
    }
}
