//! Every refusal, as a problem document (RFC 9457) with all that belongs to it.

use http::Method;
use onlyonce_e2e::{Answer, Gateway, Reply, Settings, Upstream};

/// Checks all that a refusal of this kind says, whoever sends it.
fn assert_problem(answer: &Answer, kind: &str, status: u16, retryable: bool) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{kind}"
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{kind}");
    assert_eq!(
        answer.header("link"),
        Some("<https://docs.example/keys>; rel=\"describedby\""),
        "{kind}"
    );
    assert_eq!(
        answer.header("retry-after"),
        retryable.then_some("1"),
        "{kind}"
    );
    assert!(!answer.is_replay(), "{kind}");
    let document = answer.json();
    assert_eq!(
        document["type"],
        format!("https://docs.example/keys#{kind}")
    );
    assert_eq!(document["status"], status, "{kind}");
    assert_eq!(document["retryable"], retryable, "{kind}");
    for text in ["title", "detail", "instance"] {
        let text = document[text].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{kind}: {document}");
        assert!(!text.contains(SECRET_KEY), "{kind}: {document}");
    }
}

/// Nowhere to be seen but at the upstream.
const SECRET_KEY: &str = "hush-0b8b5c1e-5a0e-4d8e-9f5c-2f2f6d6f8a10";

fn settings(upstream: &Upstream) -> Settings {
    Settings::before(upstream)
        .in_memory()
        .idempotency("docs_url = \"https://docs.example/keys\"")
}

async fn gateway(upstream: &Upstream, more: &str) -> Gateway {
    Gateway::start(settings(upstream).idempotency(more)).await
}

#[tokio::test]
async fn key_missing() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream, "required = true").await;
    let answer = gateway.post("/").body("x").send().await;
    assert_problem(&answer, "key-missing", 400, false);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("idempotency-key"), "{detail}");
    assert_eq!(upstream.total(), 0);
    // Methods that are safe need none.
    assert_eq!(gateway.get("/").send().await.status, 201);
}

#[tokio::test]
async fn key_invalid() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream, "validate = { min-length = 3 }").await;
    let long = "x".repeat(256);
    let bad: [&[u8]; 9] = [
        b"",
        b"ab",
        b"\"\"",
        b"\"abcd",
        // Two lines that something on the way has made one.
        b"\"abcd\", \"efgh\"",
        b"abc\tdef",
        b"\xc3\xa9\xc3\xa9\xc3\xa9",
        long.as_bytes(),
        b"abc, def\x80",
    ];
    for key in bad {
        let answer = gateway
            .post("/")
            .header("idempotency-key", key)
            .send()
            .await;
        assert_problem(&answer, "key-invalid", 400, false);
    }
    let twice = gateway.post("/").key("one-key").key("other-key");
    assert_problem(&twice.send().await, "key-invalid", 400, false);
    let two = gateway
        .post("/")
        .key("one-key")
        .header("x-idempotency-key", "other-key");
    assert_problem(&two.send().await, "key-invalid", 400, false);
    assert_eq!(upstream.total(), 0);
    // The same one twice is one.
    let same = gateway
        .post("/")
        .key("one-key")
        .header("x-idempotency-key", "\"one-key\"");
    assert_eq!(same.send().await.status, 201);
    let longest = gateway.post("/").key(&long[1..]).send().await;
    assert_eq!(longest.status, 201);
}

#[tokio::test]
async fn key_unscoped() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream, "anonymous = \"refuse\"").await;
    let answer = gateway.post("/").key(SECRET_KEY).send().await;
    assert_problem(&answer, "key-unscoped", 400, false);
    assert_eq!(upstream.total(), 0);
    let known = gateway
        .post("/")
        .key(SECRET_KEY)
        .header("authorization", "Bearer x");
    assert_eq!(known.send().await.status, 201);
}

#[tokio::test]
async fn key_reused() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream, "").await;
    let first = gateway
        .post("/a?x=1")
        .key(SECRET_KEY)
        .json("{\"a\":1}")
        .send()
        .await;
    assert_eq!(first.status, 201);
    let others = [
        gateway.post("/a?x=1").json("{\"a\":2}"),
        gateway.post("/a?x=2").json("{\"a\":1}"),
        gateway.post("/b?x=1").json("{\"a\":1}"),
        gateway.call(Method::PUT, "/a?x=1").json("{\"a\":1}"),
        gateway
            .post("/a?x=1")
            .header("content-type", "text/plain")
            .body("{\"a\":1}"),
    ];
    for other in others {
        assert_problem(
            &other.key(SECRET_KEY).send().await,
            "key-reused",
            422,
            false,
        );
    }
    assert_eq!(upstream.total(), 1);
    let same = gateway
        .post("/a?x=1")
        .key(SECRET_KEY)
        .json("{\"a\":1}")
        .send()
        .await;
    assert!(same.is_replay());
}

