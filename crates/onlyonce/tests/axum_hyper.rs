//! The layer under servers that others wrote, over real sockets: axum, and hyper alone.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use onlyonce::http::RequestBody;
use onlyonce::{Engine, IdempotencyLayer, Policy, Profile};
use onlyonce_core::SharedStore;
use support::{TestBody, TestStore, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tower::Layer as _;

/// What a handler and its test share.
#[derive(Clone, Default)]
struct Shared {
    executions: Arc<AtomicUsize>,
    paths: Arc<Mutex<Vec<String>>>,
    entered: Arc<Notify>,
    gate: Arc<Notify>,
}

impl Shared {
    fn executions(&self) -> usize {
        self.executions.load(Ordering::SeqCst)
    }

    fn execute(&self) -> usize {
        self.executions.fetch_add(1, Ordering::SeqCst) + 1
    }
}

fn layer(store: &TestStore) -> IdempotencyLayer {
    let policy = Policy::new(Profile::Standard)
        .with_buffer(1024)
        .with_max_request_body(100_000);
    IdempotencyLayer::from_engine(Engine::new(SharedStore::from(store.clone())))
        .with_policy(policy)
        .unwrap()
}

/// An axum server: `/charges` reads its body, `/gated` waits for the gate, `/deaf` reads nothing.
async fn serve_axum(store: &TestStore, shared: &Shared) -> SocketAddr {
    let charge = async |State(shared): State<Shared>, body: Bytes| {
        format!("{}:{}", shared.execute(), body.len())
    };
    let gated = async |State(shared): State<Shared>| {
        let number = shared.execute();
        shared.entered.notify_one();
        shared.gate.notified().await;
        number.to_string()
    };
    let deaf = async |State(shared): State<Shared>| shared.execute().to_string();
    let seen = Arc::clone(&shared.paths);
    let router = Router::new()
        .route("/charges", post(charge))
        .route("/gated", post(gated))
        .route("/deaf", post(deaf))
        .layer(layer(store))
        .layer(axum::middleware::map_request(
            move |request: axum::extract::Request| {
                seen.lock().unwrap().push(request.uri().path().to_owned());
                async move { request }
            },
        ))
        .with_state(shared.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// hyper alone, HTTP/1.1 and HTTP/2: answers with trailers.
async fn serve_hyper(store: &TestStore, shared: &Shared) -> SocketAddr {
    let layer = layer(store);
    let shared = shared.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let shared = shared.clone();
            let service = layer.layer(tower::service_fn(
                move |request: Request<RequestBody<Incoming>>| answer(shared.clone(), request),
            ));
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let service = TowerToHyperService::new(service);
                let _ = server.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    address
}

async fn answer(
    shared: Shared,
    request: Request<RequestBody<Incoming>>,
) -> Result<Response<TestBody>, Infallible> {
    let number = shared.execute();
    let length = request
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes()
        .len();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from(length));
    let frames = [
        Ok::<_, std::io::Error>(Frame::data(Bytes::from(number.to_string()))),
        Ok(Frame::trailers(trailers)),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    let mut response = Response::new(body);
    let names = HeaderValue::from_static("x-sum");
    response.headers_mut().insert("trailer", names);
    Ok(response)
}

/// One exchange on a connection of its own, or on an h2 one.
struct Seen {
    status: u16,
    headers: HeaderMap,
    body: String,
    trailers: Option<HeaderMap>,
}

async fn send(address: SocketAddr, http2: bool, path: &str, key: &str, body: String) -> Seen {
    let socket = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let request = Request::post(format!("http://{address}{path}"))
        .header("host", address.to_string())
        .header("te", "trailers")
        .header("idempotency-key", key)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = if http2 {
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), socket)
                .await
                .unwrap();
        tokio::spawn(connection);
        client.send_request(request).await.unwrap()
    } else {
        let (mut client, connection) = hyper::client::conn::http1::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        client.send_request(request).await.unwrap()
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    Seen {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(body.to_bytes().to_vec()).unwrap(),
        trailers,
    }
}

#[tokio::test]
async fn axum_executes_once_and_replays_over_both_versions() {
    let (store, shared) = (TestStore::new(), Shared::default());
    let address = serve_axum(&store, &shared).await;
    for (n, length) in [5, 50_000].into_iter().enumerate() {
        for (round, http2) in [false, true, false].into_iter().enumerate() {
            let seen = send(
                address,
                http2,
                "/charges",
                &n.to_string(),
                "x".repeat(length),
            )
            .await;
            assert_eq!(
                (seen.status, seen.body),
                (200, format!("{}:{length}", n + 1))
            );
            let replayed = seen.headers.contains_key("idempotent-replayed");
            assert_eq!(replayed, round > 0);
            assert!(seen.headers.contains_key("date"), "made anew");
        }
        let other = send(
            address,
            false,
            "/charges",
            &n.to_string(),
            "y".repeat(length),
        )
        .await;
        assert_eq!(other.status, 422);
    }
    assert_eq!(shared.executions(), 2);
}

#[tokio::test]
async fn hyper_replays_trailers_over_both_versions() {
    for http2 in [false, true] {
        let (store, shared) = (TestStore::new(), Shared::default());
        let address = serve_hyper(&store, &shared).await;
        for length in [3, 5_000] {
            for _ in 0..2 {
                let key = length.to_string();
                let seen = send(address, http2, "/", &key, "x".repeat(length)).await;
                assert_eq!(seen.status, 200);
                let trailers = seen.trailers.expect("trailers");
                assert_eq!(trailers["x-sum"], length.to_string());
                assert!(
                    !seen.headers.contains_key("content-length"),
                    "it has trailers"
                );
            }
        }
        assert_eq!(shared.executions(), 2);
    }
}

#[tokio::test]
async fn hazard_15_a_client_that_hangs_up_gets_its_answer_by_a_retry() {
    for http2 in [false, true] {
        let (store, shared) = (TestStore::new(), Shared::default());
        let address = serve_axum(&store, &shared).await;
        let call = tokio::spawn(send(address, http2, "/gated", "k", String::new()));
        shared.entered.notified().await;
        // Its connection, too, goes when the client's handle does.
        call.abort();
        let _ = call.await;
        shared.gate.notify_one();
        until_real(|| !store.only_entry().in_progress()).await;
        let retry = send(address, http2, "/gated", "k", String::new()).await;
        assert_eq!((retry.status, retry.body.as_str()), (200, "1"));
        assert!(retry.headers.contains_key("idempotent-replayed"));
        assert_eq!(shared.executions(), 1);
    }
}

/// What a client that writes bytes reads until the server closes.
async fn raw(address: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    for piece in pieces {
        // The server may have closed by now: that is one of the right answers.
        if socket.write_all(piece).await.is_err() {
            break;
        }
    }
    let mut read = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut read)).await;
    // A server that closes a socket with bytes unread may reset it, behind its answer.
    let _ = end.expect("the server closes");
    String::from_utf8_lossy(&read).into_owned()
}

