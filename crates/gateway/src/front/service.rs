//! What every request passes between hyper and the stack.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower_service::Service;

use super::body::{CountedBody, FrontBody};
use super::guard::is_host_byte;
use super::options::FrontOptions;
use super::state::ConnState;
use crate::proxy::hop;

/// Where a request came from: in the extensions of every request that passes the front.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address at the other end of the connection.
    pub addr: SocketAddr,
    /// The address on this end.
    pub local: SocketAddr,
    /// Whether the connection is under TLS.
    pub tls: bool,
}

/// In the extensions of every request, for those who carry on with an upgraded connection after
/// its request has been answered.
#[derive(Clone, Debug)]
pub struct Hold {
    tracker: TaskTracker,
    kill: CancellationToken,
    /// The connection's place among [`FrontOptions::max_connections`].
    place: Arc<OwnedSemaphorePermit>,
}

impl Hold {
    pub(crate) fn new(
        tracker: TaskTracker,
        kill: CancellationToken,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let place = Arc::new(place);
        Self {
            tracker,
            kill,
            place,
        }
    }

    /// Keeps the connection counted among the open ones, and has the shutdown wait, up to its drain time, until what is returned is dropped. To be
    /// called before the request is answered.
    #[must_use]
    pub fn hold(&self) -> Held {
        Held {
            _token: self.tracker.token(),
            _place: Arc::clone(&self.place),
            kill: self.kill.clone(),
        }
    }
}

/// Something the shutdown waits for; see [`Hold::hold`].
#[derive(Debug)]
pub struct Held {
    _token: TaskTrackerToken,
    _place: Arc<OwnedSemaphorePermit>,
    kill: CancellationToken,
}

impl Held {
    /// Resolves when the drain time is over and the connection must end at once.
    pub async fn closed(&self) {
        self.kill.cancelled().await;
    }
}

/// Adapts the stack to hyper, for one connection.
#[derive(Debug)]
pub(crate) struct FrontService<S> {
    pub(crate) inner: S,
    pub(crate) peer: Peer,
    pub(crate) hold: Hold,
    pub(crate) state: Arc<ConnState>,
    pub(crate) options: Arc<FrontOptions>,
}

type Answer<B> = Pin<Box<dyn Future<Output = Result<Response<CountedBody<B>>, Infallible>> + Send>>;

impl<S, B> hyper::service::Service<Request<Incoming>> for FrontService<S>
where
    S: Service<Request<FrontBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<onlyonce_core::BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<CountedBody<B>>;
    type Error = Infallible;
    type Future = Answer<B>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut active = self.state.begin();
        if let Some(status) = self.refusal(&request) {
            active.answered();
            return Box::pin(async move { Ok(short_answer(status, active)) });
        }
        let version = request.version();
        let (mut parts, body) = request.into_parts();
        // First of all, so that no layer's own fields can be named by the client's Connection.
        hop::normalize(&mut parts.headers, version);
        hop::name_host(&mut parts.headers, &parts.uri);
        parts.extensions.insert(self.peer.clone());
        parts.extensions.insert(self.hold.clone());
        let body = FrontBody::new(body, self.options.body_timeout, self.options.max_body);
        let request = Request::from_parts(parts, body);
        let mut inner = self.inner.clone();
        Box::pin(async move {
            let answer = async {
                poll_fn(|cx| inner.poll_ready(cx)).await?;
                inner.call(request).await
            };
            let answer = answer.await;
            active.answered();
            match answer {
                Ok(mut response) => {
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        active.state().upgrade();
                    }
                    // The upstream's version says nothing about this connection.
                    *response.version_mut() = version;
                    let close_delimited =
                        version == Version::HTTP_10 && body_length(&response).is_none();
                    Ok(response.map(|body| {
                        CountedBody::new(Some(body), active)
                            .close_delimited(close_delimited)
                            .watched(version == Version::HTTP_2)
                    }))
                }
                Err(error) => {
                    let error: onlyonce_core::BoxError = error.into();
                    tracing::error!(error = &*error, "the service failed without an answer");
                    Ok(short_answer(StatusCode::INTERNAL_SERVER_ERROR, active))
                }
            }
        })
    }
}

impl<S> FrontService<S> {
    /// What is answered right here.
    fn refusal(&self, request: &Request<Incoming>) -> Option<StatusCode> {
        if request.method() == Method::CONNECT {
            return Some(StatusCode::METHOD_NOT_ALLOWED);
        }
        // The guard has seen to this on HTTP/1.
        if is_ambiguous(request.headers()) {
            return Some(StatusCode::BAD_REQUEST);
        }
        let lower = request.body().size_hint().lower();
        (self.options.max_body.is_some_and(|most| lower > most))
            .then_some(StatusCode::PAYLOAD_TOO_LARGE)
    }
}

/// Whether two parties could read another length or another host from these fields.
fn is_ambiguous(headers: &HeaderMap) -> bool {
    let repeated = |name| headers.get_all(name).iter().nth(1).is_some();
    let host = headers.get(HOST);
    repeated(CONTENT_LENGTH)
        || repeated(HOST)
        || host.is_some_and(|host| !host.as_bytes().iter().all(|byte| is_host_byte(*byte)))
}

/// The length that hyper will announce.
fn body_length<B: Body>(response: &Response<B>) -> Option<u64> {
    let announced = response.headers().get(CONTENT_LENGTH);
    announced
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .or_else(|| response.body().size_hint().exact())
}

fn short_answer<B>(status: StatusCode, active: super::state::Active) -> Response<CountedBody<B>> {
    let mut response = Response::new(CountedBody::new(None, active));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}
