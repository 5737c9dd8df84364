//! Responses are replayed as they were: status, fields, bodies, trailers.

use bytes::Bytes;
use http::{HeaderMap, Method};
use onlyonce_e2e::{Answer, Gateway, Reply, Settings, Upstream};

/// The first answer and a replay, from a gateway that has its records on the disk and was killed
/// in between.
async fn twice(upstream: &Upstream, settings: Settings, method: Method) -> (Answer, Answer) {
    let call = |gateway: &Gateway| {
        let call = gateway.call(method.clone(), "/charges").key("a");
        call.header("te", "trailers").body("10").send()
    };
    let gateway = Gateway::start(settings).await;
    let first = call(&gateway).await;
    let at_once = call(&gateway).await;
    let gateway = gateway.kill().await.start().await;
    let later = call(&gateway).await;
    assert_eq!(upstream.total(), 1, "executed once");
    for replay in [&at_once, &later] {
        assert!(replay.is_replay(), "{replay:?}");
        assert_eq!(replay.status, first.status);
        assert_eq!(replay.body, first.body);
        assert_eq!(replay.trailers, first.trailers);
    }
    (first, later)
}

async fn answering(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Upstream {
    Upstream::answering(move |_| reply()).await
}

/// Fields that differ between a first answer and its replay.
fn without_own(mut headers: HeaderMap) -> HeaderMap {
    for name in ["date", "idempotent-replayed", "cache-control"] {
        headers.remove(name);
    }
    headers
}

#[tokio::test]
async fn hazard_24_answers_without_a_body_are_answers() {
    let cases = [
        (Method::DELETE, 204),
        (Method::POST, 304),
        (Method::PUT, 200),
        (Method::POST, 205),
    ];
    for (method, status) in cases {
        let upstream = answering(move || Reply::new(status).header("etag", "\"x\"")).await;
        let (first, replay) = twice(&upstream, Settings::before(&upstream), method).await;
        assert_eq!((first.status, replay.status), (status, status));
        assert!(replay.body.is_empty());
        assert_eq!(replay.header("etag"), Some("\"x\""));
        assert_eq!(
            replay.header("content-length"),
            first.header("content-length"),
            "{status}"
        );
    }
}

#[tokio::test]
async fn hazard_25_bytes_stay_bytes_and_fields_stay_fields() {
    let all: Bytes = (0..=255).collect::<Vec<u8>>().repeat(64).into();
    let body = all.clone();
    let upstream = answering(move || {
        Reply::new(201)
            .header("content-type", "application/octet-stream")
            .header("location", "/charges/1?x=%2F")
            .header("set-cookie", "a=1; Path=/")
            .header("x-last", "1")
            .header("set-cookie", "b=2; HttpOnly")
            .header("set-cookie", "c=3")
            .header("x-name", b"Fran\xe7ois \xff\xfe")
            .header("x-empty", "")
            .header("vary", "accept")
            .header("vary", "origin")
            .header("keep-alive", "timeout=5")
            .body(body.clone())
    })
    .await;
    let (first, replay) = twice(&upstream, Settings::before(&upstream), Method::POST).await;
    assert_eq!(replay.body, all);
    assert_eq!(
        without_own(replay.headers.clone()),
        without_own(first.headers.clone())
    );
    for answer in [&first, &replay] {
        let cookies: [&[u8]; 3] = [b"a=1; Path=/", b"b=2; HttpOnly", b"c=3"];
        assert_eq!(answer.header_lines("set-cookie"), cookies);
        assert_eq!(answer.header_lines("vary"), [&b"accept"[..], b"origin"]);
        assert_eq!(
            answer.header_lines("x-name"),
            [&b"Fran\xe7ois \xff\xfe"[..]]
        );
        assert_eq!(answer.header_lines("x-empty"), [&b""[..]]);
        assert_eq!(answer.header("location"), Some("/charges/1?x=%2F"));
        assert_eq!(answer.header_lines("content-length"), [&b"16384"[..]]);
        assert_eq!(answer.header("keep-alive"), None, "of one connection only");
    }
}

#[tokio::test]
async fn hazard_25_gzip_is_left_as_it_is() {
    // `printf hello | gzip -n`
    const GZIP: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6, 0x10,
        0x36, 5, 0, 0, 0,
    ];
    let upstream = answering(|| {
        Reply::new(200)
            .header("content-encoding", "gzip")
            .body(GZIP)
    })
    .await;
    let (first, replay) = twice(&upstream, Settings::before(&upstream), Method::POST).await;
    for answer in [&first, &replay] {
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert_eq!(answer.body, GZIP);
    }
    assert_eq!(
        upstream.last().header("accept-encoding"),
        None,
        "not asked for by the gateway"
    );
}

