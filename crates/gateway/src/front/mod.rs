//! The listener: connections in, requests to a service, under limits.
//!
//! [`serve`] speaks HTTP/1.1 and HTTP/2 (by ALPN under TLS, by prior knowledge without it) and
//! gives every request to a [`tower_service::Service`]. What it adds to hyper: request framing
//! read strictly, so that no request can be smuggled past another proxy; time-outs at every
//! place where a client can stall; bounds on connections, handshakes, heads and streams; and a
//! shutdown that lets running requests end.
//!
//! A request carries a [`Peer`] and a [`Hold`] in its extensions. When its client goes away, the
//! service's future is dropped.

mod body;
mod connection;
mod guard;
mod options;
mod patient;
mod rewind;
mod service;
mod state;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use onlyonce_core::BoxError;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::tls::TlsAcceptor;

pub use body::{BodyReadError, FrontBody};
pub use guard::{FrameLimits, Framer, Step, Violation};
pub(crate) use options::LONGEST;
pub use options::{FrontOptions, ProxyProtocol};
pub use service::{Held, Hold, Peer};

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Drained {
    /// Connections and tunnels that had to be cut when the drain time was over.
    pub cut: usize,
}

impl Drained {
    /// Whether every request was answered to its end.
    #[must_use]
    pub fn all_finished(self) -> bool {
        self.cut == 0
    }
}

/// Serves `listener` until `shutdown` resolves, then drains.
///
/// Draining: no more connections are accepted, idle ones are closed, HTTP/2 clients get a
/// GOAWAY, HTTP/1 answers say `Connection: close`; what still runs after
/// [`FrontOptions::drain_timeout`] is cut.
///
/// # Cancellation safety
/// Dropping the future cuts every connection at once.
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    options: FrontOptions,
    service: S,
    shutdown: impl Future<Output = ()>,
) -> Drained
where
    S: Service<Request<FrontBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let options = options.within_bounds();
    let front = Arc::new(Front {
        tls,
        handshakes: Semaphore::new(options.max_handshakes),
        options: Arc::new(options),
        drain: CancellationToken::new(),
        kill: CancellationToken::new(),
        tracker: TaskTracker::new(),
        stranger_seen: AtomicBool::new(false),
    });
    let _cut_on_drop = front.kill.clone().drop_guard();
    let connections = Arc::new(Semaphore::new(front.options.max_connections));
    let mut shutdown = pin!(shutdown);
    let mut backoff = Backoff::default();
    loop {
        let accepted = async {
            // The permit comes first: at the limit, new connections wait in the kernel.
            let permit = Arc::clone(&connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                backoff = Backoff::default();
                // Nobody closes the semaphore.
                let Ok(place) = permit else { break };
                let connection = Arc::clone(&front).connection(stream, place, service.clone());
                front.tracker.spawn(connection);
            }
            Err(error) => {
                let pause = backoff.next(&error);
                if !pause.is_zero() {
                    tracing::warn!(%error, ?pause, "cannot accept connections");
                    tokio::select! {
                        () = &mut shutdown => break,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }
    drop(listener);
    front.drain().await
}

/// What all connections share.
struct Front {
    tls: Option<TlsAcceptor>,
    handshakes: Semaphore,
    options: Arc<FrontOptions>,
    /// End when idle.
    drain: CancellationToken,
    /// End now.
    kill: CancellationToken,
    tracker: TaskTracker,
    /// Whether somebody has come who is no proxy of ours.
    stranger_seen: AtomicBool,
}

impl Front {
    async fn connection<S, B>(
        self: Arc<Self>,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        service: S,
    ) where
        S: Service<Request<FrontBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let kill = self.kill.clone();
        tokio::select! {
            () = kill.cancelled() => {}
            () = connection::serve(&self, stream, place, service) => {}
        }
    }

    async fn drain(&self) -> Drained {
        self.drain.cancel();
        self.tracker.close();
        let finished = tokio::time::timeout(self.options.drain_timeout, self.tracker.wait());
        let cut = match finished.await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        };
        self.kill.cancel();
        self.tracker.wait().await;
        Drained { cut }
    }
}

/// How long to wait after `accept` failed.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Zero for a connection that died while it was waiting; growing to 1 s for what does not
    /// go away by itself, such as a lack of file descriptors.
    fn next(&mut self, error: &io::Error) -> Duration {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionReset | Interrupted
        ) {
            return Duration::ZERO;
        }
        self.failures = (self.failures + 1).min(8);
        Duration::from_millis(5 << self.failures).min(Duration::from_secs(1))
    }
}
