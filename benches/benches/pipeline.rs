//! What each layer of the pipeline adds to a service, and all of them together.
//!
//! `cargo bench -p onlyonce-benches --bench pipeline`
//!
//! The service reads the request's body of 200 bytes and answers 201 with one of the same length.
//! "bare" is the service alone; each other line is the service with that layer around, as a
//! request passes that is let through; "whole" has all of them, "whole, keyed" executes a new
//! idempotency key on the memory store besides. CPU time is measured, in the process.

mod cpu;

use std::cell::Cell;
use std::convert::Infallible;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cpu::CpuTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use onlyonce::{IdempotencyLayer, Policy, Profile};
use onlyonce_core::ManualClock;
use onlyonce_memory::MemoryStore;
use onlyonce_pipeline::access_log::{
    AccessLogLayer, LineFormat, Lines, MemorySink, RecordBodyLayer, RowWriter, WriterOptions,
};
use onlyonce_pipeline::auth::{
    AuthLayer, MemoryTokenStore, Module, RolePolicy, Roles, TokenKeys, Tokens,
};
use onlyonce_pipeline::blocklist::{Blocklist, BlocklistLayer, Draft, MemoryBlocklist};
use onlyonce_pipeline::catch_panic::CatchPanicLayer;
use onlyonce_pipeline::client_addr::{
    AddrHeader, AddrRule, ClientAddrLayer, PeerAddr, TrustedProxies,
};
use onlyonce_pipeline::context::{ContextLayer, Identity};
use onlyonce_pipeline::cors::{Cors, CorsLayer};
use onlyonce_pipeline::envelope::EnvelopeLayer;
use onlyonce_pipeline::filter::schema::{Schema, SchemaLayer};
use onlyonce_pipeline::read_only::{ReadOnly, ReadOnlyLayer};
use onlyonce_pipeline::{Answers, Pipeline};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, ServiceExt as _, service_fn};

criterion_group! {
    name = benches;
    config = cpu::criterion();
    targets = layers
}
criterion_main!(benches);

fn layers(criterion: &mut Criterion<CpuTime>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be started");
    let answers = Answers::new();
    let (auth, token) = runtime.block_on(auth(&answers));
    let blocklist = runtime.block_on(blocklist(&answers));
    let token = token.as_str();

    let mut group = criterion.benchmark_group("pipeline");
    let mut case = Case {
        group: &mut group,
        runtime: &runtime,
        token,
    };
    case.run("bare", false, &service_fn(answer));
    case.run(
        "catch panic",
        false,
        &CatchPanicLayer::new(answers.clone()).layer(service_fn(answer)),
    );
    case.run(
        "context",
        false,
        &ContextLayer::new().layer(service_fn(answer)),
    );
    case.run(
        "client address",
        false,
        &client_addr().layer(service_fn(answer)),
    );
    case.run("cors", false, &cors().layer(service_fn(answer)));
    case.run(
        "blocklist",
        false,
        &blocklist.clone().layer(service_fn(answer)),
    );
    case.run(
        "read-only",
        false,
        &read_only(&answers).layer(service_fn(answer)),
    );
    case.run(
        "auth, roles",
        false,
        &auth.clone().layer(service_fn(answer)),
    );
    case.run("schema", false, &schema(&answers).layer(service_fn(answer)));
    case.run(
        "envelope",
        false,
        &EnvelopeLayer::new(answers.clone()).layer(service_fn(answer)),
    );
    let (log, writer) = runtime.block_on(async { access_log() });
    case.run(
        "access log, lines and rows",
        false,
        &log.layer(service_fn(answer)),
    );

    let (once, clock) = idempotency();
    let (whole_log, whole_writer) = runtime.block_on(async { access_log() });
    let whole = Pipeline::new(answers.clone())
        .with_access_log(whole_log)
        .with_client_addr(client_addr())
        .with_cors(cors())
        .with_blocklist(blocklist)
        .with_read_only(read_only(&answers))
        .with_auth(auth)
        .with_idempotency(once)
        .with_filter(schema(&answers))
        .with_envelope(EnvelopeLayer::new(answers))
        .layer(service_fn(answer));
    case.run("whole", false, &whole);
    // Time passes, so that records expire as new ones come.
    let timed = service_fn(move |request| {
        clock.advance(Duration::from_millis(1));
        whole.clone().oneshot(request)
    });
    case.run("whole, keyed", true, &timed);
    group.finish();
    for writer in [writer, whole_writer] {
        let _ = runtime.block_on(writer.shutdown(Duration::from_secs(5)));
    }
}

struct Case<'a, 'g> {
    group: &'a mut BenchmarkGroup<'g, CpuTime>,
    runtime: &'a Runtime,
    token: &'a str,
}

