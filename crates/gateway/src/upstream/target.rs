//! One upstream: its address, its health, its connections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use onlyonce_core::BoxError;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::UpstreamError;
use super::body::UploadBody;
use super::error::{FailureKind, ForwardError, Sent};
use super::health::Health;
use super::options::UpstreamOptions;
use super::pool::{Conn, Pool, TaskGuard};
use super::wire::{Wire, WireIo};

/// See the [module](self).
pub(crate) struct Target {
    pub(crate) name: Arc<str>,
    pub(crate) authority: Authority,
    pub(crate) health: Health,
    pub(crate) pool: Pool,
    host: Box<str>,
    port: u16,
    tls: Option<Tls>,
    /// It speaks HTTP/2: told so, or found out.
    http2: AtomicBool,
    shared: Mutex<Option<Shared>>,
    sweeping: AtomicBool,
    connect_timeout: Duration,
    max_head: usize,
}

struct Tls {
    name: ServerName<'static>,
    any: TlsConnector,
    http1: TlsConnector,
}

/// The HTTP/2 connection that all requests share.
struct Shared {
    sender: http2::SendRequest<UploadBody>,
    task: TaskGuard,
    used: Instant,
}

/// An HTTP/2 connection that nobody has used for so long may have died without a word; pings go
/// over it only while it is in use.
const SHARED_IDLE: Duration = Duration::from_secs(30);

/// A connection to send one request on.
pub(crate) enum Ready {
    Http1 { conn: Conn, pooled: bool },
    Http2(http2::SendRequest<UploadBody>),
}

impl Target {
    pub(crate) fn new(
        uri: &Uri,
        options: &UpstreamOptions,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Result<Self, UpstreamError> {
        let bad = |problem| UpstreamError::Address {
            uri: uri.to_string(),
            problem,
        };
        let authority = uri.authority().ok_or(bad("has no host"))?.clone();
        let https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(bad("must begin with http:// or https://")),
        };
        if authority.as_str().contains('@') {
            return Err(bad("must not carry a user name or password"));
        }
        if uri
            .path_and_query()
            .is_some_and(|path| path.as_str() != "/")
        {
            return Err(bad(
                "must end behind the host and port: paths are passed on as they are",
            ));
        }
        let host: Box<str> = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .into();
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let tls = match tls.filter(|_| https) {
            None => None,
            Some(config) => Some(Tls {
                name: ServerName::try_from(host.to_string())
                    .map_err(|_| bad("has a host that no certificate can name"))?,
                any: connector(config, &[b"h2", b"http/1.1"]),
                http1: connector(config, &[b"http/1.1"]),
            }),
        };
        Ok(Self {
            name: format!("{}:{port}", authority.host()).into(),
            authority,
            health: Health::new(options.unhealthy_after, options.cool_down),
            pool: Pool::new(options.max_idle, options.pool_idle),
            host,
            port,
            http2: AtomicBool::new(!https && options.h2c),
            tls,
            shared: Mutex::new(None),
            sweeping: AtomicBool::new(false),
            connect_timeout: options.connect_timeout,
            max_head: options.max_head,
        })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether a connection to it can be upgraded: over HTTP/1, that is.
    pub(crate) fn can_upgrade(&self) -> bool {
        self.is_https() || !self.http2.load(Ordering::Relaxed)
    }

    /// A connection: an unused one, the shared one, or a new one; until `total`, the end of the
    /// whole exchange, at most.
    ///
    /// # Cancellation safety
    /// Dropping the future closes a connection that was being made.
    pub(crate) async fn connection(
        &self,
        upgrade: bool,
        total: Option<Instant>,
    ) -> Result<Ready, ForwardError> {
        let now = Instant::now();
        let out_of_time = |kind| Err(ForwardError::new(kind, Sent::No, &self.name));
        if total.is_some_and(|total| total <= now) {
            return out_of_time(FailureKind::TotalTimeout);
        }
        let patience = now + self.connect_timeout;
        let deadline = total.map_or(patience, |total| total.min(patience));
        let connected = async {
            if !upgrade && self.http2.load(Ordering::Relaxed) {
                return self.shared().await;
            }
            while let Some(mut conn) = self.pool.take() {
                // At the end of an exchange its task may have a last step to take.
                if conn.sender.is_ready() || conn.sender.ready().await.is_ok() {
                    return Ok(Ready::Http1 { conn, pooled: true });
                }
            }
            self.connect(upgrade).await
        };
        match timeout_at(deadline, connected).await {
            Ok(Ok(ready)) => Ok(ready),
            Ok(Err(source)) => {
                let error = ForwardError::new(FailureKind::Connect, Sent::No, &self.name);
                Err(error.with_source(source))
            }
            Err(_) if deadline < patience => out_of_time(FailureKind::TotalTimeout),
            Err(_) => out_of_time(FailureKind::ConnectTimeout),
        }
    }

    /// The shared HTTP/2 connection, made anew when it is gone; requests that come meanwhile wait.
    async fn shared(&self) -> Result<Ready, BoxError> {
        let mut shared = self.shared.lock().await;
        let now = Instant::now();
        if let Some(shared) = &mut *shared
            && !shared.sender.is_closed()
            && now.saturating_duration_since(shared.used) < SHARED_IDLE
        {
            shared.used = now;
            return Ok(Ready::Http2(shared.sender.clone()));
        }
        if let Some(mut old) = shared.take() {
            // A long response may still be on it: it ends with its last one.
            old.task.release();
        }
        let tls = self.tls.as_ref().map(|tls| (&tls.any, &tls.name));
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        let (io, negotiated, wire) = wrap(stream, tls).await?;
        if self.tls.is_some() && !negotiated {
            // It has changed its mind since the last connection.
            self.http2.store(false, Ordering::Relaxed);
            drop(shared);
            return self.http1(io, wire).await;
        }
        let made = self.http2(io).await?;
        let sender = made.sender.clone();
        *shared = Some(made);
        Ok(Ready::Http2(sender))
    }

    async fn connect(&self, upgrade: bool) -> Result<Ready, BoxError> {
        let tls = self.tls.as_ref().map(|tls| {
            let connector = if upgrade { &tls.http1 } else { &tls.any };
            (connector, &tls.name)
        });
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        let (io, http2, wire) = wrap(stream, tls).await?;
        if !http2 {
            return self.http1(io, wire).await;
        }
        self.http2.store(true, Ordering::Relaxed);
        let made = self.http2(io).await?;
        let sender = made.sender.clone();
        // One of several made at the same time stays; the others end with their requests.
        let mut shared = self.shared.lock().await;
        if shared
            .as_ref()
            .is_some_and(|shared| !shared.sender.is_closed())
        {
            let mut made = made;
            made.task.release();
        } else {
            *shared = Some(made);
        }
        Ok(Ready::Http2(sender))
    }

    async fn http1(&self, io: Box<dyn Io>, wire: Arc<Wire>) -> Result<Ready, BoxError> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size((2 * self.max_head).max(16 * 1024))
            .max_header_size(self.max_head)
            .max_headers(256)
            .handshake(TokioIo::new(io))
            .await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        let mut conn = Conn {
            sender,
            wire,
            task: TaskGuard(Some(task.abort_handle())),
        };
        conn.sender.ready().await?;
        Ok(Ready::Http1 {
            conn,
            pooled: false,
        })
    }

