//! The service: which requests are keyed, and which pass.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use onlyonce_core::{BoxError, Key, Policy};
use tower_service::Service;

use super::body::{RequestBody, ResponseBody};
use super::future::ResponseFuture;
use super::layer::Shared;
use super::{Problem, ProblemKind, RouteLabel, RoutePolicy, TraceId, extract, keyed, replay};
use crate::{Outcome, Verdict, telemetry};

/// A service whose unsafe requests are safe to retry. Made by
/// [`IdempotencyLayer`](super::IdempotencyLayer).
#[derive(Clone)]
pub struct Idempotency<S> {
    pub(super) inner: S,
    pub(super) shared: Arc<Shared>,
}

impl<S, B, R> Service<Request<B>> for Idempotency<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let route = request.extensions().get::<RoutePolicy>();
        let policy = match route {
            None => Some(&self.shared.policy),
            Some(RoutePolicy(policy)) => policy.as_ref(),
        };
        let Some(policy) = policy.filter(|policy| policy.covers(request.method())) else {
            return self.pass(request);
        };
        match self.key(&request, policy) {
            Ok(None) => self.pass(request),
            Ok(Some(key)) => {
                let policy = Arc::clone(policy);
                // The clone takes the place of the service that was made ready.
                let next = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, next);
                let shared = Arc::clone(&self.shared);
                ResponseFuture::boxed(keyed::handle(shared, inner, request, policy, key))
            }
            Err((kind, detail)) => {
                let problem = Problem::new(kind, policy, detail)
                    .traced(request.extensions().get::<TraceId>());
                telemetry::request(problem.outcome(), route_label(&request));
                ResponseFuture::refused(replay::refusal(&problem, &self.shared, policy))
            }
        }
    }
}

impl<S> Idempotency<S> {
    fn pass<B, R>(&mut self, request: Request<B>) -> ResponseFuture<S::Future, R, S::Error>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    {
        telemetry::request(Outcome::Bypassed, route_label(&request));
        let request = request.map(RequestBody::passed);
        ResponseFuture::passed(self.inner.call(request), Verdict::new(Outcome::Bypassed))
    }

    fn key<B>(
        &self,
        request: &Request<B>,
        policy: &Policy,
    ) -> Result<Option<Key>, (ProblemKind, String)> {
        let key = extract::key(request.headers(), policy)?;
        if let (Some(key), Some(validate)) = (&key, &self.shared.validate) {
            validate(key).map_err(|error| (ProblemKind::KeyInvalid, error.to_string()))?;
        }
        Ok(key)
    }
}

pub(super) fn route_label<B>(request: &Request<B>) -> &str {
    request
        .extensions()
        .get::<RouteLabel>()
        .map_or("-", |RouteLabel(label)| label)
}

impl<S> fmt::Debug for Idempotency<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}
