//! One connection, from its first byte to its last.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use onlyonce_core::BoxError;
use onlyonce_pipeline::client_addr::proxy_protocol;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tower_service::Service;

use super::body::FrontBody;
use super::guard::Guard;
use super::patient::{Patient, Reset};
use super::rewind::Rewind;
use super::service::{FrontService, Hold, Peer};
use super::state::ConnState;
use super::{Front, FrontOptions, ProxyProtocol};

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) async fn serve<S, B>(
    front: &Front,
    mut stream: TcpStream,
    place: OwnedSemaphorePermit,
    service: S,
) where
    S: Service<Request<FrontBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // Both fail only when the peer is gone already.
    let (Ok(addr), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
        return;
    };
    let Some((addr, local)) = ends(front, &mut stream, addr, local).await else {
        return;
    };
    // An answer must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let peer = Peer {
        addr,
        local,
        tls: front.tls.is_some(),
    };
    let state = Arc::new(ConnState::new());
    let service = FrontService {
        inner: service,
        peer,
        hold: Hold::new(front.tracker.clone(), front.kill.clone(), place),
        state: Arc::clone(&state),
        options: Arc::clone(&front.options),
    };
    let patience = front.options.write_timeout;
    let served = match &front.tls {
        None => match sniff(front, Patient::new(stream, patience)).await {
            Some((io, first, true)) => {
                serve_http2(front, Rewind { io, first }, state, service).await
            }
            Some((io, first, false)) => serve_http1(front, io, first, state, service).await,
            None => return,
        },
        Some(tls) => {
            let handshake = async {
                let _permit = front.handshakes.acquire().await;
                tls.accept(stream).await
            };
            let handshake = timeout(front.options.handshake_timeout, handshake);
            let stream = tokio::select! {
                () = front.drain.cancelled() => return,
                done = handshake => match done {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        tracing::debug!(%addr, %error, "TLS handshake failed");
                        return;
                    }
                    Err(_) => {
                        tracing::debug!(%addr, "TLS handshake took too long");
                        return;
                    }
                },
            };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = Patient::new(stream, patience);
            if http2 {
                serve_http2(front, io, state, service).await
            } else {
                serve_http1(front, io, BytesMut::new(), state, service).await
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%addr, error = &error as &dyn std::error::Error, "connection failed");
    }
}

/// The client's end of the connection and ours, as a proxy in front tells them where it is asked
/// to; `None` when the connection is not to be served.
async fn ends(
    front: &Front,
    stream: &mut TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
) -> Option<(SocketAddr, SocketAddr)> {
    let Some(ProxyProtocol { trusted, timeout }) = &front.options.proxy_protocol else {
        return Some((peer, local));
    };
    let accepted = tokio::select! {
        () = front.drain.cancelled() => return None,
        accepted = proxy_protocol::accept(stream, peer, trusted, *timeout) => accepted,
    };
    match accepted {
        Ok(Some(proxied)) => Some((proxied.client, proxied.server)),
        Ok(None) => Some((peer, local)),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            // A load balancer that is not set up for it loses every connection: that must be seen.
            // Strangers can make as many of these as they like, so only the first one is.
            if front.stranger_seen.swap(true, Ordering::Relaxed) {
                tracing::debug!(%peer, error, "no proxy of ours");
            } else {
                tracing::warn!(
                    %peer,
                    error,
                    "a connection without the PROXY protocol of a trusted proxy was let go (the \
                     next ones are logged at the level debug)"
                );
            }
            None
        }
    }
}

/// Reads until it is clear whether the client speaks HTTP/2; `None` when it says nothing.
async fn sniff<IO: AsyncRead + Unpin>(front: &Front, mut io: IO) -> Option<(IO, BytesMut, bool)> {
    let deadline = Instant::now() + front.options.head_timeout;
    let mut first = BytesMut::with_capacity(4096);
    loop {
        let read: io::Result<usize> = tokio::select! {
            () = front.drain.cancelled() => return None,
            read = timeout_at(deadline, io.read_buf(&mut first)) => read.ok()?,
        };
        let length = first.len().min(PREFACE.len());
        let matches = first[..length] == PREFACE[..length];
        match read {
            Ok(0) | Err(_) => return None,
            Ok(_) if !matches || length == PREFACE.len() => return Some((io, first, matches)),
            Ok(_) => {}
        }
    }
}

async fn serve_http1<IO, S, B>(
    front: &Front,
    io: IO,
    first: BytesMut,
    state: Arc<ConnState>,
    service: FrontService<S>,
) -> hyper::Result<()>
where
    IO: AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
    S: Service<Request<FrontBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let options = &front.options;
    let (limits, times) = (options.frame_limits(), options.guard_times());
    let io = TokioIo::new(Guard::new(io, first, limits, times, state));
    let mut http = http1::Builder::new();
    // The guard keeps the time itself: hyper's one limit would cover idle connections as well.
    http.timer(TokioTimer::new()).header_read_timeout(None);
    http.max_buf_size((2 * limits.max_head).max(64 * 1024));
    if limits.max_fields > 100 {
        http.max_headers(limits.max_fields);
    }
    let mut connection = pin!(http.serve_connection(io, service).with_upgrades());
    tokio::select! {
        biased;
        served = &mut connection => return served,
        () = front.drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn serve_http2<IO, S, B>(
    front: &Front,
    io: IO,
    state: Arc<ConnState>,
    service: FrontService<S>,
) -> hyper::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<FrontBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let options = &front.options;
    let http = http2_builder(options);
    let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
    let mut hostile = pin!(async {
        tokio::select! {
            () = stalled_stream(&state, options.write_timeout) => {
                tracing::debug!("a stream's window stayed closed for too long");
            }
            () = state.flooded() => tracing::debug!("too many requests were given up"),
        }
    });
    tokio::select! {
        biased;
        served = &mut connection => return served,
        () = front.drain.cancelled() => {}
        () = idle(&state, options.idle_timeout) => {}
        () = &mut hostile => return Ok(()),
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        served = &mut connection => served,
        () = &mut hostile => Ok(()),
    }
}

/// Resolves when no request has been under way for `limit`.
async fn idle(state: &ConnState, limit: Duration) {
    let mut due = state.last_finished() + limit;
    loop {
        sleep_until(due).await;
        let now = Instant::now();
        let since = if state.active() > 0 {
            now
        } else {
            state.last_finished()
        };
        due = since + limit;
        if due <= now {
            return;
        }
    }
}

/// Resolves when the client has left a stream's window closed for `limit`: the socket takes
/// bytes, so nothing else notices.
async fn stalled_stream(state: &ConnState, limit: Duration) {
    loop {
        let now = Instant::now();
        let due = state.longest_unwritten().unwrap_or(now) + limit;
        if due <= now {
            return;
        }
        sleep_until(due).await;
    }
}

/// All bounds are set by name: a new default of hyper must not change what is safe here.
fn http2_builder(options: &FrontOptions) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(options.max_streams)
        // Also bounds CONTINUATION frames: h2 counts them against this size.
        .max_header_list_size(u32::try_from(options.max_head).unwrap_or(u32::MAX))
        .header_table_size(4096)
        // Rapid reset (CVE-2023-44487), and resets that the peer's own faults provoke.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(128)
        .max_frame_size(16 * 1024)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(128 * 1024)
        // A client that has vanished without a word is noticed by its silence.
        .keep_alive_interval(options.idle_timeout / 3)
        .keep_alive_timeout(options.write_timeout);
    http
}
