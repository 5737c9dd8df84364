//! The service over a real socket.

#[path = "../client.rs"]
mod client;

use client::{post, send};

use super::*;

#[tokio::test]
async fn a_retry_is_replayed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener));

    let first = send(address, post("/", "a", "hello")).await;
    assert_eq!(first.text(), "execution 1 of 5 bytes\n");
    assert_eq!((first.status, first.is_replayed()), (200, false));
    let retry = send(address, post("/", "a", "hello")).await;
    assert_eq!(retry.text(), "execution 1 of 5 bytes\n");
    assert_eq!((retry.status, retry.is_replayed()), (200, true));
    let other = send(address, post("/", "b", "hello")).await;
    assert_eq!(other.text(), "execution 2 of 5 bytes\n");
}
