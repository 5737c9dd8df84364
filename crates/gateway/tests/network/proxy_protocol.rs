//! Connections that say first where they come from.

use super::harness::*;
use onlyonce_gateway::front::{FrontOptions, Peer, ProxyProtocol};
use onlyonce_pipeline::client_addr::TrustedProxies;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

fn expecting(trusted: &str, timeout: Duration) -> FrontOptions {
    let mut options = FrontOptions::default();
    options.proxy_protocol = Some(ProxyProtocol {
        trusted: TrustedProxies::parse([trusted]).unwrap(),
        timeout,
    });
    options
}

/// Answers with both ends of the connection.
async fn telling(options: FrontOptions) -> Gateway {
    Gateway::with_service(options, |request| async move {
        let peer: &Peer = request.extensions().get().unwrap();
        Ok(answer(200, &format!("{} {}", peer.addr, peer.local)))
    })
    .await
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n";
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\x12\x67\x01\xbb";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[tokio::test]
async fn the_ends_of_the_connection_are_those_that_the_proxy_tells() {
    let gateway = telling(expecting("127.0.0.0/8", DEADLINE)).await;
    for header in [V1, V2] {
        let mut client = gateway.connect().await;
        client.write_all(header).await.unwrap();
        // It holds for every request of the connection.
        for _ in 0..2 {
            client.write_all(get("/").as_bytes()).await.unwrap();
            let (_, ends) = read_response(&mut client).await;
            assert_eq!(ends, "192.0.2.1:4711 198.51.100.1:443");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_for_itself_is_the_client() {
    let gateway = telling(expecting("127.0.0.0/8", DEADLINE)).await;
    let mut client = gateway.connect().await;
    let own = client.local_addr().unwrap();
    client.write_all(LOCAL).await.unwrap();
    client.write_all(get("/").as_bytes()).await.unwrap();
    let (_, ends) = read_response(&mut client).await;
    assert_eq!(ends, format!("{own} {}", gateway.addr));
}

#[tokio::test]
async fn hazard_54_who_is_no_trusted_proxy_may_not_connect() {
    let gateway = telling(expecting("10.0.0.0/8", DEADLINE)).await;
    for beginning in [V1, b""] {
        let request = [beginning, get("/").as_bytes()].concat();
        let mut client = gateway.connect().await;
        // It may be gone before all is written.
        let _ = client.write_all(&request).await;
        assert_eq!(read_to_end(&mut client).await, "");
    }
}

#[tokio::test]
async fn hazard_54_without_the_header_nothing_is_served() {
    let gateway = telling(expecting("127.0.0.0/8", DEADLINE)).await;
    for beginning in [&b""[..], b"PROXY TCP4 1.2.3 4.5.6.7 1 2\r\n", b"PROXY\r\n"] {
        let mut client = gateway.connect().await;
        let _ = client.write_all(beginning).await;
        let _ = client.write_all(get("/").repeat(4).as_bytes()).await;
        assert_eq!(
            read_to_end(&mut client).await,
            "",
            "{}",
            beginning.escape_ascii()
        );
    }
}

#[tokio::test]
async fn hazard_54_a_header_where_none_is_expected_is_no_request() {
    let gateway = telling(FrontOptions::default()).await;
    let mut client = gateway.connect().await;
    let _ = client.write_all(V1).await;
    let _ = client.write_all(get("/").as_bytes()).await;
    let said = read_to_end(&mut client).await;
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
}

#[tokio::test]
async fn hazard_50_a_header_that_does_not_come_is_not_waited_for() {
    let gateway = telling(expecting("127.0.0.0/8", Duration::from_millis(50))).await;
    for beginning in [&b""[..], b"PROXY TCP4 192.0.2.1 ", &V2[..14]] {
        let mut client = gateway.connect().await;
        client.write_all(beginning).await.unwrap();
        assert_eq!(read_to_end(&mut client).await, "");
    }
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_header() {
    let gateway = telling(expecting("127.0.0.0/8", DEADLINE * 10)).await;
    let client = gateway.connect().await;
    assert!(gateway.stopped().await.all_finished());
    drop(client);
}
