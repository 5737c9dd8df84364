//! What the layer adds to a service: in the process, and over a connection.
//!
//! `cargo bench -p onlyonce-benches --bench layer`
//!
//! The service reads the request's body and answers 201 with a body of the same length. "bare" is
//! the service alone; "bypassed" passes through the layer without a key; "executed" is the first
//! request with its key, on the memory store; "replayed" is a retry. CPU time is measured; over
//! a connection that is the client's and the server's together.

mod cpu;

use std::cell::Cell;
use std::convert::Infallible;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cpu::CpuTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use onlyonce::{IdempotencyLayer, Outcome, Policy, Profile, Verdict};
use onlyonce_core::ManualClock;
use onlyonce_memory::MemoryStore;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

criterion_group! {
    name = benches;
    config = cpu::criterion();
    targets = in_process, over_a_connection
}
criterion_main!(benches);

/// 200 bytes are a typical charge; 64 KiB is the most that is buffered before the claim.
const SIZES: [(&str, usize); 2] = [("200 B", 200), ("64 KiB", 64 * 1024)];

fn in_process(criterion: &mut Criterion<CpuTime>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be started");
    for (name, size) in SIZES {
        let mut group = criterion.benchmark_group(format!("in process, {name}"));
        let body = Bytes::from(vec![b'x'; size]);
        bare(&mut group, &runtime, &body);
        for (name, outcome) in OUTCOMES {
            layered(&mut group, &runtime, &body, name, outcome);
        }
        group.finish();
    }
}

const MARK: &str = "idempotent-replayed";

const OUTCOMES: [(&str, Outcome); 3] = [
    ("bypassed", Outcome::Bypassed),
    ("executed", Outcome::Executed),
    ("replayed", Outcome::Replayed),
];

fn bare(group: &mut BenchmarkGroup<'_, CpuTime>, runtime: &Runtime, body: &Bytes) {
    group.bench_function("bare", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let request = request(Outcome::Bypassed, body.clone());
            let response = service_fn(answer).oneshot(request).await;
            black_box(collect(response).await);
        });
    });
}

fn layered(
    group: &mut BenchmarkGroup<'_, CpuTime>,
    runtime: &Runtime,
    body: &Bytes,
    name: &str,
    outcome: Outcome,
) {
    let (layer, clock) = layer();
    let service = layer.layer(service_fn(answer));
    if outcome == Outcome::Replayed {
        let first = service.clone().oneshot(request(outcome, body.clone()));
        let _ = runtime.block_on(first);
    }
    group.bench_function(name, |bencher| {
        bencher.to_async(runtime).iter(|| async {
            pass_time(outcome, &clock);
            let request = request(outcome, body.clone());
            let response = service.clone().oneshot(request).await;
            let found = response.as_ref().ok().and_then(verdict);
            assert_eq!(found, Some(outcome), "it measures what it says");
            black_box(collect(response).await);
        });
    });
}

/// The same over one connection that is kept alive, with all that HTTP costs besides.
fn over_a_connection(criterion: &mut Criterion<CpuTime>) {
    let server = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let server = server.expect("a runtime can be started");
    let client = Builder::new_current_thread().enable_all().build();
    let client = client.expect("a runtime can be started");
    for (name, size) in SIZES {
        let mut group = criterion.benchmark_group(format!("over a connection, {name}"));
        let body = Bytes::from(vec![b'x'; size]);
        let bare = serve(&server, service_fn(answer));
        let clock = ManualClock::new();
        connection(
            &mut group,
            &client,
            bare,
            &clock,
            &body,
            "bare",
            Outcome::Bypassed,
        );
        for (name, outcome) in OUTCOMES {
            let (layer, clock) = layer();
            let layered = serve(&server, layer.layer(service_fn(answer)));
            connection(&mut group, &client, layered, &clock, &body, name, outcome);
        }
        group.finish();
    }
}

