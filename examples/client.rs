//! What the examples' tests share: an HTTP/1.1 client over a socket of its own.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub(crate) fn is_replayed(&self) -> bool {
        self.headers
            .get("idempotent-replayed")
            .is_some_and(|mark| mark == "true")
    }
}

/// Sends one request over a connection of its own.
pub(crate) async fn send(server: SocketAddr, mut request: Request<Full<Bytes>>) -> Answer {
    let host = server.to_string().parse().expect("an address is a Host");
    request.headers_mut().insert("host", host);
    let stream = TcpStream::connect(server)
        .await
        .expect("the server listens");
    let connection = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connection.expect("nothing is sent yet");
    tokio::spawn(connection);
    let response = sender
        .send_request(request)
        .await
        .expect("the server answers");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("the body comes to its end");
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.to_bytes(),
    }
}

/// `POST path` with a key and a JSON body.
pub(crate) fn post(path: &str, key: &str, body: &str) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .expect("the request is well-formed")
}
