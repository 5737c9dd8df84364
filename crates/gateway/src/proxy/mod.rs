//! Forwarding: a request to the upstream, its response back, nothing else changed.
//!
//! [`Proxy`] is a [`tower_service::Service`]. Bodies stream both ways, trailers included; paths
//! and content codings stay as they are. Fields that belong to one connection are taken off
//! ([`hop`]) and those that say where a request came from are put on.

pub mod hop;

mod body;
mod forwarded;
mod tunnel;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, EXPECT, TE, UPGRADE, VIA};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use onlyonce::Control;
use onlyonce_core::BoxError;
use tower_service::Service;

use crate::front::{Hold, LONGEST, Peer};
use crate::upstream::{FailureKind, ForwardError, HostRule, Sent, Upstream};

pub use body::ProxyBody;

/// What is changed on the way.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProxyOptions {
    /// Which Host the upstream sees. Default: the client's.
    pub host: HostRule,
    /// Whether `Forwarded` and `X-Forwarded-*` of the client are believed and added to. Only
    /// right when every client is a proxy of one's own. Default false: they are replaced.
    pub trust_forwarded: bool,
    /// The name in `Via`; none leaves it out. Default `onlyonce`.
    pub via: Option<HeaderValue>,
    /// How long an upgraded connection may carry nothing in either direction. Default 1 h.
    pub tunnel_idle: Duration,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            host: HostRule::default(),
            trust_forwarded: false,
            via: Some(HeaderValue::from_static("onlyonce")),
            tunnel_idle: Duration::from_secs(3600),
        }
    }
}

/// Forwards requests. Cloning is cheap and gives the same proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    upstream: Upstream,
    options: Arc<ProxyOptions>,
}

impl Proxy {
    /// A proxy before `upstream`.
    #[must_use]
    pub fn new(upstream: Upstream, mut options: ProxyOptions) -> Self {
        options.tunnel_idle = options.tunnel_idle.min(LONGEST);
        Self {
            upstream,
            options: Arc::new(options),
        }
    }

    /// Forwards one request.
    ///
    /// CONNECT is answered with 405, and an expectation other than `100-continue` with 417.
    ///
    /// # Errors
    /// When the upstream gives no response head; see [`ForwardError`]. What goes wrong later is
    /// an error of the response's body.
    ///
    /// # Cancellation safety
    /// Dropping the future gives the request up, whether or not the upstream has seen it.
    pub async fn forward<B>(&self, request: Request<B>) -> Result<Response<ProxyBody>, ForwardError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        if parts.method == Method::CONNECT {
            return Ok(refusal(StatusCode::METHOD_NOT_ALLOWED));
        }
        let expects_more = parts.headers.remove(EXPECT).is_some_and(|expect| {
            // hyper sends the 100 itself, when the body is first asked for.
            !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
        });
        if expects_more {
            return Ok(refusal(StatusCode::EXPECTATION_FAILED));
        }
        let offer = self.prepare(&mut parts);
        let hold = parts.extensions.remove::<Hold>();
        // What is left in the extensions is this process's business.
        parts.extensions.clear();
        let request = Request::from_parts(parts, body);
        let mut response = self
            .upstream
            .send(request, self.options.host, offer.is_some())
            .await?;
        let theirs = response.extensions_mut().remove::<OnUpgrade>();
        let protocol = response.headers().get(UPGRADE).cloned();
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        hop::strip(response.headers_mut());
        if !switching {
            tidy_length(response.headers_mut());
            return Ok(response.map(ProxyBody::upstream));
        }
        let (Some(offer), Some(theirs), Some(protocol)) = (offer, theirs, protocol) else {
            let upstream = response.body().upstream();
            let error = ForwardError::new(FailureKind::Protocol, Sent::Maybe, upstream);
            return Err(error.with_source("a 101 that was not asked for"));
        };
        let idle = self.options.tunnel_idle;
        tokio::spawn(tunnel::run(
            offer.client,
            theirs,
            hold.map(|hold| hold.hold()),
            idle,
        ));
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
        Ok(response.map(|_| ProxyBody::empty()))
    }

    /// Makes the client's head the one that goes upstream.
    fn prepare(&self, parts: &mut request::Parts) -> Option<Offer> {
        let version = parts.version;
        hop::normalize(&mut parts.headers, version);
        let client = parts.extensions.remove::<OnUpgrade>();
        let offered = parts.headers.remove(UPGRADE);
        let trailers = parts.headers.remove(TE);
        hop::strip(&mut parts.headers);

        hop::name_host(&mut parts.headers, &parts.uri);
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(Uri::default, Uri::from);

        let peer = parts.extensions.get::<Peer>();
        forwarded::put_on(&mut parts.headers, peer, self.options.trust_forwarded);
        if let Some(name) = &self.options.via {
            parts.headers.append(VIA, via(version, name));
        }
        if let Some(trailers) = trailers {
            parts.headers.insert(TE, trailers);
        }
        let (protocol, client) = offered.zip(client)?;
        if !self.upstream.can_upgrade() {
            return None;
        }
        parts.headers.insert(UPGRADE, protocol);
        Some(Offer { client })
    }
}

/// A client's offer to change the protocol.
struct Offer {
    client: OnUpgrade,
}

impl<B> Service<Request<B>> for Proxy
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ProxyBody>;
    type Error = ForwardError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ForwardError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.forward(request).await })
    }
}

fn refusal(status: StatusCode) -> Response<ProxyBody> {
    let mut response = Response::new(ProxyBody::empty());
    *response.status_mut() = status;
    // Nothing was sent: it is no answer to keep for the key.
    response.extensions_mut().insert(Control::NotExecuted);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

/// One Content-Length: hyper's client takes several that agree.
fn tidy_length(headers: &mut http::HeaderMap) {
    if headers.get_all(CONTENT_LENGTH).iter().count() > 1
        && let Some(first) = headers.get(CONTENT_LENGTH)
    {
        let first = first
            .to_str()
            .ok()
            .and_then(|value| value.split(',').next());
        let one = first.and_then(|value| HeaderValue::from_str(value.trim()).ok());
        if let Some(one) = one {
            headers.insert(CONTENT_LENGTH, one);
        }
    }
}

fn via(version: Version, name: &HeaderValue) -> HeaderValue {
    let received: &[u8] = match version {
        Version::HTTP_10 => b"1.0 ",
        Version::HTTP_2 => b"2.0 ",
        _ => b"1.1 ",
    };
    HeaderValue::from_bytes(&[received, name.as_bytes()].concat()).unwrap_or_else(|_| name.clone())
}
