//! A programmable service behind the gateway.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::{AnyBody, Gate};

type Handled = Pin<Box<dyn Future<Output = Result<Response<AnyBody>, io::Error>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>, Seen) -> Handled + Send + Sync>;
type Seen = Arc<Mutex<Vec<Received>>>;

/// A request as the upstream got it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its place among all that came, from 1.
    pub number: usize,
    /// Its head.
    pub parts: Parts,
    /// Its body, whole.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: HeaderMap,
}

impl Received {
    /// A header's first value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// Its path and query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.parts
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
    }

    /// Its key, under either name.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.header("idempotency-key")
            .or_else(|| self.header("x-idempotency-key"))
    }
}

/// What the upstream does with a request.
#[derive(Debug)]
pub struct Reply {
    response: Response<()>,
    frames: Vec<Result<Frame<Bytes>, io::Error>>,
    body: Option<AnyBody>,
    hang_up: bool,
}

impl Reply {
    /// Answers with this status.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let response = Response::builder().status(status).body(()).unwrap();
        Self {
            response,
            frames: Vec::new(),
            body: None,
            hang_up: false,
        }
    }

    /// Closes the connection without a byte of an answer.
    #[must_use]
    pub fn hang_up() -> Self {
        Self {
            hang_up: true,
            ..Self::new(500)
        }
    }

    /// With one more header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = name.parse::<HeaderName>().unwrap();
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
        self.response.headers_mut().append(name, value);
        self
    }

    /// With one more piece of the body. One piece alone goes with its length, several are chunked.
    #[must_use]
    pub fn body(mut self, piece: impl Into<Bytes>) -> Self {
        self.frames.push(Ok(Frame::data(piece.into())));
        self
    }

    /// With trailers.
    #[must_use]
    pub fn trailers(mut self, trailers: HeaderMap) -> Self {
        self.frames.push(Ok(Frame::trailers(trailers)));
        self
    }

    /// Breaks off here, in the middle of the body.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.frames.push(Err(io::Error::other("cut on purpose")));
        self
    }

    /// With any body, in place of pieces.
    #[must_use]
    pub fn any_body(mut self, body: AnyBody) -> Self {
        self.body = Some(body);
        self
    }

    fn into_response(mut self) -> Result<Response<AnyBody>, io::Error> {
        if self.hang_up {
            return Err(io::Error::other("hung up on purpose"));
        }
        let body = match self.body {
            Some(body) => body,
            None if self
                .frames
                .iter()
                .all(|frame| matches!(frame, Ok(f) if f.is_data()))
                && self.frames.len() < 2 =>
            {
                let piece = self.frames.pop().and_then(Result::ok);
                let piece = piece.and_then(|frame| frame.into_data().ok());
                crate::full(piece.unwrap_or_default())
            }
            None => {
                // One frame at a time, so that what comes before a cut is on its way.
                let frames = futures_util::stream::iter(self.frames).then(|frame| async {
                    tokio::task::yield_now().await;
                    frame
                });
                StreamBody::new(frames).boxed_unsync()
            }
        };
        Ok(self.response.map(|()| body))
    }
}

/// A service that counts what it executes. Ends when dropped, with all its connections.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    seen: Seen,
    _task: AbortOnDropHandle<()>,
}

impl Upstream {
    /// Answers 201 and `N`, the number of the request among all that came.
    pub async fn counting() -> Self {
        Self::answering(|request| Reply::new(201).body(request.number.to_string())).await
    }

    /// Answers each request at once.
    pub async fn answering(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(move |request| std::future::ready(answer(&request))).await
    }

    /// Takes effect, then holds each request at a gate; once through, answers 201 and its number.
    pub async fn gated() -> (Self, Gate) {
        let gate = Gate::closed();
        let inside = gate.clone();
        let upstream = Self::with(move |request| {
            let gate = inside.clone();
            async move {
                gate.pass().await;
                Reply::new(201).body(request.number.to_string())
            }
        });
        (upstream.await, gate)
    }

    /// Answers each request in its time, after its body was read to the end.
    pub async fn with<F>(answer: impl Fn(Received) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let answer = Arc::new(answer);
        Self::serve(Arc::new(move |request, seen| {
            let answer = Arc::clone(&answer);
            Box::pin(async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(io::Error::other)?;
                let trailers = body.trailers().cloned().unwrap_or_default();
                let received = note(&seen, parts, body.to_bytes(), trailers);
                answer(received).await.into_response()
            })
        }))
        .await
    }

    /// Leaves the reading of bodies to `answer`: what it notes has none.
    pub async fn streaming<F>(
        answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let answer = Arc::new(answer);
        Self::serve(Arc::new(move |request, seen| {
            let answer = Arc::clone(&answer);
            Box::pin(async move {
                let (parts, body) = request.into_parts();
                note(&seen, parts.clone(), Bytes::new(), HeaderMap::new());
                answer(Request::from_parts(parts, body))
                    .await
                    .into_response()
            })
        }))
        .await
    }

    async fn serve(handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Seen::default();
        let task = tokio::spawn(accept(listener, handler, Arc::clone(&seen)));
        Self {
            addr,
            seen,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://` and where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// All that came, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<Received> {
        self.seen.lock().unwrap().clone()
    }

    /// The last that came.
    #[must_use]
    pub fn last(&self) -> Received {
        self.seen().pop().expect("something has come")
    }

    /// How many came.
    #[must_use]
    pub fn total(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// How many came under a key.
    #[must_use]
    pub fn executions(&self, key: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|received| received.key() == Some(key))
            .count()
    }
}

fn note(seen: &Seen, parts: Parts, body: Bytes, trailers: HeaderMap) -> Received {
    let mut seen = seen.lock().unwrap();
    let received = Received {
        number: seen.len() + 1,
        parts,
        body,
        trailers,
    };
    seen.push(received.clone());
    received
}

async fn accept(listener: TcpListener, handler: Handler, seen: Seen) {
    // Dropped, and with it all connections, when the upstream is.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(connection(stream, Arc::clone(&handler), Arc::clone(&seen)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, handler: Handler, seen: Seen) -> Result<(), Infallible> {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| handler(request, Arc::clone(&seen)));
    let builder = auto::Builder::new(TokioExecutor::new());
    // How it ends is for the other side to judge.
    let _ = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
    Ok(())
}