impl Case<'_, '_> {
    fn run<S, R>(&mut self, name: &str, keyed: bool, service: &S)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<R>, Error = Infallible> + Clone,
        R: Body,
    {
        let token = self.token;
        self.group.bench_function(name, |bencher| {
            bencher.to_async(self.runtime).iter(|| async {
                let response = service.clone().oneshot(request(token, keyed)).await;
                let Ok(response) = response;
                assert_eq!(response.status(), 201, "it measures what it says");
                black_box(response.into_body().collect().await.is_ok());
            });
        });
    }
}

fn request(token: &str, keyed: bool) -> Request<Full<Bytes>> {
    thread_local!(static NUMBER: Cell<u64> = const { Cell::new(0) });
    let mut request = Request::post("/admin/charges/17")
        .header("host", "api.example")
        .header("content-type", "application/json")
        .header("origin", "https://shop.example")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")
        .header("x-forwarded-for", "203.0.113.7, 10.0.0.1")
        .header("authorization", format!("Bearer {token}"))
        .extension(PeerAddr(SocketAddr::from(([10, 0, 0, 2], 4000))));
    if keyed {
        let number = NUMBER.get() + 1;
        NUMBER.set(number);
        request = request.header(
            "idempotency-key",
            format!("8e03978e-40d5-43dd-bc93-{number:012x}"),
        );
    }
    let mut body = br#"{"amount":500,"note":""#.to_vec();
    body.resize(198, b'x');
    body.extend_from_slice(b"\"}");
    request
        .body(Full::from(body))
        .expect("the head is well-formed")
}

async fn answer<B: Body>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let response = Response::builder()
        .status(201)
        .header("content-type", "application/json")
        .body(Full::new(body));
    Ok(response.expect("the head is well-formed"))
}

fn client_addr() -> ClientAddrLayer {
    let trusted = TrustedProxies::parse(["10.0.0.0/8"]).expect("a network");
    ClientAddrLayer::new(AddrRule::new(trusted, AddrHeader::XForwardedFor))
}

fn cors() -> CorsLayer {
    let settings = Cors::new().with_origins(["https://shop.example"]);
    CorsLayer::new(&settings.expect("an origin")).expect("settings that go together")
}

/// A thousand networks, none of them the client's.
async fn blocklist(answers: &Answers) -> BlocklistLayer {
    let blocklist = Blocklist::load(MemoryBlocklist::new()).await;
    let blocklist = blocklist.expect("memory can be read");
    for third in 0..1000_u32 {
        let network = format!("198.{}.{}.0/24", 18 + third / 256, third % 256);
        blocklist
            .add(&Draft::new(network))
            .await
            .expect("a network");
    }
    let there = IpAddr::from([198, 18, 3, 1]);
    assert!(blocklist.find(there).is_some(), "the list is in force");
    BlocklistLayer::new(blocklist, answers.clone())
}

fn read_only(answers: &Answers) -> ReadOnlyLayer {
    ReadOnlyLayer::new(ReadOnly::off(), answers.clone())
}

/// A login whose role has a hundred policies, and its token.
async fn auth(answers: &Answers) -> (AuthLayer, String) {
    let keys = TokenKeys::hs256(b"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge").expect("a strong key");
    let tokens = Tokens::builder("admin", keys)
        .with_store(MemoryTokenStore::new())
        .build()
        .expect("settings that go together");
    let mut policy = RolePolicy::new();
    for number in 0..100 {
        let path = format!("/admin/part{number}/*");
        policy = policy.allow("clerk", &path, "GET").expect("a policy");
    }
    policy = policy
        .allow("clerk", "/admin/charges/*", "(GET)|(POST)")
        .expect("a policy");
    let identity = Identity::new("7", "admin").with_role("clerk");
    let issued = tokens.login(&identity).await.expect("a login");
    let module = Module::admin(tokens, Roles::new(policy));
    let layer = AuthLayer::new([module]).expect("one module");
    (layer.with_answers(answers.clone()), issued.token)
}

fn schema(answers: &Answers) -> SchemaLayer {
    let schema = Schema::parse(
        br#"{"type":"object","required":["amount"],
             "properties":{"amount":{"type":"integer","minimum":1},"note":{"type":"string"}}}"#,
    );
    SchemaLayer::new(schema.expect("a schema"), answers.clone())
}

fn access_log() -> ((AccessLogLayer, RecordBodyLayer), RowWriter) {
    let writer = RowWriter::start(Arc::new(MemorySink::new(1000)), WriterOptions::default());
    let lines = Lines::to(std::io::sink(), LineFormat::Text).expect("a thread can be started");
    let layer = AccessLogLayer::new()
        .with_lines(lines)
        .with_rows(writer.queue());
    ((layer, RecordBodyLayer::new()), writer)
}

/// Idempotency on a store with a clock of its own, and that clock.
fn idempotency() -> (IdempotencyLayer, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let store = MemoryStore::builder().clock(Arc::clone(&clock)).build();
    let policy = Policy::new(Profile::Standard).with_lifetime(Duration::from_secs(1));
    let layer = IdempotencyLayer::new(store).with_policy(policy);
    (layer.expect("the policy can work"), clock)
}
