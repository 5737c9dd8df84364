//! What does not come in one piece: event streams, upgrades, bodies of any length.

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use onlyonce_e2e::{
    AnyBody, Gateway, RawUpstream, Reply, Settings, Upstream, Wire, counted, eventually, zeroes,
};
use tokio::sync::mpsc;

/// A body that the test writes, piece by piece; it ends when the sender is dropped.
fn written() -> (mpsc::UnboundedSender<&'static str>, AnyBody) {
    let (sender, receiver) = mpsc::unbounded_channel::<&'static str>();
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        let frame = Frame::data(Bytes::from_static(piece.as_bytes()));
        Some((Ok(frame), receiver))
    });
    (sender, StreamBody::new(pieces).boxed_unsync())
}

/// A service of one event stream, which the test writes.
async fn event_stream() -> (Upstream, mpsc::UnboundedSender<&'static str>) {
    let (events, body) = written();
    let body = std::sync::Mutex::new(Some(body));
    let upstream = Upstream::answering(move |_| {
        let body = body.lock().unwrap().take().expect("executed once");
        Reply::new(200)
            .header("content-type", "text/event-stream; charset=utf-8")
            .any_body(body)
    });
    (upstream.await, events)
}

#[tokio::test]
async fn server_sent_events_come_at_once_and_are_replayed() {
    let (upstream, events) = event_stream().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let call = || gateway.post("/events").key("a").body("x");
    events.send("data: one\n\n").unwrap();
    let mut answer = call().start().await.unwrap();
    assert_eq!(answer.piece().await.unwrap().unwrap(), "data: one\n\n");
    // It goes on, and so the key is in progress.
    let second = call().send().await;
    assert_eq!(
        (second.status, second.problem().as_deref()),
        (409, Some("in-progress"))
    );
    events.send("data: two\n\n").unwrap();
    assert_eq!(answer.piece().await.unwrap().unwrap(), "data: two\n\n");
    drop(events);
    assert_eq!(answer.piece().await.unwrap(), None);
    // Once the client has seen the end, the record is there.
    let replay = call().send().await;
    assert!(replay.is_replay(), "{replay:?}");
    assert_eq!(replay.text(), "data: one\n\ndata: two\n\n");
    assert_eq!(
        replay.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn hazard_21_a_stream_whose_client_has_gone_is_recorded_at_its_end() {
    let (upstream, events) = event_stream().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let call = || gateway.post("/events").key("a").body("x");
    events.send("data: one\n\n").unwrap();
    let mut answer = call().start().await.unwrap();
    assert_eq!(answer.piece().await.unwrap().unwrap(), "data: one\n\n");
    drop(answer);
    events.send("data: two\n\n").unwrap();
    drop(events);
    let replay = eventually("the record", || async {
        let answer = call().send().await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert!(replay.is_replay());
    assert_eq!(replay.text(), "data: one\n\ndata: two\n\n");
}

#[tokio::test]
async fn hazard_20_a_stream_without_an_end_is_given_up_but_never_executed_again() {
    let (upstream, events) = event_stream().await;
    let settings = Settings::before(&upstream).idempotency("abandoned_stream_timeout = \"1s\"");
    let gateway = Gateway::start(settings).await;
    let call = || gateway.post("/events").key("a").body("x");
    events.send("data: one\n\n").unwrap();
    let mut answer = call().start().await.unwrap();
    answer.piece().await.unwrap();
    drop(answer);
    let retry = eventually("the end of the stream", || async {
        let answer = call().send().await;
        (answer.problem().as_deref() != Some("in-progress")).then_some(answer)
    })
    .await;
    assert_eq!(retry.problem().as_deref(), Some("response-not-kept"));
    assert_eq!(upstream.total(), 1);
    drop(events);
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\
                       upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Accepts every upgrade, then sends back what it gets.
async fn echo() -> RawUpstream {
    RawUpstream::with(|mut wire, _| async move {
        wire.write(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        )
        .await;
        loop {
            let line = wire.read_until("\n").await;
            if line.is_empty() {
                return;
            }
            wire.write(line.to_uppercase()).await;
        }
    })
    .await
}

#[tokio::test]
async fn websockets_pass() {
    let upstream = echo().await;
    let gateway = Gateway::start(Settings::before_raw(&upstream).in_memory()).await;
    let mut wire = Wire::connect(gateway.addr()).await;
    wire.write(format!("{UPGRADE}\r\n")).await;
    let head = wire.read_until("\r\n\r\n").await.to_lowercase();
    assert!(
        head.starts_with("http/1.1 101 switching protocols\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(head.contains("\r\nsec-websocket-accept: "), "{head}");
    for turn in 0..3 {
        wire.write(format!("hello {turn}\n")).await;
        assert_eq!(wire.read_until("\n").await, format!("HELLO {turn}\n"));
    }
    wire.finish().await;
    assert_eq!(wire.read_to_end().await, "");
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn an_upgrade_with_a_key_is_refused() {
    let upstream = echo().await;
    let settings = Settings::before_raw(&upstream).in_memory();
    let gateway = Gateway::start(settings).await;
    let mut wire = Wire::connect(gateway.addr()).await;
    let post = UPGRADE.replace("GET", "POST");
    wire.write(format!(
        "{post}idempotency-key: a\r\ncontent-length: 0\r\n\r\n"
    ))
    .await;
    let answer = wire.read_message().await;
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(answer.contains("#key-invalid"), "{answer}");
    assert_eq!(upstream.requests(), 0);
}

const BIG: u64 = 200 << 20;
/// Far below [`BIG`], and above what the program needs for itself.
const MEMORY: u64 = 100 << 20;

#[tokio::test]
async fn two_hundred_mebibytes_go_up_in_constant_memory() {
    let upstream = Upstream::streaming(|request| async move {
        let length = counted(request.into_body()).await.unwrap();
        Reply::new(201).body(length.to_string())
    })
    .await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let call = || gateway.post("/files").key("a").any_body(zeroes(BIG));
    let first = call().send().await;
    assert_eq!((first.status, first.text()), (201, "209715200"));
    // A retry is hashed to its end before it is replayed.
    let retry = call().send().await;
    assert!(retry.is_replay(), "{retry:?}");
    assert_eq!(retry.text(), "209715200");
    let longer = gateway
        .post("/files")
        .key("a")
        .any_body(zeroes(BIG + 1))
        .send()
        .await;
    assert_eq!(longer.problem().as_deref(), Some("key-reused"));
    assert_eq!(upstream.total(), 1);
    // Without a key likewise.
    let plain = gateway.post("/files").any_body(zeroes(BIG)).send().await;
    assert_eq!(plain.text(), "209715200");
    let peak = gateway.peak_memory();
    eprintln!("peak memory: {} MiB", peak >> 20);
    assert!(peak < MEMORY, "{} MiB", peak >> 20);
}

#[tokio::test]
async fn two_hundred_mebibytes_come_down_in_constant_memory() {
    let upstream = Upstream::answering(|_| Reply::new(200).any_body(zeroes(BIG))).await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    for key in [Some("a"), None] {
        let call = gateway.post("/files").body("x");
        let call = match key {
            Some(key) => call.key(key),
            None => call,
        };
        let mut answer = call.start().await.unwrap();
        assert_eq!(counted(answer.response.body_mut()).await.unwrap(), BIG);
    }
    let retry = gateway.post("/files").key("a").body("x").send().await;
    assert_eq!(retry.problem().as_deref(), Some("response-not-kept"));
    assert_eq!(upstream.total(), 2);
    let peak = gateway.peak_memory();
    eprintln!("peak memory: {} MiB", peak >> 20);
    assert!(peak < MEMORY, "{} MiB", peak >> 20);
}

#[tokio::test]
async fn an_upstream_that_answers_before_it_has_read_all() {
    // The body is left unread: the answer is there before the upload has ended.
    for status in [201, 413] {
        let upstream = Upstream::streaming(move |_| async move { Reply::new(status) }).await;
        let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
        let call = |length| {
            gateway
                .post("/files")
                .key("a")
                .any_body(zeroes(length))
                .send()
        };
        let first = call(8 << 20).await;
        let retry = call(8 << 20).await;
        assert_eq!(first.status, status);
        // It counts to its last byte all the same.
        assert_eq!(
            (retry.status, retry.is_replay()),
            (status, true),
            "{retry:?}"
        );
        assert_eq!(call((8 << 20) + 1).await.status, 422);
        assert_eq!(upstream.total(), 1);
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_holds_the_upstream_back() {
    let upstream = Upstream::answering(|_| Reply::new(200).any_body(zeroes(BIG))).await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    let mut answers = Vec::new();
    for number in 0..8 {
        let call = gateway.post("/files").key(&number.to_string());
        let mut answer = call.start().await.unwrap();
        answer.piece().await.unwrap().unwrap();
        // Nobody reads on.
        answers.push(answer);
    }
    // All the same it serves others, and holds no more than its buffers.
    let settled = gateway.get("/files").start().await.unwrap();
    assert_eq!(counted(settled.response.into_body()).await.unwrap(), BIG);
    let peak = gateway.peak_memory();
    eprintln!("peak memory: {} MiB", peak >> 20);
    assert!(peak < MEMORY, "{} MiB", peak >> 20);
}