#[tokio::test]
async fn key_reused_while_the_first_is_at_work_or_unknown() {
    let (upstream, gate) = Upstream::gated().await;
    let settings = settings(&upstream).section("proxy", "response_timeout = \"300ms\"");
    let gateway = Gateway::start(settings).await;
    let first = tokio::spawn(gateway.post("/").key(SECRET_KEY).body("a").send());
    gate.arrived(1).await;
    let other = gateway.post("/").key(SECRET_KEY).body("b").send().await;
    assert_problem(&other, "key-reused", 422, false);
    assert_eq!(first.await.unwrap().status, 504);
    let other = gateway.post("/").key(SECRET_KEY).body("b").send().await;
    assert_problem(&other, "key-reused", 422, false);
    let same = gateway.post("/").key(SECRET_KEY).body("a").send().await;
    assert_problem(&same, "outcome-unknown", 409, false);
}

#[tokio::test]
async fn in_progress() {
    let (upstream, gate) = Upstream::gated().await;
    let gateway = gateway(&upstream, "").await;
    let first = tokio::spawn(gateway.post("/").key(SECRET_KEY).send());
    gate.arrived(1).await;
    let second = gateway.post("/").key(SECRET_KEY).send().await;
    assert_problem(&second, "in-progress", 409, true);
    gate.open();
    assert_eq!(first.await.unwrap().status, 201);
}

#[tokio::test]
async fn outcome_unknown() {
    let upstream = Upstream::answering(|_| Reply::hang_up()).await;
    let gateway = gateway(&upstream, "").await;
    assert_eq!(gateway.post("/").key(SECRET_KEY).send().await.status, 502);
    let second = gateway.post("/").key(SECRET_KEY).send().await;
    assert_problem(&second, "outcome-unknown", 409, false);
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn hazard_20_response_not_kept() {
    let upstream = Upstream::answering(|_| Reply::new(202).body(vec![b'x'; 5000])).await;
    let gateway = gateway(&upstream, "max_response_body = \"4KiB\"").await;
    let first = gateway.post("/").key(SECRET_KEY).send().await;
    assert_eq!((first.status, first.body.len()), (202, 5000));
    let second = gateway.post("/").key(SECRET_KEY).send().await;
    assert_problem(&second, "response-not-kept", 409, false);
    assert_eq!(second.json()["original_status"], 202);
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn hazard_49_too_many_in_progress() {
    let (upstream, gate) = Upstream::gated().await;
    let gateway = gateway(&upstream, "max_in_progress = 2").await;
    let by = |who: &str, key: &str| {
        gateway
            .post("/")
            .header("authorization", who)
            .key(key)
            .send()
    };
    let one = tokio::spawn(by("Bearer one", "a"));
    let two = tokio::spawn(by("Bearer one", "b"));
    gate.arrived(2).await;
    let third = by("Bearer one", SECRET_KEY).await;
    assert_problem(&third, "too-many-in-progress", 429, true);
    // Of one caller alone.
    let other = tokio::spawn(by("Bearer two", "c"));
    gate.arrived(3).await;
    gate.open();
    for call in [one, two, other] {
        assert_eq!(call.await.unwrap().status, 201);
    }
    assert_eq!(by("Bearer one", SECRET_KEY).await.status, 201);
}

#[tokio::test]
async fn body_too_large() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(
        &upstream,
        "max_request_body = \"100KiB\"\nbuffer = \"4KiB\"",
    )
    .await;
    // By its length, before anything happens; and on its way, where it has none.
    let known = gateway
        .post("/")
        .key(SECRET_KEY)
        .body(vec![0; 102_401])
        .send()
        .await;
    assert_problem(&known, "body-too-large", 413, false);
    let unknown = gateway
        .post("/")
        .key(SECRET_KEY)
        .any_body(onlyonce_e2e::zeroes(150_000));
    assert_problem(&unknown.send().await, "body-too-large", 413, false);
    assert_eq!(upstream.total(), 0);
    // As long as allowed, and the key is still free.
    let most = gateway
        .post("/")
        .key(SECRET_KEY)
        .body(vec![0; 102_400])
        .send()
        .await;
    assert_eq!(most.status, 201);
    // Without a key there is no such limit, unless `[limits]` has one.
    assert_eq!(
        gateway.post("/").body(vec![0; 200_000]).send().await.status,
        201
    );
}

#[tokio::test]
async fn store_unavailable() {
    let upstream = Upstream::counting().await;
    let settings =
        Settings::before(&upstream).idempotency("docs_url = \"https://docs.example/keys\"");
    let gateway = Gateway::start(settings).await;
    gateway.fail_writes();
    let answer = gateway.post("/").key(SECRET_KEY).send().await;
    assert_problem(&answer, "store-unavailable", 503, true);
    assert_eq!(upstream.total(), 0);
}

#[tokio::test]
async fn store_full() {
    let upstream = Upstream::answering(|_| Reply::new(201).body(vec![0; 1_000_000])).await;
    let settings = settings(&upstream).section("store", "max_bytes = \"4MiB\"");
    let gateway = Gateway::start(settings).await;
    let mut turn = 0;
    let full = loop {
        turn += 1;
        assert!(turn < 20, "never full");
        let answer = gateway
            .post("/")
            .key(&format!("{SECRET_KEY}{turn}"))
            .send()
            .await;
        if answer.status != 201 {
            break answer;
        }
    };
    assert_problem(&full, "store-full", 503, true);
}

#[tokio::test]
async fn body_unreadable() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream, "").await;
    let mut wire = onlyonce_e2e::Wire::connect(gateway.addr()).await;
    wire.write(
        "POST / HTTP/1.1\r\nhost: a\r\nidempotency-key: a\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\nnonsense\r\n",
    )
    .await;
    let answer = wire.read_to_end().await;
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert_eq!(upstream.total(), 0);
    assert_eq!(gateway.post("/").key("a").send().await.status, 201);
}

