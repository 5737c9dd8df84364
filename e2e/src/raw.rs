//! Connections byte by byte, on either side of the gateway.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::within;

/// One end of a connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Read, but not asked for yet.
    ahead: Vec<u8>,
}

impl Wire {
    /// Connects.
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(addr)).await;
        Self::new(stream.expect("somebody listens there"))
    }

    fn new(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        let ahead = Vec::new();
        Self { stream, ahead }
    }

    /// Sends bytes.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = within("sending", self.stream.write_all(bytes.as_ref())).await;
        sent.expect("the other side is there");
    }

    /// Sends bytes, if anybody still takes them.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = within("sending", self.stream.write_all(bytes.as_ref())).await;
    }

    /// Reads up to and with `end`. Less, when the other side ends before.
    pub async fn read_until(&mut self, end: &str) -> String {
        let what = format!("reading up to {end:?}");
        within(&what, async {
            loop {
                let at = self
                    .ahead
                    .windows(end.len())
                    .position(|part| part == end.as_bytes());
                if let Some(at) = at {
                    return self.take(at + end.len());
                }
                if self.read_more().await == 0 {
                    return self.take(self.ahead.len());
                }
            }
        })
        .await
    }

    /// Reads a head and a body of the length that it names.
    pub async fn read_message(&mut self) -> String {
        let mut message = self.read_until("\r\n\r\n").await;
        let length = message.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse::<usize>().ok())?
        });
        let length = length.unwrap_or(0);
        within("reading a body", async {
            while self.ahead.len() < length && self.read_more().await > 0 {}
        })
        .await;
        message.push_str(&self.take(length.min(self.ahead.len())));
        message
    }

    /// Reads until the other side ends, or breaks off.
    pub async fn read_to_end(&mut self) -> String {
        within("the other side's end", async {
            while self.read_more().await > 0 {}
        })
        .await;
        self.take(self.ahead.len())
    }

    async fn read_more(&mut self) -> usize {
        self.stream.read_buf(&mut self.ahead).await.unwrap_or(0)
    }

    fn take(&mut self, length: usize) -> String {
        let taken: Vec<u8> = self.ahead.drain(..length).collect();
        String::from_utf8_lossy(&taken).into_owned()
    }

    /// Ends our side; the other can still send.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }
}

/// A service that does what it is told with each connection.
#[derive(Debug)]
pub struct RawUpstream {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl RawUpstream {
    /// Reads one request on each connection, answers these bytes, and closes.
    pub async fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into().into();
        Self::with(move |mut wire, _| {
            let bytes = Arc::clone(&bytes);
            async move { wire.try_write(&bytes).await }
        })
        .await
    }

    /// Reads one request on each connection, then does with it what `then` says. The number
    /// counts requests, from 1. The connection is closed in the end.
    pub async fn with<F>(then: impl Fn(Wire, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(AtomicUsize::new(0));
        let then = Arc::new(then);
        let (accepted, read) = (Arc::clone(&connections), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            let mut running = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                accepted.fetch_add(1, Ordering::SeqCst);
                let (then, read) = (Arc::clone(&then), Arc::clone(&read));
                running.spawn(async move {
                    let mut wire = Wire::new(stream);
                    if !wire.read_message().await.is_empty() {
                        let number = read.fetch_add(1, Ordering::SeqCst) + 1;
                        then(wire, number).await;
                    }
                });
            }
        });
        Self {
            addr,
            connections,
            requests,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections it has taken.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many requests it has read.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}
