//! The future of a response.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use pin_project_lite::pin_project;

use super::inner::{InnerFuture, strip};
use super::layer::Rules;
use crate::PipelineBody;

pin_project! {
    /// The future of [`CorsService`](super::CorsService).
    ///
    /// # Cancellation safety
    /// As safe as the inner service's: dropping it drops that one.
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = Projected]
    enum Kind<F> {
        Passed { #[pin] future: F },
        Ruled {
            #[pin]
            future: tower_http::cors::ResponseFuture<InnerFuture<F>>,
            preflight: Option<Preflight>,
        },
    }
}

/// What is left to do for a preflight.
pub(super) struct Preflight(Arc<Rules>);

impl Preflight {
    pub(super) fn new(rules: &Arc<Rules>) -> Self {
        Self(Arc::clone(rules))
    }

    /// Puts the allowed headers before those that were asked for.
    fn finish(&self, headers: &mut HeaderMap) {
        let Some(allowed) = &self.0.besides_requested else {
            return;
        };
        let requested = headers.get(ACCESS_CONTROL_ALLOW_HEADERS);
        let requested = requested
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let mut all: Vec<HeaderName> = allowed.clone();
        for name in requested.split(',') {
            if let Ok(name) = HeaderName::from_bytes(name.trim().as_bytes())
                && !all.contains(&name)
            {
                all.push(name);
            }
        }
        let names: Vec<&str> = all.iter().map(HeaderName::as_str).collect();
        if let Ok(value) = HeaderValue::from_str(&names.join(",")) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, value);
        }
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn passed(future: F) -> Self {
        Self {
            kind: Kind::Passed { future },
        }
    }

    pub(super) const fn ruled(
        future: tower_http::cors::ResponseFuture<InnerFuture<F>>,
        preflight: Option<Preflight>,
    ) -> Self {
        Self {
            kind: Kind::Ruled { future, preflight },
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<PipelineBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            Projected::Passed { future } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(response.map(PipelineBody::inner)))
            }
            Projected::Ruled { future, preflight } => {
                let mut response = ready!(future.poll(cx))?;
                let headers = response.headers_mut();
                if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
                    // To a page that may do nothing, the rest says nothing.
                    strip(headers);
                } else if let Some(preflight) = preflight {
                    preflight.finish(headers);
                }
                Poll::Ready(Ok(response.map(|body| match body {
                    Some(body) => PipelineBody::inner(body),
                    None => PipelineBody::empty(),
                })))
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
