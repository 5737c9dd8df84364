//! Hazard 50: clients that are slow, many, or hostile; and the shutdown.

use super::harness::*;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use onlyonce_gateway::front::{BodyReadError, FrontOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

const SHORT: Duration = Duration::from_millis(100);

fn patient_but(change: impl FnOnce(&mut FrontOptions)) -> FrontOptions {
    let mut options = FrontOptions::default();
    for limit in [
        &mut options.head_timeout,
        &mut options.idle_timeout,
        &mut options.body_timeout,
        &mut options.write_timeout,
        &mut options.handshake_timeout,
        &mut options.drain_timeout,
    ] {
        *limit = DEADLINE * 10;
    }
    change(&mut options);
    options
}

/// Answers with the length of the body, or with what was wrong with it.
async fn measuring(options: FrontOptions) -> Gateway {
    Gateway::with_service(options, |request| async move {
        Ok(match request.into_body().collect().await {
            Ok(body) => answer(200, &body.to_bytes().len().to_string()),
            Err(error) => answer(error.status().as_u16(), &format!("{error:?}")),
        })
    })
    .await
}

#[tokio::test]
async fn hazard_50_a_head_that_trickles_is_cut_off() {
    let gateway = measuring(patient_but(|options| options.head_timeout = SHORT)).await;
    // Silent, half a request line, and a field now and then.
    for trickle in ["", "GET / HTT", "GET / HTTP/1.1\r\nhost: a\r\n"] {
        let mut client = gateway.connect().await;
        client.write_all(trickle.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = client.split();
        let feeding = async {
            loop {
                tokio::time::sleep(SHORT / 4).await;
                if !trickle.is_empty() && writer.write_all(b"x").await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = feeding => {}
            rest = read_to_end(&mut reader) => assert_eq!(rest, "", "{trickle:?}"),
        }
    }
    // The second head on a connection has the same time.
    let mut client = gateway.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    read_response(&mut client).await;
    client.write_all(b"GET / HTTP/1.1\r\nhos").await.unwrap();
    assert_eq!(read_to_end(&mut client).await, "");
}

#[tokio::test]
async fn hazard_50_an_idle_connection_is_closed_but_not_while_it_waits_for_an_answer() {
    let options = patient_but(|options| options.idle_timeout = SHORT);
    let gateway = Gateway::with_service(options, |_| async {
        tokio::time::sleep(SHORT * 4).await;
        Ok(answer(200, "late"))
    })
    .await;
    let mut client = gateway.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    let (_, body) = read_response(&mut client).await;
    assert_eq!(body, "late");
    assert_eq!(read_to_end(&mut client).await, "");
}

#[tokio::test]
async fn hazard_50_a_body_that_stalls_is_408() {
    let gateway = measuring(patient_but(|options| options.body_timeout = SHORT)).await;
    for rest in [
        "content-length: 10\r\n\r\nabc",
        "transfer-encoding: chunked\r\n\r\n3\r\nab",
    ] {
        let answer = gateway
            .send(format!("POST / HTTP/1.1\r\nhost: a\r\n{rest}"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
}

#[tokio::test]
async fn hazard_50_a_stalled_body_is_no_fault_of_the_upstream_s() {
    let upstream = RawUpstream::new(|mut talk| async move {
        talk.head().await;
        read_to_end(&mut talk.stream).await;
    })
    .await;
    let front = patient_but(|options| options.body_timeout = SHORT);
    let mut options = Options {
        front,
        ..Options::default()
    };
    // Far shorter than the client may take.
    options.upstream.head_timeout = SHORT / 4;
    let gateway = Gateway::before(&[upstream.addr], options).await;
    let answer = gateway
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")
        .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(gateway.failure(), "ClientBody Maybe");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413_before_or_while_it_comes() {
    let gateway = measuring(patient_but(|options| options.max_body = Some(5))).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    let fits = gateway
        .send(format!("{head}content-length: 5\r\n\r\n12345"))
        .await;
    assert!(fits.ends_with("\r\n5"), "{fits}");
    let sized = gateway
        .send(format!("{head}content-length: 6\r\n\r\n123456"))
        .await;
    assert!(sized.starts_with("HTTP/1.1 413 "), "{sized}");
    let chunked =
        format!("{head}transfer-encoding: chunked\r\n\r\n3\r\n123\r\n3\r\n456\r\n0\r\n\r\n");
    let chunked = gateway.send(chunked).await;
    assert!(
        chunked.starts_with("HTTP/1.1 413 ") && chunked.contains("TooLarge"),
        "{chunked}"
    );
}

#[tokio::test]
async fn hazard_50_a_client_that_does_not_read_is_cut_off() {
    let dropped = Arc::new(Notify::new());
    let seen = Arc::clone(&dropped);
    let options = patient_but(|options| options.write_timeout = SHORT);
    let gateway = Gateway::with_service(options, move |_| {
        let guard = Told(Arc::clone(&seen));
        async move {
            let endless = futures_util::stream::repeat_with(move || {
                let _ = &guard;
                Ok::<_, BodyReadError>(http_body::Frame::data(Bytes::from_static(&[0; 65536])))
            });
            let body = http_body_util::StreamBody::new(endless);
            Ok(http::Response::new(body.map_err(Into::into).boxed_unsync()))
        }
    })
    .await;
    let mut client = gateway.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    within("cut", dropped.notified()).await;
    drop(client);

    // HTTP/2: the connection is read, but the stream's window is never opened.
    let io = TokioIo::new(gateway.connect().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://a/")
        .body(Full::<Bytes>::default())
        .unwrap();
    let _response = sender.send_request(request).await.unwrap();
    within("cut", dropped.notified()).await;
}

struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn hazard_50_connections_are_bounded_and_the_next_one_waits() {
    let gateway = measuring(patient_but(|options| options.max_connections = 2)).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = gateway.connect().await;
        client.write_all(get("/").as_bytes()).await.unwrap();
        read_response(&mut client).await;
        open.push(client);
    }
    let mut third = gateway.connect().await;
    third.write_all(get("/").as_bytes()).await.unwrap();
    let mut byte = [0];
    let early = tokio::time::timeout(SHORT, third.read(&mut byte)).await;
    assert!(early.is_err(), "answered beyond the limit");
    open.pop();
    read_response(&mut third).await;
}

#[tokio::test]
async fn hazard_50_http2_streams_and_field_lists_are_bounded() {
    let options = patient_but(|options| {
        options.max_streams = 3;
        options.max_head = 8192;
    });
    let gateway = measuring(options).await;
    let (client, connection) = h2::client::handshake(gateway.connect().await)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let long = Request::get("http://a/")
        .header("x", "y".repeat(10_000))
        .body(())
        .unwrap();
    let (response, _) = client.send_request(long, true).unwrap();
    let status = response.await.map(|response| response.status().as_u16());
    assert!(
        status.as_ref().map_or(true, |status| *status == 431),
        "{status:?}"
    );
    assert_eq!(client.current_max_send_streams(), 3);
}

#[tokio::test]
async fn hazard_50_rapid_resets_end_the_connection() {
    let running = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&running);
    let gateway = Gateway::with_service(patient_but(|_| ()), move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    })
    .await;
    // With and without a pause in which a stream is accepted before it is reset.
    for pause in [false, true] {
        running.store(0, Ordering::SeqCst);
        let mut client = gateway.connect().await;
        client.write_all(PREFACE).await.unwrap();
        let (mut reader, mut writer) = client.split();
        let attack = async {
            for stream in (1..200_001_u32).step_by(2) {
                let id = stream.to_be_bytes();
                // GET / http, authority a; and RST_STREAM with CANCEL.
                let headers = [
                    &[0, 0, 6, 1, 5][..],
                    &id,
                    &[0x82, 0x84, 0x86, 0x41, 1, b'a'],
                ];
                let reset = [&[0, 0, 4, 3, 0][..], &id, &[0, 0, 0, 8]];
                if writer.write_all(&headers.concat()).await.is_err() {
                    return;
                }
                if pause {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                if writer.write_all(&reset.concat()).await.is_err() {
                    return;
                }
            }
            panic!("nobody stops it");
        };
        within("attack", async {
            tokio::join!(attack, read_to_end(&mut reader))
        })
        .await;
        let run = running.load(Ordering::SeqCst);
        assert!(run < 300, "{run} requests were run");
    }
}

/// How an HTTP/2 client begins: preface, and empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn hazard_50_a_continuation_flood_ends_the_connection() {
    let gateway = measuring(patient_but(|_| ())).await;
    let mut client = gateway.connect().await;
    client.write_all(PREFACE).await.unwrap();
    // HEADERS without END_HEADERS, and CONTINUATION without end.
    client
        .write_all(&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82])
        .await
        .unwrap();
    let (mut reader, mut writer) = client.split();
    let mut field = vec![0x40, 10];
    field.extend_from_slice(b"x-aaaaaaaa\x7f");
    field.extend([0xe1, 0x06]); // 127 + 97 + 6 * 128 = 992 bytes
    field.extend([b'v'; 992]);
    let length = u32::try_from(field.len()).unwrap().to_be_bytes();
    let frame = [&length[1..], &[9, 0, 0, 0, 0, 1], &field].concat();
    let flood = async {
        let mut sent = 0_u64;
        while writer.write_all(&frame).await.is_ok() {
            sent += frame.len() as u64;
            assert!(sent < 64 * 1024 * 1024, "nobody stops it");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = flood => {}
        _ = read_to_end(&mut reader) => {}
    }
}

#[tokio::test]
async fn shutdown_lets_running_requests_end_and_closes_the_rest() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, wait) = (Arc::clone(&begun), Arc::clone(&go));
    let mut gateway = Gateway::with_service(patient_but(|_| ()), move |_| {
        let (told, wait) = (Arc::clone(&told), Arc::clone(&wait));
        async move {
            told.notify_one();
            wait.notified().await;
            Ok(answer(200, "done"))
        }
    })
    .await;
    let mut silent = gateway.connect().await;
    let mut client = gateway.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    within("request", begun.notified()).await;
    gateway.stop();
    assert_eq!(
        read_to_end(&mut silent).await,
        "",
        "an idle one is closed at once"
    );
    let refused = async {
        while tokio::net::TcpStream::connect(gateway.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within("refusal", refused).await;
    go.notify_one();
    let answer = read_to_end(&mut client).await;
    assert!(
        answer.contains("connection: close\r\n") && answer.ends_with("done"),
        "{answer}"
    );
    assert!(gateway.stopped().await.all_finished());
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_end_in_time() {
    let begun = Arc::new(Notify::new());
    let told = Arc::clone(&begun);
    let options = patient_but(|options| options.drain_timeout = SHORT);
    let gateway = Gateway::with_service(options, move |_| {
        told.notify_one();
        std::future::pending()
    })
    .await;
    let mut client = gateway.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    within("request", begun.notified()).await;
    let drained = gateway.stopped().await;
    assert_eq!((drained.all_finished(), drained.cut), (false, 1));
    assert_eq!(read_to_end(&mut client).await, "");
}

#[tokio::test]
async fn absurd_options_neither_overflow_nor_block() {
    let mut options = Options::default();
    options.front = patient_but(|options| {
        options.max_connections = usize::MAX;
        options.max_handshakes = 0;
        options.head_timeout = Duration::MAX;
        options.idle_timeout = Duration::MAX;
        options.body_timeout = Duration::MAX;
        options.write_timeout = Duration::MAX;
    });
    options.upstream.connect_timeout = Duration::MAX;
    options.upstream.head_timeout = Duration::MAX;
    options.upstream.idle_timeout = Duration::MAX;
    options.upstream.total_timeout = Some(Duration::MAX);
    options.upstream.pool_idle = Duration::MAX;
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], options).await;
    let request = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";
    for _ in 0..2 {
        assert!(gateway.send(request).await.ends_with("ok"));
    }
}
