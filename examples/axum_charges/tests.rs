//! The API over a real socket, on the disk store.

#[path = "../client.rs"]
mod client;

use std::net::SocketAddr;

use client::{Answer, post, send};

use super::*;

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

struct Server {
    address: SocketAddr,
    provider: Provider,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(folder.path().join("data")).unwrap();
        let provider = Provider::default();
        let app = app(&Engine::new(store), provider.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            address,
            provider,
            _folder: folder,
        }
    }

    async fn post(&self, caller: &str, path: &str, key: &str, body: &str) -> Answer {
        let mut request = post(path, key, body);
        let token = format!("Bearer {caller}s-token").parse().unwrap();
        request.headers_mut().insert("authorization", token);
        send(self.address, request).await
    }
}

#[tokio::test]
async fn a_charge_that_is_sent_again_charges_once() {
    let server = Server::start().await;
    let first = server
        .post("alice", "/charges", KEY, r#"{"amount":500}"#)
        .await;
    assert_eq!((first.status, first.is_replayed()), (201, false));
    let retry = server
        .post("alice", "/charges", KEY, r#"{"amount":500}"#)
        .await;
    assert_eq!((retry.status, retry.is_replayed()), (201, true));
    assert_eq!(retry.body, first.body);
    assert_eq!(server.provider.charges(), 1);

    let changed = server
        .post("alice", "/charges", KEY, r#"{"amount":900}"#)
        .await;
    assert_eq!(changed.status, 422);
    assert!(changed.text().contains("key-reused"), "{}", changed.text());
    assert_eq!(server.provider.charges(), 1);
}

#[tokio::test]
async fn each_caller_has_keys_of_its_own() {
    let server = Server::start().await;
    for caller in ["alice", "bob"] {
        let charged = server
            .post(caller, "/charges", KEY, r#"{"amount":500}"#)
            .await;
        assert_eq!((charged.status, charged.is_replayed()), (201, false));
    }
    assert_eq!(server.provider.charges(), 2, "and derives keys of its own");
    let stranger = server
        .post("mallory", "/charges", KEY, r#"{"amount":500}"#)
        .await;
    assert_eq!(
        stranger.status, 401,
        "authentication comes before the replay"
    );
}

#[tokio::test]
async fn routes_have_policies_of_their_own() {
    let server = Server::start().await;
    let short = server
        .post("alice", "/charges", "short", r#"{"amount":500}"#)
        .await;
    assert_eq!(short.status, 400, "payments take UUIDs alone");
    let note = server.post("alice", "/notes", "short", "hello").await;
    assert_eq!((note.status, note.text()), (200, "alice notes: hello"));
    assert!(
        server
            .post("alice", "/notes", "short", "hello")
            .await
            .is_replayed()
    );
}
