//! The suite that every store passes, and the API over a real socket.

#[path = "../client.rs"]
mod client;

use std::time::Duration;

use client::{post, send};
use onlyonce_conformance::{ExactTime, Harness, conformance};
use onlyonce_core::ManualClock;

use super::*;

struct Subject {
    clock: Arc<ManualClock>,
    store: Arc<OwnStore>,
}

impl Harness for Subject {
    type Store = OwnStore;
    const TICK: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn fresh() -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = Arc::new(OwnStore::new(Arc::clone(&clock)));
        Self { clock, store }
    }

    fn store(&self) -> Arc<OwnStore> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn open_watches(&self) -> usize {
        self.store.watchers.len()
    }
}

impl ExactTime for Subject {}

mod suite {
    use super::*;

    conformance! {
        harness: Subject,
        exact_time: yes,
        reopen: no("its records are gone with the process"),
    }
}

#[tokio::test]
async fn a_retry_is_replayed_from_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app(OwnStore::new(SystemClock::new()));
    tokio::spawn(async move { axum::serve(listener, app).await });

    for replayed in [false, true] {
        let answer = send(address, post("/orders", "a", "one pizza")).await;
        assert_eq!(
            (answer.status, answer.text()),
            (200, "order 1: one pizza\n")
        );
        assert_eq!(answer.is_replayed(), replayed);
    }
}