#[tokio::test]
async fn hazard_53_replays_have_dates_of_their_own_and_are_not_for_caches() {
    let upstream = answering(|| {
        let old = "Tue, 01 Jan 2030 00:00:00 GMT";
        Reply::new(201)
            .header("date", old)
            .header("x-hop", "1")
            .header("connection", "x-hop")
    })
    .await;
    let (first, replay) = twice(&upstream, Settings::before(&upstream), Method::POST).await;
    assert_eq!(first.header("date"), Some("Tue, 01 Jan 2030 00:00:00 GMT"));
    assert_ne!(replay.header("date"), Some("Tue, 01 Jan 2030 00:00:00 GMT"));
    assert_eq!(replay.header_lines("date").len(), 1);
    assert_eq!(replay.header("cache-control"), Some("no-store"));
    assert_eq!(replay.header("x-hop"), None);
    // What the upstream says of caches stays.
    let upstream = answering(|| Reply::new(201).header("cache-control", "private")).await;
    let (_, replay) = twice(&upstream, Settings::before(&upstream), Method::POST).await;
    assert_eq!(replay.header_lines("cache-control"), [&b"private"[..]]);
}

#[tokio::test]
async fn chunked_answers_are_replayed_whole() {
    let upstream = answering(|| Reply::new(200).body("one ").body("two ").body("three")).await;
    let (first, replay) = twice(&upstream, Settings::before(&upstream), Method::POST).await;
    assert_eq!(first.text(), "one two three");
    assert_eq!(replay.text(), "one two three");
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "4711".parse().unwrap());
    trailers.append("x-note", "a".parse().unwrap());
    trailers.append("x-note", "b".parse().unwrap());
    trailers
}

#[tokio::test]
async fn trailers_are_replayed_over_http1() {
    let upstream = answering(|| {
        let reply = Reply::new(200)
            .header("trailer", "x-sum, x-note")
            .body("sum");
        reply.trailers(trailers())
    })
    .await;
    let (first, replay) = twice(&upstream, Settings::before(&upstream), Method::POST).await;
    assert_eq!(first.trailers, trailers());
    assert_eq!(replay.trailers, trailers());
    assert_eq!(replay.text(), "sum");
}

#[tokio::test]
async fn trailers_are_replayed_over_http2() {
    let upstream = answering(|| {
        Reply::new(200)
            .header("content-type", "application/grpc")
            .body("sum")
            .trailers(trailers())
    })
    .await;
    let settings = Settings::before(&upstream).section("proxy", "h2c = true");
    let gateway = Gateway::start(settings).await;
    let call = || gateway.post("/charges").http2().key("a").body("10").send();
    let (first, replay) = (call().await, call().await);
    assert_eq!(upstream.last().parts.version, http::Version::HTTP_2);
    assert!(replay.is_replay());
    for answer in [&first, &replay] {
        assert_eq!((answer.status, answer.text()), (200, "sum"));
        assert_eq!(answer.trailers, trailers());
        assert_eq!(answer.version, http::Version::HTTP_2);
    }
    // An answer that is nothing but trailers, as gRPC has it.
    let upstream = answering(|| Reply::new(200).trailers(trailers())).await;
    let gateway = Gateway::start(Settings::before(&upstream).section("proxy", "h2c = true")).await;
    let call = || gateway.post("/charges").http2().key("a").send();
    let (first, replay) = (call().await, call().await);
    assert_eq!(
        (&first.trailers, &replay.trailers),
        (&trailers(), &trailers())
    );
    assert!(replay.is_replay() && replay.body.is_empty());
}

