//! One request's way to its response's head.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, sleep_until};

use super::HostRule;
use super::body::{Progress, UploadBody, UpstreamBody};
use super::error::{FailureKind, ForwardError, Sent, kind_of};
use super::health::Admission;
use super::options::UpstreamOptions;
use super::pool::{Conn, Lease};
use super::target::{Ready, Target};

/// A request until it has been answered.
pub(crate) struct Exchange {
    /// `None` once it may have been sent.
    request: Option<Request<UploadBody>>,
    progress: Arc<Progress>,
    host: HostRule,
    upgrade: bool,
    deadline: Option<Instant>,
}

/// Dead connections that are thrown away before an upstream is given up: a pool may hold many,
/// but an HTTP/2 server may also close every one right after its handshake.
const MOST_ATTEMPTS: u32 = 8;

type Attempt = Result<Response<Incoming>, TrySendError<Request<UploadBody>>>;

impl Exchange {
    pub(crate) fn new(request: Request<UploadBody>, host: HostRule, upgrade: bool) -> Self {
        Self {
            progress: request.body().progress(),
            request: Some(request),
            host,
            upgrade,
            deadline: None,
        }
    }

    pub(crate) fn set_deadline(&mut self, total: Option<Duration>) {
        self.deadline = total.map(|total| Instant::now() + total);
    }

    /// Whether the request is still here, whole, so that it may go elsewhere.
    pub(crate) fn is_unsent(&self) -> bool {
        self.request.is_some()
    }

    /// Tries `target`, on as many pooled connections as turn out to be dead, then on a new one.
    pub(crate) async fn run(
        &mut self,
        target: &Arc<Target>,
        admission: &Admission<'_>,
        options: &UpstreamOptions,
    ) -> Result<Response<UpstreamBody>, ForwardError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let ready = match target.connection(self.upgrade, self.deadline).await {
                Ok(ready) => ready,
                Err(error) => {
                    let its_fault = error.kind() != FailureKind::TotalTimeout;
                    if its_fault && admission.failed(Instant::now()) {
                        tracing::warn!(upstream = %target.name, "upstream is down");
                    }
                    return Err(error);
                }
            };
            if admission.succeeded() {
                tracing::info!(upstream = %target.name, "upstream is up again");
            }
            let reused = !matches!(ready, Ready::Http1 { pooled: false, .. });
            match self.attempt(target, ready, options).await {
                Err(_) if reused && self.is_unsent() && attempts < MOST_ATTEMPTS => {}
                done => return done,
            }
        }
    }

    async fn attempt(
        &mut self,
        target: &Arc<Target>,
        ready: Ready,
        options: &UpstreamOptions,
    ) -> Result<Response<UpstreamBody>, ForwardError> {
        let Some(mut request) = self.request.take() else {
            return Err(ForwardError::new(
                FailureKind::Reset,
                Sent::Maybe,
                &target.name,
            ));
        };
        let clock = HeadClock {
            progress: &self.progress,
            timeout: options.head_timeout,
            deadline: self.deadline,
            started: Instant::now(),
        };
        let (conn, result, before) = match ready {
            Ready::Http1 { mut conn, .. } => {
                address_http1(&mut request, target, self.host);
                let before = conn.wire.read();
                conn.wire.begin();
                let sending = conn.sender.try_send_request(request);
                let result = await_head(sending, clock).await;
                (Some(conn), result, before)
            }
            Ready::Http2(mut sender) => {
                address_http2(&mut request, target, self.host);
                let sending = sender.try_send_request(request);
                (None, await_head(sending, clock).await, 0)
            }
        };
        let unsent = |conn: &Option<Conn>| conn.as_ref().is_some_and(|conn| !conn.wire.has_sent());
        let response = match result {
            Ok(Ok(response)) => response,
            Ok(Err(mut error)) => {
                self.request = error.take_message();
                let error = error.into_error();
                let answered = conn.as_ref().is_some_and(|conn| conn.wire.read() > before);
                let body_error = self.progress.take_error();
                let kind = match &body_error {
                    // An upstream that has begun to answer did not wait for the rest.
                    Some(_) if answered => FailureKind::CutResponse,
                    Some(_) => FailureKind::ClientBody,
                    None => kind_of(&error, answered),
                };
                // hyper reports an error when it is done with the connection, so this is final.
                let never = self.is_unsent() || kind == FailureKind::Refused || unsent(&conn);
                let sent = if never { Sent::No } else { Sent::Maybe };
                let failure = ForwardError::new(kind, sent, &target.name);
                return Err(match body_error {
                    Some(source) => failure.with_source(source),
                    None => failure.with_source(error),
                });
            }
            // The connection's task still runs: what it has not sent it may send yet.
            Err(kind) => return Err(ForwardError::new(kind, Sent::Maybe, &target.name)),
        };
        if let Some(problem) = ambiguity(&response) {
            return Err(
                ForwardError::new(FailureKind::Protocol, Sent::Maybe, &target.name)
                    .with_source(problem),
            );
        }
        let mut lease = Lease::new(conn, Arc::clone(&self.progress), Arc::clone(target));
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            lease.detach();
        }
        let (deadline, idle) = (self.deadline, options.idle_timeout);
        let name = Arc::clone(&target.name);
        Ok(response.map(|body| UpstreamBody::new(body, lease, name, idle, deadline)))
    }
}

