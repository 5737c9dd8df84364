//! Upgraded connections.

use super::harness::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const OFFER: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\n\
                     upgrade: websocket\r\nsec-websocket-key: x\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                      upgrade: websocket\r\nsec-websocket-accept: y\r\n\r\n";

/// Switches, then echoes.
async fn echo() -> RawUpstream {
    RawUpstream::new(|mut talk| async move {
        talk.head().await.unwrap();
        talk.say(SWITCH).await;
        let (mut reader, mut writer) = talk.stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = writer.shutdown().await;
    })
    .await
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let upstream = echo().await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let mut client = gateway.connect().await;
    client.write_all(OFFER.as_bytes()).await.unwrap();
    let head = within("101", read_head(&mut client)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(field(&head, "upgrade").as_deref(), Some("websocket"));
    assert_eq!(field(&head, "connection").as_deref(), Some("upgrade"));
    assert_eq!(field(&head, "sec-websocket-accept").as_deref(), Some("y"));
    let seen = upstream.head(0);
    assert_eq!(field(&seen, "upgrade").as_deref(), Some("websocket"));
    assert_eq!(field(&seen, "connection").as_deref(), Some("upgrade"));
    // What no HTTP parser would take.
    let message: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let (mut reader, mut writer) = client.split();
    let mut back = vec![0; message.len()];
    let both = async { tokio::join!(writer.write_all(&message), reader.read_exact(&mut back)) };
    let (written, read) = within("echo", both).await;
    written.unwrap();
    read.unwrap();
    assert_eq!(back, message);
    // One end's end is the other's.
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut client).await, "");
}

#[tokio::test]
async fn hazard_53_nothing_is_switched_unless_the_upstream_says_so() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let mut client = gateway.connect().await;
    // The client goes on as if it had been upgraded; what it says is no request.
    let early = "GET /smuggled HTTP/1.1\ncontent-length: 5\n\n";
    client
        .write_all([OFFER, early].concat().as_bytes())
        .await
        .unwrap();
    let answers = read_to_end(&mut client).await;
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    assert!(answers.contains("okHTTP/1.1 400 "), "{answers}");
    assert_eq!(upstream.requests(), 1);

    // A declined offer leaves a connection that goes on as before.
    let mut client = gateway.connect().await;
    for turn in 1..=3 {
        client.write_all(OFFER.as_bytes()).await.unwrap();
        let (head, _) = read_response(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(field(&head, "upgrade"), None);
        assert_eq!(upstream.requests(), 1 + turn);
    }
    client
        .write_all([OFFER, &get_close("/next")].concat().as_bytes())
        .await
        .unwrap();
    let answers = read_to_end(&mut client).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}

#[tokio::test]
async fn hazard_53_an_upgrade_that_nobody_offered_is_refused() {
    let upstream = RawUpstream::answering(SWITCH).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let answer = gateway.send(get_close("/")).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(gateway.failure(), "Protocol Maybe");
}

#[tokio::test]
async fn hazard_53_http2_is_not_upgraded_to_past_the_gateway() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings, close\r\n\
                   upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n";
    let answer = gateway.send(request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = upstream.head(0);
    for gone in ["upgrade", "connection", "http2-settings"] {
        assert_eq!(field(&seen, gone), None, "{seen}");
    }
}

#[tokio::test]
async fn an_idle_tunnel_is_closed() {
    let upstream = echo().await;
    let mut options = Options::default();
    options.proxy.tunnel_idle = Duration::from_millis(50);
    let gateway = Gateway::before(&[upstream.addr], options).await;
    let mut client = gateway.connect().await;
    client.write_all(OFFER.as_bytes()).await.unwrap();
    within("101", read_head(&mut client)).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, "");
}

#[tokio::test]
async fn shutdown_waits_for_tunnels_and_then_cuts_them() {
    for ends_in_time in [true, false] {
        let upstream = echo().await;
        let mut options = Options::default();
        options.front.drain_timeout = if ends_in_time {
            DEADLINE
        } else {
            Duration::from_millis(50)
        };
        let mut gateway = Gateway::before(&[upstream.addr], options).await;
        let mut client = gateway.connect().await;
        client.write_all(OFFER.as_bytes()).await.unwrap();
        within("101", read_head(&mut client)).await.unwrap();
        gateway.stop();
        if ends_in_time {
            // Still there.
            client.write_all(b"ping").await.unwrap();
            let mut back = [0; 4];
            within("echo", client.read_exact(&mut back)).await.unwrap();
            drop(client);
        }
        assert_eq!(gateway.stopped().await.all_finished(), ends_in_time);
    }
}

#[tokio::test]
async fn a_tunnel_keeps_its_place_among_the_connections() {
    let upstream = echo().await;
    let mut options = Options::default();
    options.front.max_connections = 1;
    let gateway = Gateway::before(&[upstream.addr], options).await;
    let mut client = gateway.connect().await;
    client.write_all(OFFER.as_bytes()).await.unwrap();
    within("101", read_head(&mut client)).await.unwrap();
    let mut second = gateway.connect().await;
    second.write_all(OFFER.as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), read_head(&mut second)).await;
    assert!(early.is_err(), "accepted beyond the limit");
    drop(client);
    within("101", read_head(&mut second)).await.unwrap();
}