#[tokio::test]
async fn hazard_34_keys_are_nowhere_to_be_seen() {
    let upstream = Upstream::answering(|request| {
        if request.path() == "/gone" {
            Reply::hang_up()
        } else {
            Reply::new(201)
        }
    })
    .await;
    let settings = Settings::before(&upstream).section("log", "level = \"trace\"");
    let mut gateway = Gateway::start(settings).await;
    let credential = "Bearer credential-4711";
    let post = |path: &str, body: &'static str| {
        let call = gateway
            .post(path)
            .key(SECRET_KEY)
            .header("authorization", credential);
        call.body(body).send()
    };
    assert_eq!(post("/", "1").await.status, 201);
    assert!(post("/", "1").await.is_replay());
    let reused = post("/", "2").await;
    assert!(!reused.text().contains(SECRET_KEY), "{}", reused.text());
    let other = format!("{SECRET_KEY}-2");
    gateway.post("/gone").key(&other).send().await;
    let listed = gateway.admin(Method::GET, "/api/keys").send().await;
    let metrics = gateway.admin(Method::GET, "/metrics").send().await;
    for text in [listed.text(), metrics.text()] {
        assert!(!text.contains("hush") && !text.contains("4711"), "{text}");
    }
    gateway.signal(rustix::process::Signal::TERM);
    gateway.end().await;
    // Neither in the log, however much it says, nor in the store.
    let log = gateway.log();
    assert!(
        log.len() > 1000 && !log.contains("hush") && !log.contains("4711"),
        "{log}"
    );
    let mut files = 0;
    for file in std::fs::read_dir(gateway.home().records()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
        assert!(!holds(b"hush") && !holds(b"4711"));
        files += 1;
    }
    assert!(files > 0);
}

#[tokio::test]
async fn verdicts_in_headers_where_they_are_asked_for() {
    let (upstream, gate) = Upstream::gated().await;
    let gateway = gateway(&upstream, "verdict_headers = true").await;
    let call = || gateway.post("/").key("a").body("x").send();
    let outcome = |answer: &Answer| answer.header("idempotency-outcome").map(str::to_owned);
    let first = tokio::spawn(call());
    gate.arrived(1).await;
    assert_eq!(outcome(&call().await).as_deref(), Some("in-progress"));
    gate.open();
    let first = first.await.unwrap();
    assert_eq!(outcome(&first).as_deref(), Some("executed"));
    let replay = call().await;
    assert_eq!(outcome(&replay).as_deref(), Some("replayed"));
    // To the second the same moment, whichever of the two says it.
    let expires = |answer: &Answer| answer.header("idempotency-expires").unwrap().to_owned();
    assert!(expires(&first).ends_with(" GMT"), "{}", expires(&first));
    assert_eq!(expires(&first)[..16], expires(&replay)[..16]);
    let other = gateway.post("/").key("a").body("y").send().await;
    assert_eq!(outcome(&other).as_deref(), Some("mismatch"));
    assert_eq!(outcome(&gateway.post("/").send().await), None);
}