fn head(path: &str, key: &str, length: usize) -> Vec<u8> {
    let last = if length == 0 {
        "connection: close\r\n"
    } else {
        ""
    };
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nidempotency-key: {key}\r\n{last}\
         content-length: {length}\r\n\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn hazard_51_an_answer_before_the_body_was_read_leaves_the_next_request_intact() {
    let (store, shared) = (TestStore::new(), Shared::default());
    let address = serve_axum(&store, &shared).await;
    // Whoever took the body for a request would see it.
    let smuggled = "POST /smuggled HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".repeat(2_000);
    let body = smuggled.as_bytes();
    let next = head("/charges", "next", 0);
    send(
        address,
        false,
        "/deaf",
        "done",
        smuggled[..90_000].to_owned(),
    )
    .await;
    let (refused, too_long, replayed, first) = (
        head("/charges", "caf\u{e9}", body.len()),
        head("/charges", "k", body.len()),
        head("/deaf", "done", 90_000),
        head("/deaf", "fresh", 90_000),
    );
    let cases: [(&[u8], &[u8], &str); 4] = [
        (&refused, body, "HTTP/1.1 400"),
        (&too_long, body, "HTTP/1.1 413"),
        (&replayed, &body[..90_000], "HTTP/1.1 200"),
        (&first, &body[..90_000], "HTTP/1.1 200"),
    ];
    for (head, body, status) in cases {
        let read = raw(address, &[head, body, &next]).await;
        assert!(read.starts_with(status), "{status}: {read}");
        let paths = shared.paths.lock().unwrap().clone();
        assert!(!paths.iter().any(|path| path == "/smuggled"), "{paths:?}");
    }
    // A short body, left unread: the next request on the connection is read as what it is.
    let refused = head("/charges", "caf\u{e9}", 4);
    let read = raw(address, &[&refused, b"body", &next]).await;
    assert!(read.starts_with("HTTP/1.1 400"), "{read}");
    assert!(read.contains("HTTP/1.1 200"), "{read}");
}

#[tokio::test]
async fn hazard_27_nested_routers_tell_their_routes_apart() {
    let store = TestStore::new();
    let engine = Engine::new(SharedStore::from(store.clone()));
    let version = |name: &'static str| {
        Router::new()
            .route("/charges", post(async move || name))
            .layer(
                IdempotencyLayer::from_engine(engine.clone()).with_target(|request| {
                    let OriginalUri(uri) = request.extensions.get()?;
                    Some(uri.clone())
                }),
            )
    };
    let router: Router = Router::new()
        .nest("/v1", version("one"))
        .nest("/v2", version("two"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    assert_eq!(
        send(address, false, "/v1/charges", "k", String::new())
            .await
            .body,
        "one"
    );
    let other = send(address, false, "/v2/charges", "k", String::new()).await;
    assert_eq!(other.status, 422, "{}", other.body);
}

/// Waits on the real clock.
async fn until_real(done: impl FnMut() -> bool) {
    until("it came to pass", done).await;
}
