//! HTTP/1.0, HTTP/1.1, HTTP/2 with and without TLS: one gateway, one set of records.

use http::Version;
use onlyonce_e2e::tls::SelfSigned;
use onlyonce_e2e::{Gateway, Home, Settings, Upstream, Wire};

#[tokio::test]
async fn one_record_whatever_the_protocol_of_the_retry() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let over1 = gateway.post("/charges").key("a").body("10").send().await;
    let over2 = gateway
        .post("/charges")
        .http2()
        .key("a")
        .body("10")
        .send()
        .await;
    assert_eq!(
        (over1.version, over2.version),
        (Version::HTTP_11, Version::HTTP_2)
    );
    assert!(over2.is_replay() && over2.body == over1.body);
    let mut wire = Wire::connect(gateway.addr()).await;
    wire.write(
        "POST /charges HTTP/1.0\r\nhost: a\r\nidempotency-key: a\r\ncontent-length: 2\r\n\r\n10",
    )
    .await;
    let over0 = wire.read_to_end().await;
    assert!(over0.contains("idempotent-replayed: true"), "{over0}");
    assert!(over0.ends_with("\r\n\r\n1"), "{over0}");
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn tls_with_a_certificate_of_ones_own() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream);
    let home = Home::new(&settings);
    let tls = SelfSigned::in_home(&home);
    home.write(&settings.section("tls", &tls.lines()));
    let gateway = home.start().await;
    let call = || gateway.post("/charges").key("a").body("10");
    let over1 = call().tls(tls.client(&["http/1.1"])).send().await;
    let over2 = call().tls(tls.client(&["h2", "http/1.1"])).send().await;
    assert_eq!(
        (over1.version, over2.version),
        (Version::HTTP_11, Version::HTTP_2)
    );
    assert!(over2.is_replay() && over2.body == over1.body);
    assert_eq!(upstream.last().header("x-forwarded-proto"), Some("https"));
    // Who speaks in clear text there, or trusts another, gets nothing.
    assert!(call().try_send().await.is_err());
    let other = SelfSigned::in_home(&Home::new(&Settings::before(&upstream)));
    assert!(call().tls(other.client(&[])).try_send().await.is_err());
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn http2_on_both_sides() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream).section("proxy", "h2c = true");
    let gateway = Gateway::start(settings).await;
    let call = || {
        gateway
            .post("/charges?x=1")
            .http2()
            .key("a")
            .body("10")
            .send()
    };
    assert_eq!(call().await.text(), "1");
    assert!(call().await.is_replay());
    let seen = upstream.last();
    assert_eq!(seen.parts.version, Version::HTTP_2);
    assert_eq!((seen.path(), &seen.body[..]), ("/charges?x=1", &b"10"[..]));
    assert_eq!(seen.header("idempotency-attempt"), Some("1"));
    assert_eq!(seen.header("via"), Some("2.0 onlyonce"));
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn a_hang_up_on_http2_changes_nothing_for_its_neighbours() {
    let (upstream, gate) = Upstream::gated().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let call = |key: &str| gateway.post("/").http2().key(key);
    let connection = call("a").connection().await.unwrap();
    let send = |key: &'static str| {
        let mut connection = connection.another();
        let call = call(key);
        tokio::spawn(async move { connection.send(call).await })
    };
    let (gone, stays) = (send("a"), send("b"));
    gate.arrived(2).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    gate.open();
    assert_eq!(stays.await.unwrap().unwrap().status, 201);
    let retry = onlyonce_e2e::eventually("the answer", || async {
        let answer = call("a").send().await;
        (answer.status != 409).then_some(answer)
    })
    .await;
    assert!(retry.is_replay());
    assert_eq!(upstream.total(), 2);
}

#[tokio::test]
async fn several_requests_on_one_connection() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    let call = |key: &str| gateway.post("/").key(key).body("x".repeat(100));
    let mut connection = call("a").connection().await.unwrap();
    for (key, text, replayed) in [
        ("a", "1", false),
        ("a", "1", true),
        ("b", "2", false),
        ("a", "1", true),
        ("b", "2", true),
    ] {
        let answer = connection.send(call(key)).await.unwrap();
        assert_eq!((answer.text(), answer.is_replay()), (text, replayed));
    }
    // A refusal that did not need its body does not cost the connection either.
    let refused = connection
        .send(gateway.post("/").key("\"").body("x".repeat(100)))
        .await;
    assert_eq!(refused.unwrap().status, 400);
    assert_eq!(connection.send(call("a")).await.unwrap().text(), "1");
}

#[tokio::test]
async fn whoever_expects_100_continue_gets_it() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    let mut wire = Wire::connect(gateway.addr()).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nidempotency-key: a\r\nexpect: 100-continue\r\n\
                connection: close\r\ncontent-length: 2\r\n\r\n";
    wire.write(head).await;
    assert_eq!(
        wire.read_until("\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    wire.write("10").await;
    assert!(
        wire.read_to_end()
            .await
            .starts_with("HTTP/1.1 201 Created\r\n")
    );
    assert_eq!(&upstream.last().body[..], b"10");
    assert_eq!(upstream.last().header("expect"), None);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    let mut wire = Wire::connect(gateway.addr()).await;
    let request = |key: &str, more: &str| {
        format!(
            "POST / HTTP/1.1\r\nhost: a\r\nidempotency-key: {key}\r\n{more}content-length: 2\r\n\r\n10"
        )
    };
    let all = [
        request("a", ""),
        request("b", ""),
        request("a", "connection: close\r\n"),
    ];
    wire.write(all.concat()).await;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let answer = wire.read_message().await;
        assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
        bodies.push(answer.split_once("\r\n\r\n").unwrap().1.to_owned());
    }
    assert_eq!(bodies, ["1", "2", "1"]);
    assert_eq!(wire.read_to_end().await, "");
}