/// Waits for the response's head while its time runs.
async fn await_head(
    sending: impl Future<Output = Attempt>,
    clock: HeadClock<'_>,
) -> Result<Attempt, FailureKind> {
    let mut sending = pin!(sending);
    let mut timer = pin!(sleep_until(clock.due()));
    loop {
        tokio::select! {
            biased;
            result = &mut sending => return Ok(result),
            () = &mut timer => {
                let now = Instant::now();
                if clock.deadline.is_some_and(|deadline| deadline <= now) {
                    return Err(FailureKind::TotalTimeout);
                }
                let due = clock.due();
                if due <= now {
                    return Err(FailureKind::HeadTimeout);
                }
                timer.as_mut().reset(due);
            }
        }
    }
}

/// When the wait for a response's head is over.
struct HeadClock<'a> {
    progress: &'a Progress,
    timeout: Duration,
    deadline: Option<Instant>,
    /// The attempt's start: time spent on the way to a connection is not the upstream's.
    started: Instant,
}

impl HeadClock<'_> {
    fn due(&self) -> Instant {
        let since = self.progress.last().unwrap_or_else(Instant::now);
        let due = since.max(self.started) + self.timeout;
        self.deadline.map_or(due, |deadline| deadline.min(due))
    }
}

/// HTTP/1: origin form, Host, and a body whose length hyper can't know said to be chunked.
fn address_http1(request: &mut Request<UploadBody>, target: &Target, host: HostRule) {
    *request.version_mut() = Version::HTTP_11;
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    let body = request.body();
    let unknown = !body.is_end_stream() && body.size_hint().exact().is_none();
    let headers = request.headers_mut();
    if (host == HostRule::Upstream || !headers.contains_key(HOST))
        && let Ok(value) = HeaderValue::from_str(target.authority.as_str())
    {
        headers.insert(HOST, value);
    }
    let mut connection = Vec::new();
    if headers.contains_key(UPGRADE) {
        connection.push("upgrade");
    }
    if headers.contains_key(TE) {
        connection.push("te");
    }
    if let Ok(value) = HeaderValue::from_str(&connection.join(", "))
        && !connection.is_empty()
    {
        headers.insert(CONNECTION, value);
    }
    // hyper would drop such a body from a GET.
    if unknown && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// HTTP/2: scheme and authority in the target, no Host.
fn address_http2(request: &mut Request<UploadBody>, target: &Target, host: HostRule) {
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    let client = headers.remove(HOST);
    // They may be left from a try over HTTP/1.
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    let authority = client
        .filter(|_| host == HostRule::Preserve)
        .and_then(|value| value.as_bytes().try_into().ok())
        .unwrap_or_else(|| target.authority.clone());
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if target.is_https() {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    });
    parts.authority = Some(authority);
    parts.path_and_query = request
        .uri()
        .path_and_query()
        .cloned()
        .or_else(|| Some(http::uri::PathAndQuery::from_static("/")));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// Why a response's length can be read in two ways, if it can.
fn ambiguity(response: &Response<Incoming>) -> Option<&'static str> {
    let headers = response.headers();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next()?;
    if headers.contains_key(CONTENT_LENGTH) {
        return Some("content-length and transfer-encoding together");
    }
    let chunked = first.as_bytes().eq_ignore_ascii_case(b"chunked");
    (!chunked || codings.next().is_some()).then_some("a transfer-encoding other than `chunked`")
}