#[tokio::test]
async fn header_fields_can_be_left_out_of_the_record() {
    let reply = || {
        Reply::new(201)
            .header("set-cookie", "session=1")
            .header("x-trace", "1")
            .header("x-kept", "1")
    };
    for (setting, kept) in [
        ("drop_headers = [\"Set-Cookie\", \"X-Trace\"]", true),
        ("keep_headers = [\"X-Kept\"]", true),
        ("keep_headers = [\"X-Trace\"]", false),
    ] {
        let upstream = answering(reply).await;
        let settings = Settings::before(&upstream).idempotency(setting);
        let (first, replay) = twice(&upstream, settings, Method::POST).await;
        assert_eq!(first.header("set-cookie"), Some("session=1"));
        assert_eq!(replay.header("set-cookie"), None, "{setting}");
        assert_eq!(replay.header("x-kept").is_some(), kept, "{setting}");
    }
}

#[tokio::test]
async fn hazard_28_long_bodies_count_to_their_last_byte() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let mut body = vec![b'x'; 3_000_000];
    let send = |body: &[u8]| gateway.post("/").key("a").body(body.to_vec()).send();
    assert_eq!(send(&body).await.status, 201);
    assert!(send(&body).await.is_replay());
    *body.last_mut().unwrap() = b'y';
    let other = send(&body).await;
    assert_eq!(
        (other.status, other.problem().as_deref()),
        (422, Some("key-reused"))
    );
    body.push(b'x');
    assert_eq!(send(&body).await.status, 422);
    assert_eq!(upstream.total(), 1);
    assert_eq!(upstream.last().body.len(), 3_000_000);
}

#[tokio::test]
async fn hazard_29_a_multipart_boundary_may_change_on_a_retry() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let send = |boundary: &str, file: &str| {
        let body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\
             Content-Type: text/plain\r\n\r\n{file}\r\n--{boundary}--\r\n"
        );
        let kind = format!("multipart/form-data; boundary={boundary}");
        gateway
            .post("/")
            .key("a")
            .header("content-type", kind)
            .body(body)
            .send()
    };
    assert_eq!(send("one-4711", "hello").await.status, 201);
    assert!(send("two-0815", "hello").await.is_replay());
    assert_eq!(send("one-4711", "other").await.status, 422);
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn json_can_be_compared_by_its_meaning() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream)
        .idempotency("fingerprint = \"json\"")
        .route("path = \"/amount\"\nidempotency = { fingerprint = [\"/amount\"] }");
    let gateway = Gateway::start(settings).await;
    let send = |path: &str, key: &str, body: &str| gateway.post(path).key(key).json(body).send();
    assert_eq!(send("/", "a", r#"{"a":1,"b":[1,2]}"#).await.status, 201);
    assert!(
        send("/", "a", r#"{ "b": [1, 2], "a": 1 }"#)
            .await
            .is_replay()
    );
    assert_eq!(send("/", "a", r#"{"a":1,"b":[2,1]}"#).await.status, 422);
    assert_eq!(
        send("/amount", "b", r#"{"amount":1,"at":"9:00"}"#)
            .await
            .status,
        201
    );
    assert!(
        send("/amount", "b", r#"{"amount":1,"at":"9:01"}"#)
            .await
            .is_replay()
    );
    assert_eq!(
        send("/amount", "b", r#"{"amount":2,"at":"9:01"}"#)
            .await
            .status,
        422
    );
    assert_eq!(upstream.total(), 2);
}
