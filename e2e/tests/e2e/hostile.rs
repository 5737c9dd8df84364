//! Clients that want something else than an answer.

use http::Method;
use onlyonce_e2e::{Gateway, RawUpstream, Reply, Settings, Upstream, Wire};

async fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(Settings::before(upstream).in_memory()).await
}

#[tokio::test]
async fn hazard_51_what_can_be_read_in_two_ways_is_refused() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream).await;
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "content-length: 5\r\ncontent-length: 50\r\n",
        "content-length: +5\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding : chunked\r\n",
        "host: b\r\n",
    ] {
        let mut wire = Wire::connect(gateway.addr()).await;
        let head =
            format!("POST / HTTP/1.1\r\nhost: a\r\nidempotency-key: a\r\n{fields}\r\n{smuggled}");
        wire.write(head).await;
        let answer = wire.read_to_end().await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{fields}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{fields}: {answer}");
    }
    assert_eq!(upstream.total(), 0);
}

#[tokio::test]
async fn hazard_51_a_refusal_leaves_no_body_to_be_read_as_a_request() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .idempotency("required = true");
    let gateway = Gateway::start(settings).await;
    let inner = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    gateway.post("/").key("a").body("x").send().await;
    // Refused by its head (no key), refused as reused, refused as malformed.
    for key in ["", "idempotency-key: a\r\n", "idempotency-key: \"\r\n"] {
        let mut wire = Wire::connect(gateway.addr()).await;
        let length = inner.len();
        wire.write(format!(
            "POST / HTTP/1.1\r\nhost: a\r\n{key}content-length: {length}\r\n\r\n{inner}"
        ))
        .await;
        let refused = wire.read_message().await;
        assert!(refused.starts_with("HTTP/1.1 4"), "{key}: {refused}");
        // What comes next on that connection is a request of its own, or there is nothing next.
        wire.try_write("GET /second HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await;
        let rest = wire.read_to_end().await;
        assert!(
            rest.is_empty() || rest.starts_with("HTTP/1.1 201 "),
            "{key}: {rest}"
        );
    }
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.path() != "/smuggled")
    );
}

#[tokio::test]
async fn hazard_51_an_upstream_that_answers_twice_does_not_poison_the_next() {
    let two = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\
               content-length: 8\r\n\r\npoisoned";
    let upstream = RawUpstream::with(move |mut wire, _| async move {
        wire.try_write(two).await;
        wire.read_to_end().await;
    })
    .await;
    let gateway = Gateway::start(Settings::before_raw(&upstream).in_memory()).await;
    for number in 0..5 {
        let answer = gateway.post("/").key(&format!("key-{number}")).send().await;
        assert_eq!((answer.status, answer.text()), (201, "ok"));
    }
    assert_eq!(upstream.connections(), 5);
}

#[tokio::test]
async fn hostile_fields_are_refused() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream).await;
    for fields in [
        "idempotency-key: a\0b\r\n",
        "idempotency-key: a\rb\r\n",
        "idempotency key: a\r\n",
        ": a\r\n",
        "idempotency-key\r\n",
        " folded: a\r\n",
    ] {
        let mut wire = Wire::connect(gateway.addr()).await;
        wire.write(format!(
            "POST / HTTP/1.1\r\nhost: a\r\n{fields}content-length: 0\r\n\r\n"
        ))
        .await;
        let answer = wire.read_to_end().await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{fields:?}: {answer}"
        );
    }
    assert_eq!(upstream.total(), 0);
}

#[tokio::test]
async fn hazard_52_what_connection_names_does_not_come_off_our_own_fields() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream).await;
    let named = "idempotency-attempt, idempotency-fence, idempotency-control, x-forwarded-for";
    let call = || {
        gateway
            .post("/")
            .key("a")
            .header("connection", named)
            .send()
    };
    assert_eq!(call().await.text(), "1");
    assert!(call().await.is_replay());
    let seen = upstream.last();
    assert_eq!(seen.header("idempotency-attempt"), Some("1"));
    assert!(seen.header("idempotency-fence").is_some());
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    // A key that its client gives to this connection alone is one that it did not send: neither
    // the gateway nor the upstream takes it for a key.
    let own = gateway
        .post("/")
        .key("b")
        .header("connection", "idempotency-key")
        .send()
        .await;
    assert_eq!(own.status, 201);
    assert_eq!(upstream.last().key(), None);
    // The upstream's own `Connection` does not take off the mark of a replay either.
    let upstream = Upstream::answering(|_| {
        Reply::new(201).header("connection", "idempotent-replayed, content-type, close")
    })
    .await;
    let gateway = self::gateway(&upstream).await;
    gateway.post("/").key("a").send().await;
    assert!(gateway.post("/").key("a").send().await.is_replay());
}

#[tokio::test]
async fn other_spellings_of_a_path_find_the_same_route() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .route("path = \"/pay/{*rest}\"\nidempotency = { required = true }")
        .route("path = \"/{*rest}\"\nidempotency = false");
    let gateway = Gateway::start(settings).await;
    for path in [
        "/pay/1",
        "//pay/1",
        "/x/../pay/1",
        "/%70ay/1",
        "/./pay/1",
        "/pay",
        "/pay/",
    ] {
        let answer = gateway.post(path).send().await;
        assert_eq!(
            answer.problem().as_deref(),
            Some("key-missing"),
            "{path}: {answer:?}"
        );
    }
    assert_eq!(gateway.post("/other").send().await.status, 201);
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn hazard_54_nothing_in_a_request_makes_lines_of_the_log() {
    let upstream = Upstream::answering(|_| Reply::hang_up()).await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .section("log", "level = \"debug\"");
    let gateway = Gateway::start(settings).await;
    let path = "/%0a%1b[31mERROR/\"forged\"";
    gateway
        .post(path)
        .key("a")
        .header("x-evil", b"\xff\xfe {\"level\":\"ERROR\"}")
        .send()
        .await;
    let listed = gateway.command(["keys", "list"]).await;
    assert!(!listed.out.contains('\x1b'), "{}", listed.out);
    assert_eq!(listed.out.lines().count(), 2, "{}", listed.out);
    for line in gateway.log().lines().filter(|line| line.starts_with('{')) {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
        assert!(!line.contains('\x1b'), "{line}");
    }
}

#[tokio::test]
async fn methods_that_a_gateway_does_not_pass() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream).await;
    let mut wire = Wire::connect(gateway.addr()).await;
    wire.write("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n")
        .await;
    let answer = wire.read_until("\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 405 ") || answer.starts_with("HTTP/1.1 400 "),
        "{answer}"
    );
    assert_eq!(upstream.total(), 0);
    // All others are the upstream's business.
    let own = gateway
        .call(Method::from_bytes(b"PURGE").unwrap(), "/")
        .key("a");
    assert_eq!(own.send().await.status, 201);
}
