//! Requests, over HTTP/1.1, HTTP/2 and TLS.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::{AnyBody, BoxError, full, within};

/// A request that is about to be sent, on a connection of its own.
#[must_use]
pub struct Call {
    addr: SocketAddr,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: AnyBody,
    protocol: Protocol,
}

#[derive(Clone)]
enum Protocol {
    Http1,
    Http2,
    Tls(Arc<ClientConfig>),
}

impl Call {
    /// A request without a body, over HTTP/1.1.
    pub fn new(addr: SocketAddr, method: Method, path: &str) -> Self {
        Self {
            addr,
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: full(""),
            protocol: Protocol::Http1,
        }
    }

    /// Over HTTP/2 in clear text.
    pub fn http2(mut self) -> Self {
        self.protocol = Protocol::Http2;
        self
    }

    /// Over TLS; which HTTP it is, ALPN decides.
    pub fn tls(mut self, config: ClientConfig) -> Self {
        self.protocol = Protocol::Tls(Arc::new(config));
        self
    }

    /// With an `Idempotency-Key`.
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// With one more header line.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = name.parse::<HeaderName>().unwrap();
        self.headers
            .append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    /// With a body of known length.
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        self.any_body(full(body))
    }

    /// With a JSON body.
    pub fn json(self, body: &str) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_owned())
    }

    /// With any body.
    pub fn any_body(mut self, body: AnyBody) -> Self {
        self.body = body;
        self
    }

    /// Sends it, and reads the whole answer.
    pub async fn send(self) -> Answer {
        let what = format!("{} {}", self.method, self.path);
        self.try_send()
            .await
            .unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// Sends it, and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub async fn try_send(self) -> Result<Answer, BoxError> {
        let what = format!("the answer to {} {}", self.method, self.path);
        within(&what, async {
            Box::pin(self.start()).await?.finish().await
        })
        .await
    }

    /// Sends it, and reads the answer's head. Dropping what is returned hangs up.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub async fn start(self) -> Result<Streaming, BoxError> {
        let mut connection = self.connection().await?;
        let response = connection.start(self).await?;
        Ok(Streaming {
            response,
            _connection: connection,
        })
    }

    /// Opens the connection that it would be sent on.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn connection(&self) -> impl Future<Output = Result<Connection, BoxError>> + Send + use<> {
        // Boxed, as a TLS handshake is large.
        Box::pin(connect(self.addr, self.protocol.clone()))
    }

    fn request(self, http2: bool) -> Request<AnyBody> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        let uri = if http2 {
            format!("http://{}{}", self.addr, self.path)
        } else {
            let host = HeaderValue::from_str(&self.addr.to_string()).unwrap();
            request.headers_mut().entry("host").or_insert(host);
            self.path
        };
        *request.uri_mut() = uri.parse().unwrap();
        request
    }
}

async fn connect(addr: SocketAddr, protocol: Protocol) -> Result<Connection, BoxError> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    match protocol {
        Protocol::Http1 => Connection::http1(stream).await,
        Protocol::Http2 => Connection::http2(stream).await,
        Protocol::Tls(config) => {
            let connector = TlsConnector::from(config);
            let stream = connector.connect(addr.ip().into(), stream).await?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                Connection::http2(stream).await
            } else {
                Connection::http1(stream).await
            }
        }
    }
}

/// A connection for several requests; hung up when dropped.
pub struct Connection {
    sender: Sender,
    driver: Arc<AbortOnDropHandle<()>>,
}

enum Sender {
    Http1(http1::SendRequest<AnyBody>),
    Http2(http2::SendRequest<AnyBody>),
}

impl Connection {
    async fn http1<S>(stream: S) -> Result<Self, BoxError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            let _ = driver.with_upgrades().await;
        });
        Ok(Self {
            sender: Sender::Http1(sender),
            driver: Arc::new(AbortOnDropHandle::new(driver)),
        })
    }

    async fn http2<S>(stream: S) -> Result<Self, BoxError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            let _ = driver.await;
        });
        Ok(Self {
            sender: Sender::Http2(sender),
            driver: Arc::new(AbortOnDropHandle::new(driver)),
        })
    }

    /// Sends a request on it, and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub async fn send(&mut self, call: Call) -> Result<Answer, BoxError> {
        let what = format!("the answer to {} {}", call.method, call.path);
        within(&what, async {
            let response = self.start(call).await?;
            Answer::read(response).await
        })
        .await
    }

    /// Another handle on the same HTTP/2 connection, for requests at the same time.
    #[must_use]
    pub fn another(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else {
            panic!("HTTP/1.1 carries one request at a time");
        };
        Self {
            sender: Sender::Http2(sender.clone()),
            driver: Arc::clone(&self.driver),
        }
    }

    async fn start(&mut self, call: Call) -> Result<Response<Incoming>, BoxError> {
        Ok(match &mut self.sender {
            Sender::Http1(sender) => sender.send_request(call.request(false)).await?,
            Sender::Http2(sender) => sender.send_request(call.request(true)).await?,
        })
    }
}

/// An answer whose body is still to come. Dropping it hangs up.
pub struct Streaming {
    /// Its head, and its body.
    pub response: Response<Incoming>,
    _connection: Connection,
}

impl Streaming {
    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, BoxError> {
        within("the next piece of the body", async {
            loop {
                match self.response.body_mut().frame().await.transpose()? {
                    None => return Ok(None),
                    Some(frame) => {
                        if let Ok(data) = frame.into_data() {
                            return Ok(Some(data));
                        }
                    }
                }
            }
        })
        .await
    }

    /// Reads it to its end.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn finish(self) -> Result<Answer, BoxError> {
        Answer::read(self.response).await
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its version of HTTP.
    pub version: Version,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: HeaderMap,
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Result<Self, BoxError> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Self {
            status: head.status.as_u16(),
            version: head.version,
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        })
    }

    /// A header's first value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All the values of a header.
    #[must_use]
    pub fn header_lines(&self, name: &str) -> Vec<&[u8]> {
        self.headers
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect()
    }

    /// The body, as text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// The body, as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Whether it says that it is a replay.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// The kind of problem that it is: what comes behind the `#` of the `type`.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self.header("content-type")? != "application/problem+json" {
            return None;
        }
        let document = self.json();
        let (_, kind) = document["type"].as_str()?.split_once('#')?;
        Some(kind.to_owned())
    }
}
