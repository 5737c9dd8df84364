//! The service.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{Method, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::RouteCors;
use super::future::{Preflight, ResponseFuture};
use super::inner::{Inner, disguise};
use super::layer::Rules;
use crate::PipelineBody;

/// A service that pages of other origins may use. Made by [`CorsLayer`](super::CorsLayer).
#[derive(Clone)]
pub struct CorsService<S> {
    pub(super) cors: tower_http::cors::Cors<Inner<S>>,
    pub(super) rules: Arc<Rules>,
}

/// The method that a preflight asks for; `None` when `request` is no preflight: an OPTIONS
/// request with `Origin` and `Access-Control-Request-Method`.
#[must_use]
pub fn requested_method<B>(request: &Request<B>) -> Option<Method> {
    if request.method() != Method::OPTIONS || !request.headers().contains_key(ORIGIN) {
        return None;
    }
    let method = request.headers().get(ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(method.as_bytes()).ok()
}

impl<S, B, R> Service<Request<B>> for CorsService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<PipelineBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.cors.get_mut().0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let own = request.extensions().get::<RouteCors>().cloned();
        if let Some(RouteCors(None)) = own {
            return ResponseFuture::passed(self.cors.get_mut().0.call(request));
        }
        let is_preflight = requested_method(&request).is_some();
        if !is_preflight {
            disguise(&mut request);
        }
        match own {
            Some(RouteCors(Some(own))) => {
                let preflight = is_preflight.then(|| Preflight::new(&own.rules));
                let inner = Inner(&mut self.cors.get_mut().0);
                let mut cors = own.rules.tower_http.layer(inner);
                ResponseFuture::ruled(cors.call(request), preflight)
            }
            _ => {
                let preflight = is_preflight.then(|| Preflight::new(&self.rules));
                ResponseFuture::ruled(self.cors.call(request), preflight)
            }
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for CorsService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CorsService")
            .field("inner", &self.cors.get_ref().0)
            .finish_non_exhaustive()
    }
}
