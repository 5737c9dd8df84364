//! Raw clients, raw upstreams, and a gateway between them.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use onlyonce_gateway::front::{Drained, FrontBody, FrontOptions, serve};
use onlyonce_gateway::proxy::{Proxy, ProxyOptions};
use onlyonce_gateway::tls::TlsAcceptor;
use onlyonce_gateway::upstream::{ForwardError, Upstream, UpstreamOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than anything here takes, unless something hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("took too long: {what}"),
    }
}

/// A gateway on a loopback port; stopped when dropped.
pub(crate) struct Gateway {
    pub(crate) addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Drained>,
    /// The errors that the proxy gave instead of responses.
    pub(crate) errors: Arc<Mutex<Vec<ForwardError>>>,
}

#[derive(Default)]
pub(crate) struct Options {
    pub(crate) front: FrontOptions,
    pub(crate) proxy: ProxyOptions,
    pub(crate) upstream: UpstreamOptions,
    pub(crate) tls: Option<TlsAcceptor>,
}

impl Gateway {
    /// Before raw upstreams at these addresses.
    pub(crate) async fn before(upstreams: &[SocketAddr], options: Options) -> Self {
        let urls: Vec<String> = upstreams
            .iter()
            .map(|addr| format!("http://{addr}"))
            .collect();
        Self::before_urls(&urls, options).await
    }

    pub(crate) async fn before_urls(urls: &[String], options: Options) -> Self {
        let uris = urls.iter().map(|url| url.parse().unwrap());
        let upstream = Upstream::new(uris, options.upstream).unwrap();
        let proxy = Proxy::new(upstream, options.proxy);
        let errors = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&errors);
        let service = tower_service_fn(move |request: Request<FrontBody>| {
            let (proxy, seen) = (proxy.clone(), Arc::clone(&seen));
            async move {
                Ok::<_, Infallible>(match proxy.forward(request).await {
                    Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
                    Err(error) => {
                        let status = error.status();
                        let text = format!("{:?} {:?}", error.kind(), error.sent());
                        seen.lock().unwrap().push(error);
                        answer(status.as_u16(), &text)
                    }
                })
            }
        });
        Self::serving(service, options.front, options.tls, errors).await
    }

    /// With a service of the test's own behind the front.
    pub(crate) async fn with_service<F, Fut>(front: FrontOptions, service: F) -> Self
    where
        F: Fn(Request<FrontBody>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Response<TestBody>, Infallible>> + Send + 'static,
    {
        Self::serving(tower_service_fn(service), front, None, Arc::default()).await
    }

    async fn serving<F, Fut>(
        service: ServiceFn<F>,
        front: FrontOptions,
        tls: Option<TlsAcceptor>,
        errors: Arc<Mutex<Vec<ForwardError>>>,
    ) -> Self
    where
        F: Fn(Request<FrontBody>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Response<TestBody>, Infallible>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, tls, front, service, async {
            let _ = stopped.await;
        }));
        Self {
            addr,
            stop: Some(stop),
            task,
            errors,
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Sends `bytes` on a new connection and reads until the gateway closes it.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        read_to_end(&mut stream).await
    }

    /// Begins the shutdown.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn stopped(mut self) -> Drained {
        self.stop();
        within("shutdown", self.task).await.unwrap()
    }

    /// The kind and sent-ness of the only error so far.
    pub(crate) fn failure(&self) -> String {
        let errors = self.errors.lock().unwrap();
        assert_eq!(errors.len(), 1, "{errors:?}");
        format!("{:?} {:?}", errors[0].kind(), errors[0].sent())
    }
}

pub(crate) type TestBody = UnsyncBoxBody<Bytes, onlyonce_core::BoxError>;

pub(crate) fn answer(status: u16, body: &str) -> Response<TestBody> {
    let body = Full::new(Bytes::from(body.to_owned()));
    let body = body.map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}

/// A tower service from a function.
#[derive(Clone)]
pub(crate) struct ServiceFn<F>(F);

pub(crate) fn tower_service_fn<F>(function: F) -> ServiceFn<F> {
    ServiceFn(function)
}

impl<F, R, Fut, T, E> tower_service::Service<R> for ServiceFn<F>
where
    F: Fn(R) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = Fut;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Fut {
        (self.0)(request)
    }
}

/// An upstream that a test plays by hand, one task for each connection.
pub(crate) struct RawUpstream {
    pub(crate) addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Everything that was read by [`Conversation::head`].
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl RawUpstream {
    pub(crate) async fn new<F, Fut>(play: F) -> Self
    where
        F: Fn(Conversation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (count, seen) = (Arc::clone(&connections), Arc::clone(&heads));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(play(Conversation {
                    stream,
                    heads: Arc::clone(&seen),
                }));
            }
        });
        Self {
            addr,
            connections,
            heads,
            task,
        }
    }

    /// Answers every request with the same bytes, and reads Content-Length bodies.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::new(move |mut talk| {
            let answer = Arc::clone(&answer);
            async move {
                while let Some(head) = talk.head().await {
                    talk.body(&head).await;
                    if talk.stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    pub(crate) fn head(&self, index: usize) -> String {
        self.heads.lock().unwrap()[index].clone()
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The upstream's end of one connection.
pub(crate) struct Conversation {
    pub(crate) stream: TcpStream,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Conversation {
    /// Reads one request head; `None` at the end.
    pub(crate) async fn head(&mut self) -> Option<String> {
        let head = read_head(&mut self.stream).await?;
        self.heads.lock().unwrap().push(head.clone());
        Some(head)
    }

    /// Reads the body that belongs to `head`, by Content-Length.
    pub(crate) async fn body(&mut self, head: &str) -> Vec<u8> {
        let mut body = vec![0; content_length(head).unwrap_or(0)];
        self.stream.read_exact(&mut body).await.unwrap();
        body
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Closes with a reset instead of an end.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

pub(crate) fn content_length(head: &str) -> Option<usize> {
    field(head, "content-length").map(|value| value.parse().unwrap())
}

/// The value of a field in a raw head.
pub(crate) fn field(head: &str, name: &str) -> Option<String> {
    let mut values = head.lines().skip(1).filter_map(|line| {
        let (found, value) = line.split_once(':')?;
        found
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    });
    let value = values.next();
    assert!(values.next().is_none(), "{name} occurs twice in {head}");
    value
}

/// Reads up to the empty line, byte by byte, so that nothing behind it is lost.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}

/// Reads one response by its Content-Length.
pub(crate) async fn read_response(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    within("response", async {
        let head = read_head(stream).await.expect("a response");
        let mut body = vec![0; content_length(&head).unwrap_or(0)];
        stream.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    })
    .await
}

/// Reads until the other side ends (or resets).
pub(crate) async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    within("end of connection", async {
        let mut all = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            all.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8_lossy(&all).into_owned()
    })
    .await
}

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: api.test\r\n\r\n")
}

pub(crate) fn get_close(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\n\r\n")
}