    async fn http2(&self, io: Box<dyn Io>) -> Result<Shared, BoxError> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.max_head).unwrap_or(u32::MAX))
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(4 * 1024 * 1024)
            .max_send_buf_size(256 * 1024)
            // An upstream that has vanished is noticed before requests pile up on it.
            .keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .handshake(TokioIo::new(io))
            .await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Shared {
            sender,
            task: TaskGuard(Some(task.abort_handle())),
            used: Instant::now(),
        })
    }

    /// Sees to it that unused connections are closed in time, even if no request comes.
    pub(crate) fn keep_swept(this: &Arc<Self>) {
        if this.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let weak = Arc::downgrade(this);
        let pause = this.pool.keep();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(target) = weak.upgrade() else {
                    return;
                };
                if !target.pool.sweep() {
                    target.sweeping.store(false, Ordering::Release);
                    // One that came back in between starts the next sweeper, or is seen here.
                    if !target.pool.sweep() || target.sweeping.swap(true, Ordering::AcqRel) {
                        return;
                    }
                }
            }
        });
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.name).finish()
    }
}

fn connector(config: &Arc<rustls::ClientConfig>, protocols: &[&[u8]]) -> TlsConnector {
    let mut config = rustls::ClientConfig::clone(config);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config).into()
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Puts TLS around a connection; says whether HTTP/2 was agreed on.
async fn wrap(
    stream: TcpStream,
    tls: Option<(&TlsConnector, &ServerName<'static>)>,
) -> io::Result<(Box<dyn Io>, bool, Arc<Wire>)> {
    stream.set_nodelay(true)?;
    let wire = Arc::new(Wire::new(stream));
    let io = WireIo(Arc::clone(&wire));
    let Some((connector, name)) = tls else {
        return Ok((Box::new(io), false, wire));
    };
    let stream = connector.connect(name.clone(), io).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Box::new(stream), http2, wire))
}
