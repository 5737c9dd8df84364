//! The upstream, as the idempotency layer sees it: a service that always answers.
//!
//! This is the one place where a failure to forward becomes a response, and where it is decided
//! what it means for the key: nothing was sent, or nobody knows.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use onlyonce::{Claimed, Control};
use onlyonce_core::BoxError;
use onlyonce_pipeline::context::Context as RequestContext;
use tower_service::Service;

use crate::proxy::{Proxy, ProxyBody};
use crate::routing::{ATTEMPT, FENCE};
use crate::upstream::{FailureKind, ForwardError, Sent};

/// The upstream's body, or that of an answer of our own.
pub(crate) type OriginBody = Either<ProxyBody, Full<Bytes>>;

/// The service behind the idempotency layer. Cloning gives the same one.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    proxy: Arc<ArcSwap<Proxy>>,
}

impl Origin {
    pub(crate) fn new(proxy: Arc<ArcSwap<Proxy>>) -> Self {
        Self { proxy }
    }
}

impl<B> Service<Request<B>> for Origin
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<OriginBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let claimed = request.extensions().get::<Claimed>().cloned();
        if let Some(claimed) = &claimed {
            let headers = request.headers_mut();
            headers.insert(ATTEMPT, HeaderValue::from(claimed.attempt()));
            headers.insert(FENCE, HeaderValue::from(claimed.fence().get()));
        }
        // A reload changes what later requests get; this one keeps its proxy to the end.
        let proxy = Proxy::clone(&self.proxy.load());
        let asked = Asked::of(&request);
        Box::pin(async move {
            Ok(match proxy.forward(request).await {
                Ok(response) => response.map(Either::Left),
                Err(error) => rescue(&error, &asked, claimed.is_some()),
            })
        })
    }
}

/// Why an answer is the gateway's own: in its extensions, for the envelope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rescued(pub(crate) &'static str);

/// Which request it was, for the log.
struct Asked {
    method: Method,
    /// Its path alone is logged: a query may hold secrets.
    uri: Uri,
    context: Option<RequestContext>,
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            context: RequestContext::of(request.extensions()).cloned(),
        }
    }
}

fn rescue(error: &ForwardError, asked: &Asked, keyed: bool) -> Response<OriginBody> {
    let status = error.status();
    let cause = error.source().map(tracing::field::display);
    let context = asked.context.as_ref();
    tracing::warn!(
        error = %error,
        cause,
        sent = ?error.sent(),
        method = %asked.method,
        path = asked.uri.path(),
        trace_id = context.map(|context| context.trace_id().as_str()),
        "not forwarded"
    );
    metrics::counter!("onlyonce_upstream_failures_total", "kind" => kind(error.kind()))
        .increment(1);

    let (control, title, detail, retryable) = match (error.kind(), error.sent()) {
        // Not the upstream's doing, and it never saw a whole request.
        // An earlier attempt may have: what is known of that one stays.
        (FailureKind::ClientBody, _) => (
            Control::NotExecuted,
            status.canonical_reason().unwrap_or("Bad Request"),
            "the request's body broke off, came too slowly or is too long",
            true,
        ),
        (_, Sent::No) => (
            Control::NotExecuted,
            "Upstream unreachable",
            "the service behind this gateway could not be reached; nothing was sent to it",
            true,
        ),
        (_, Sent::Maybe) if keyed => (
            Control::Ambiguous,
            "Outcome unknown",
            "the service behind this gateway did not answer to the end; whether the request took \
             effect is unknown",
            false,
        ),
        (_, Sent::Maybe) => (
            Control::Ambiguous,
            "Upstream failed",
            "the service behind this gateway did not answer to the end; whether the request took \
             effect is unknown",
            false,
        ),
    };
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
        "retryable": retryable,
    });
    let mut response = Response::new(Either::Right(Full::from(problem.to_string())));
    *response.status_mut() = status;
    response.extensions_mut().insert(control);
    response.extensions_mut().insert(Rescued(detail));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if retryable && status != StatusCode::PAYLOAD_TOO_LARGE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A failure's name in metrics.
const fn kind(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Connect => "connect",
        FailureKind::ConnectTimeout => "connect-timeout",
        FailureKind::HeadTimeout => "head-timeout",
        FailureKind::IdleTimeout => "idle-timeout",
        FailureKind::TotalTimeout => "total-timeout",
        FailureKind::Refused => "refused",
        FailureKind::Reset => "reset",
        FailureKind::CutResponse => "cut-response",
        FailureKind::Protocol => "protocol",
        FailureKind::ClientBody => "client-body",
    }
}
