//! The service.

use std::task::{self, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::{CURRENT, Context, ContextLayer, ContextSlot, ResponseFuture};

/// A service whose requests have a [`Context`]. Made by [`ContextLayer`].
#[derive(Clone, Debug)]
pub struct ContextService<S> {
    pub(super) inner: S,
    pub(super) layer: ContextLayer,
}

impl<S, B, R> Service<Request<B>> for ContextService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // One that is there already is taken up: this layer stands inside of another.
        let known = request.extensions().get::<Context>().cloned();
        let outermost = known.is_none();
        let context = known.unwrap_or_else(|| self.enter(&mut request));
        let inner = &mut self.inner;
        let future = CURRENT.sync_scope(context.clone(), || inner.call(request));
        ResponseFuture::new(
            CURRENT.scope(context.clone(), future),
            outermost.then_some(context),
        )
    }
}

impl<S> ContextService<S> {
    fn enter<B>(&self, request: &mut Request<B>) -> Context {
        let trace_id = self.layer.trace_context.enter(request.headers_mut());
        let started = self.layer.clock.now();
        let context = Context::new(trace_id.clone(), request.uri().path(), started);
        if let Some(slot) = request.extensions().get::<ContextSlot>() {
            slot.fill(&context);
        }
        request.extensions_mut().insert(trace_id);
        request.extensions_mut().insert(context.clone());
        context
    }
}
