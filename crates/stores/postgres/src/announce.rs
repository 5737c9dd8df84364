//! Announcements of void copies: a connection on which they come in.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onlyonce_core::{
    InvalidationHub, InvalidationListener, Invalidations, Operation, StoreError, StoreErrorKind,
    Subscription,
};
use tokio::time::{Instant, timeout};
use tokio_postgres::{AsyncMessage, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use crate::PostgresStore;
use crate::error::{of_connecting, of_query};

/// Between two signs of life of the connection.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Between two tries to connect, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Who listens, and whether somebody sees to the connection.
pub(crate) struct Announcements {
    pub(crate) hub: InvalidationHub,
    pub(crate) at_work: AtomicBool,
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
    pub(crate) channel: String,
    pub(crate) limit: Duration,
    /// Without, nothing is ever promised.
    pub(crate) listens: bool,
}

/// Copies are trusted for 5 s and one [`timeout`](crate::Builder::timeout) from the connection's
/// last sign of life; with `listen=off` never. Needs a tokio runtime.
impl Invalidations for PostgresStore {
    fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription {
        let announcements = &self.0.announcements;
        let subscription = announcements.hub.subscribe(listener);
        if announcements.listens && !announcements.at_work.swap(true, Ordering::SeqCst) {
            tokio::spawn(work(Arc::clone(announcements)));
        }
        subscription
    }
}

/// Keeps the connection as long as anybody listens.
async fn work(announcements: Arc<Announcements>) {
    let mut pause = PAUSES.0;
    loop {
        let mut connected = false;
        if let Err(error) = announcements.listen(&mut connected).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "announcements lost"
            );
        }
        announcements.hub.lost();
        if announcements.hub.is_empty() {
            announcements.at_work.store(false, Ordering::SeqCst);
            // Somebody may have come in between, and seen that there is somebody at work.
            let came = !announcements.hub.is_empty();
            if !came || announcements.at_work.swap(true, Ordering::SeqCst) {
                return;
            }
        }
        pause = if connected {
            PAUSES.0
        } else {
            (pause * 2).min(PAUSES.1)
        };
        tokio::time::sleep(pause).await;
    }
}

impl Announcements {
    /// Until the connection is lost, or nobody listens any more.
    async fn listen(&self, connected: &mut bool) -> Result<(), StoreError> {
        // On the heap: connecting takes much room, once.
        let connecting = Box::pin(self.config.connect(self.tls.clone()));
        let (client, mut connection) = self
            .in_time(async {
                connecting
                    .await
                    .map_err(|e| of_connecting(Operation::Watch, e))
            })
            .await?;
        let hub = self.hub.clone();
        let mut reading = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message
                    && let Ok(id) = notification.payload().parse()
                {
                    hub.void(&id);
                }
            }
            // Not for the task that sees to it to say: it may be long in coming.
            hub.lost();
        }));
        let mut ask = format!("LISTEN \"{}\"", self.channel);
        loop {
            let sent = Instant::now();
            let asked = async {
                let answered = client.batch_execute(&ask).await;
                answered.map_err(|error| of_query(Operation::Watch, error))
            };
            self.in_time(asked).await?;
            // The server tells of what was committed before it says that it is ready again.
            if reading.is_finished() {
                return Ok(());
            }
            let trust = (HEARTBEAT + self.limit).saturating_sub(sent.elapsed());
            self.hub.connected(trust);
            *connected = true;
            ask = "SELECT 1".to_owned();
            let until_then = HEARTBEAT.saturating_sub(sent.elapsed());
            if timeout(until_then, &mut reading).await.is_ok() || self.hub.is_empty() {
                return Ok(());
            }
        }
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        timeout(self.limit, work).await.unwrap_or_else(|elapsed| {
            Err(StoreError::new(
                Operation::Watch,
                StoreErrorKind::Timeout,
                "the connection of announcements is silent",
            )
            .with_source(elapsed))
        })
    }
}
