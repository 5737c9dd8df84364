//! The connection on which the server tells of changes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Changes, Operation, RecordId, StoreError, StoreErrorKind, Watchers};
use tokio::sync::{OnceCell, watch};
use tokio::time::timeout;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Socket};
use tokio_util::task::AbortOnDropHandle;

use crate::error::{of_connecting, of_query};

/// An idle connection is tried out this often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// After a connection was lost or could not be made.
const PAUSE: Duration = Duration::from_millis(200);

/// Listens from the first watch on, for as long as the store lives.
pub struct Listener {
    setup: Arc<Setup>,
    at_work: OnceCell<AtWork>,
}

struct Setup {
    dial: Box<dyn Dial>,
    channel: String,
    watchers: Watchers,
    limit: Duration,
}

struct AtWork {
    line: watch::Receiver<Line>,
    _task: AbortOnDropHandle<()>,
}

/// The connection, while it listens, and a number that is another one with each.
#[derive(Clone, Default)]
struct Line {
    number: u64,
    client: Option<Arc<Client>>,
}

impl Listener {
    /// Steps of its connection take `limit` at most.
    pub fn new<T>(
        config: Config,
        tls: T,
        channel: String,
        watchers: Watchers,
        limit: Duration,
    ) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let setup = Setup {
            dial: Box::new(Server { config, tls }),
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
    ///
    /// # Errors
    /// [`Unavailable`](StoreErrorKind::Unavailable) when there is no such connection within the
    /// limit.
    #[expect(
        clippy::async_yields_async,
        reason = "changes are awaited by the caller"
    )]
    pub async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        let at_work = self.at_work.get_or_init(|| async {
            let (send, line) = watch::channel(Line::default());
            let task = tokio::spawn(listen(Arc::clone(&self.setup), send));
            AtWork {
                line,
                _task: AbortOnDropHandle::new(task),
            }
        });
        let mut line = at_work.await.line.clone();
        let listening = async {
            loop {
                let seen = line.wait_for(|line| line.client.is_some()).await;
                let seen = seen.map(|line| line.clone()).ok();
                let Some(Line {
                    number,
                    client: Some(client),
                }) = seen
                else {
                    // The task ends with the store alone: until the limit, nothing comes.
                    std::future::pending::<()>().await;
                    continue;
                };
                // The server tells of earlier changes before it answers: they wake nobody who
                // watches from now on.
                if client.batch_execute("SELECT 1").await.is_err() {
                    let _ = line.changed().await;
                    continue;
                }
                let changes = self.setup.watchers.watch(id);
                // All who were there when a connection broke have been woken.
                if line.borrow().number == number {
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

async fn listen(setup: Arc<Setup>, line: watch::Sender<Line>) {
    loop {
        let ended = setup.listen(&line).await;
        line.send_modify(|line| {
            line.number += 1;
            line.client = None;
        });
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
    async fn listen(&self, line: &watch::Sender<Line>) -> Result<(), StoreError> {
        const OPERATION: Operation = Operation::Watch;
        let dialling = timeout(self.limit, self.dial.dial(self.watchers.clone()));
        let Ok(connected) = dialling.await else {
            return Ok(());
        };
        let (client, mut reading) = connected.map_err(|error| of_connecting(OPERATION, error))?;
        let begin = format!("LISTEN \"{}\"", self.channel);
        self.ask(&client, &begin).await?;
        let client = Arc::new(client);
        line.send_modify(|line| line.client = Some(Arc::clone(&client)));
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

/// Makes connections, whatever their TLS.
trait Dial: Send + Sync {
    /// A connection, and the task that reads it.
    fn dial(&self, watchers: Watchers) -> Dialling<'_>;
}

type Dialling<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, AbortOnDropHandle<()>), Error>> + Send + 'a>>;

struct Server<T> {
    config: Config,
    tls: T,
}

impl<T> Dial for Server<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn dial(&self, watchers: Watchers) -> Dialling<'_> {
        Box::pin(async move {
            let (client, mut connection) = self.config.connect(self.tls.clone()).await?;
            let reading = tokio::spawn(async move {
                while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                    if let AsyncMessage::Notification(notification) = message
                        && let Ok(id) = notification.payload().parse::<RecordId>()
                    {
                        watchers.notify(&id);
                    }
                }
            });
            Ok((client, AbortOnDropHandle::new(reading)))
        })
    }
}
