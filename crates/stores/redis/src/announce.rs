//! Announcements of void copies.
//!
//! A script that forgets or resolves a record publishes its identifier on one channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onlyonce_core::{InvalidationHub, InvalidationListener, Invalidations, Subscription};

use crate::RedisStore;
use crate::listen::{Ear, Pause, listen_once};
use crate::store::Inner;

/// Who listens, and whether somebody sees to the connections.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    hub: InvalidationHub,
    at_work: AtomicBool,
}

/// Copies are trusted for 5 s and one [`timeout`](crate::Builder::timeout) from the last sign of
/// life of every master. Needs a tokio runtime.
impl Invalidations for RedisStore {
    fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription {
        let announcements = &self.0.announcements;
        let subscription = announcements.hub.subscribe(listener);
        if !announcements.at_work.swap(true, Ordering::SeqCst) {
            tokio::spawn(work(Arc::clone(&self.0)));
        }
        subscription
    }
}

/// Keeps connections as long as anybody listens.
async fn work(inner: Arc<Inner>) {
    let announcements = &inner.announcements;
    let channel = inner.caller.places.announcements();
    let ear: Arc<dyn Ear> = Arc::new(HubEar(announcements.hub.clone()));
    let mut pause = Pause::new();
    loop {
        let connected = listen_once(&inner, &channel, &ear).await;
        if announcements.hub.is_empty() {
            announcements.at_work.store(false, Ordering::SeqCst);
            // Somebody may have come in between, and seen that there is somebody at work.
            let came = !announcements.hub.is_empty();
            if !came || announcements.at_work.swap(true, Ordering::SeqCst) {
                return;
            }
        }
        pause.wait(connected).await;
    }
}

struct HubEar(InvalidationHub);

impl Ear for HubEar {
    fn connected(&self, trust: Duration) {
        self.0.connected(trust);
    }

    fn lost(&self) {
        self.0.lost();
    }

    fn message(&self, payload: &[u8]) {
        if let Some(id) = std::str::from_utf8(payload)
            .ok()
            .and_then(|id| id.parse().ok())
        {
            self.0.void(&id);
        }
    }

    fn is_closed(&self) -> bool {
        self.0.is_empty()
    }
}
