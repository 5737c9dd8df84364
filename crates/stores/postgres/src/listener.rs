//! The connection on which the server tells of changes.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Changes, Operation, RecordId, StoreError, StoreErrorKind, Watchers};
use tokio::sync::{OnceCell, watch};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{of_connecting, of_query};

/// An idle connection is tried out this often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// After a connection was lost or could not be made.
const PAUSE: Duration = Duration::from_millis(200);

/// Listens from the first watch on, for as long as the store lives.
pub(crate) struct Listener {
    setup: Arc<Setup>,
    at_work: OnceCell<AtWork>,
}

struct Setup {
    config: Config,
    tls: MakeRustlsConnect,
    channel: String,
    watchers: Watchers,
    limit: Duration,
}

struct AtWork {
    /// Odd while it listens; another number with each connection.
    epoch: watch::Receiver<u64>,
    _task: AbortOnDropHandle<()>,
}

impl Listener {
    pub(crate) fn new(
        config: Config,
        tls: MakeRustlsConnect,
        channel: String,
        watchers: Watchers,
        limit: Duration,
    ) -> Self {
        let setup = Setup {
            config,
            tls,
            channel,
            watchers,
            limit,
        };
        Self {
            setup: Arc::new(setup),
            at_work: OnceCell::new(),
        }
    }

    /// Watches a record from now on, once the connection listens. The server is yet to be told.
    #[expect(
        clippy::async_yields_async,
        reason = "changes are awaited by the caller"
    )]
    pub(crate) async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        let at_work = self.at_work.get_or_init(|| async {
            let (send, epoch) = watch::channel(0);
            let task = tokio::spawn(listen(Arc::clone(&self.setup), send));
            AtWork {
                epoch,
                _task: AbortOnDropHandle::new(task),
            }
        });
        let mut epoch = at_work.await.epoch.clone();
        let listening = async {
            loop {
                let seen = epoch.wait_for(|epoch| epoch % 2 == 1).await;
                let seen = seen.map(|epoch| *epoch).ok();
                let Some(seen) = seen else {
                    // The task ends with the store alone: until the limit, nothing comes.
                    std::future::pending::<()>().await;
                    continue;
                };
                let changes = self.setup.watchers.watch(id);
                // All who were there when a connection broke have been woken.
                if *epoch.borrow() == seen {
                    return changes;
                }
            }
        };
        timeout(self.setup.limit, listening)
            .await
            .map_err(|elapsed| {
                StoreError::new(
                    Operation::Watch,
                    StoreErrorKind::Unavailable,
                    "no connection to PostgreSQL that listens for changes",
                )
                .with_source(elapsed)
            })
    }
}

async fn listen(setup: Arc<Setup>, epoch: watch::Sender<u64>) {
    loop {
        let ended = setup.listen(&epoch).await;
        if *epoch.borrow() % 2 == 1 {
            epoch.send_modify(|epoch| *epoch += 1);
        }
        setup.watchers.notify_all();
        if let Err(error) = ended {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "no changes are heard of just now"
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Setup {
    /// Listens until the connection breaks.
    async fn listen(&self, epoch: &watch::Sender<u64>) -> Result<(), StoreError> {
        const OPERATION: Operation = Operation::Watch;
        let connecting = timeout(self.limit, self.config.connect(self.tls.clone()));
        let Ok(connected) = connecting.await else {
            return Ok(());
        };
        let (client, mut connection) =
            connected.map_err(|error| of_connecting(OPERATION, error))?;
        let watchers = self.watchers.clone();
        let mut reading = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message
                    && let Ok(id) = notification.payload().parse::<RecordId>()
                {
                    watchers.notify(&id);
                }
            }
        }));
        let begin = format!("LISTEN \"{}\"", self.channel);
        self.ask(&client, &begin).await?;
        epoch.send_modify(|epoch| *epoch += 1);
        loop {
            tokio::select! {
                _ = &mut reading => return Ok(()),
                () = tokio::time::sleep(HEARTBEAT) => self.ask(&client, "SELECT 1").await?,
            }
        }
    }

    async fn ask(&self, client: &Client, statement: &str) -> Result<(), StoreError> {
        const OPERATION: Operation = Operation::Watch;
        match timeout(self.limit, client.batch_execute(statement)).await {
            Ok(done) => done.map_err(|error| of_query(OPERATION, error)),
            Err(elapsed) => Err(StoreError::new(
                OPERATION,
                StoreErrorKind::Timeout,
                "the connection that listens for changes is silent",
            )
            .with_source(elapsed)),
        }
    }
}