fn connection(
    group: &mut BenchmarkGroup<'_, CpuTime>,
    client: &Runtime,
    server: SocketAddr,
    clock: &ManualClock,
    body: &Bytes,
    name: &str,
    outcome: Outcome,
) {
    let sender = client.block_on(async {
        let stream = TcpStream::connect(server)
            .await
            .expect("the server listens");
        stream.set_nodelay(true).expect("it is a TCP socket");
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.expect("nothing is sent yet");
        tokio::spawn(connection);
        sender
    });
    // The connection takes one request at a time, as the benchmark makes them.
    let sender = Cell::new(Some(sender));
    let first = Cell::new(true);
    group.bench_function(name, |bencher| {
        bencher.to_async(client).iter(|| async {
            let mut sending = sender.take().expect("requests follow each other");
            sending.ready().await.expect("the connection is open");
            pass_time(outcome, clock);
            let request = request(outcome, body.clone());
            let response = sending.send_request(request).await;
            sender.set(Some(sending));
            if outcome == Outcome::Replayed && !first.replace(false) {
                let headers = response.as_ref().map(Response::headers);
                let mark = headers.is_ok_and(|headers| headers.contains_key(MARK));
                assert!(mark, "it measures what it says");
            }
            black_box(collect(response).await);
        });
    });
}

fn serve<S, B>(runtime: &Runtime, service: S) -> SocketAddr
where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: std::error::Error + Send + Sync + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
    let listener = listener.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let service = TowerToHyperService::new(service.clone());
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    address
}

/// A layer on a store with a clock of its own, and that clock.
fn layer() -> (IdempotencyLayer, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let store = MemoryStore::builder().clock(Arc::clone(&clock)).build();
    let policy = Policy::new(Profile::Standard).with_lifetime(Duration::from_secs(1));
    let layer = IdempotencyLayer::new(store).with_policy(policy);
    (layer.expect("the policy can work"), clock)
}

/// Lets a thousandth of a record's life pass for each new key: so the store has a thousand
/// records, however fast the machine is, and tidies up as it goes.
fn pass_time(outcome: Outcome, clock: &ManualClock) {
    if outcome == Outcome::Executed {
        clock.advance(Duration::from_millis(1));
    }
}

/// A request that comes to `outcome`: without a key, with a new one, with always the same.
fn request(outcome: Outcome, body: Bytes) -> Request<Full<Bytes>> {
    thread_local!(static NUMBER: Cell<u64> = const { Cell::new(0) });
    let request = Request::post("/v1/charges")
        .header("host", "api.example")
        .header("content-type", "application/json")
        .header("authorization", "Bearer 2kzQ9mYb7Xw4");
    let request = match outcome {
        Outcome::Executed => {
            let number = NUMBER.get() + 1;
            NUMBER.set(number);
            let key = format!("8e03978e-40d5-43dd-bc93-{number:012x}");
            request.header("idempotency-key", key)
        }
        Outcome::Replayed => {
            request.header("idempotency-key", "8e03978e-40d5-43dd-bc93-6894a57f9324")
        }
        _ => request,
    };
    request
        .body(Full::new(body))
        .expect("the head is well-formed")
}

async fn answer<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: hyper::body::Body,
{
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let response = Response::builder()
        .status(201)
        .header("content-type", "application/json")
        .header("location", "/v1/charges/1")
        .body(Full::new(body));
    Ok(response.expect("the head is well-formed"))
}

fn verdict<B>(response: &Response<B>) -> Option<Outcome> {
    response.extensions().get::<Verdict>().map(Verdict::outcome)
}

/// The response's length, read to its end.
async fn collect<B: hyper::body::Body, E>(response: Result<Response<B>, E>) -> usize {
    let Ok(response) = response else {
        panic!("every request gets a response");
    };
    assert_eq!(response.status(), 201);
    match response.into_body().collect().await {
        Ok(body) => body.to_bytes().len(),
        Err(_) => panic!("every response comes to its end"),
    }
}
