//! What stands between tower-http's layer and the service.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderMap, HeaderName, Method, Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

/// In the extensions of an OPTIONS request that is no preflight: tower-http takes every one for a
/// preflight, so it is shown another method.
#[derive(Clone, Copy)]
struct NoPreflight;

/// Shows `request`, which is no preflight, in a way that it is not taken for one.
pub(super) fn disguise<B>(request: &mut Request<B>) {
    if request.method() == Method::OPTIONS {
        *request.method_mut() = Method::GET;
        request.extensions_mut().insert(NoPreflight);
    }
}

/// Removes all that says what pages may do.
pub(super) fn strip(headers: &mut HeaderMap) {
    const ALL: [HeaderName; 6] = [
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE,
    ];
    for name in ALL {
        headers.remove(name);
    }
}

/// The service as tower-http sees it: its body has a default, for preflights, and it says nothing
/// of its own on what pages may do.
#[derive(Clone, Debug)]
pub(super) struct Inner<S>(pub(super) S);

impl<S, B, R> Service<Request<B>> for Inner<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<Option<R>>;
    type Error = S::Error;
    type Future = InnerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if request.extensions_mut().remove::<NoPreflight>().is_some() {
            *request.method_mut() = Method::OPTIONS;
        }
        InnerFuture {
            future: self.0.call(request),
        }
    }
}

pin_project! {
    pub(super) struct InnerFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F, R, E> Future for InnerFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<Option<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.project().future.poll(cx))?;
        strip(response.headers_mut());
        Poll::Ready(Ok(response.map(Some)))
    }
}
