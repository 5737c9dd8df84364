//! Connections to a database, for what others keep there.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use onlyonce_core::{Operation, StoreError, StoreErrorKind};
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use crate::builder::Builder;
use crate::error::{of_connecting, of_query, strange};
use crate::query::{Caller, Schema};
use crate::store::misconfigured;
use crate::tls;

/// Connections to the database of a [store's URL](crate#urls), for Onlyonce's other crates that
/// keep something in the same schema. Cloning is cheap and gives the same connections.
///
/// Not part of the public interface: it may change with any version.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    caller: Caller,
    schema: Schema,
    config: Config,
    tls: MakeRustlsConnect,
    migrates: bool,
    listens: bool,
}

/// What becomes of a channel that is listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// From now on everything is heard.
    Connected,
    /// This was notified of.
    Message(String),
    /// Something may be missed from now on, until [`Connected`](Self::Connected).
    Lost,
}

/// Keeps a channel listened to; dropped, nothing is heard any more.
#[derive(Debug)]
pub struct Listening(
    #[expect(dead_code, reason = "it is there to be dropped")] AbortOnDropHandle<()>,
);

/// Fewer than of a store: what is kept besides records is asked for seldom.
const CONNECTIONS: usize = 4;
/// An idle connection is tried out this often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Between two tries to connect, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

impl Link {
    /// Connects, and finds out whether that works.
    ///
    /// # Errors
    /// As [`Builder::connect`], but for what is about records.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let settings = Builder::new(url).check()?;
        let tls = tls::connector(settings.url.ssl_mode, settings.url.ssl_roots.as_deref())?;
        let manager = Manager::from_config(
            settings.url.config.clone(),
            tls.clone(),
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = Pool::builder(manager).max_size(CONNECTIONS.min(settings.connections));
        let pool = pool.build();
        let pool = pool.map_err(|error| misconfigured("no pool").with_source(error))?;
        let link = Self(Arc::new(Inner {
            caller: Caller {
                pool,
                limit: settings.timeout,
            },
            schema: settings.schema,
            config: settings.url.config,
            tls,
            migrates: settings.migrate,
            listens: settings.listen,
        }));
        let caller = &link.0.caller;
        caller.query(Operation::Open, true, "SELECT 1", &[]).await?;
        Ok(link)
    }

    /// The schema's name as it may stand in a statement.
    #[must_use]
    pub fn schema(&self) -> String {
        self.0.schema.quoted()
    }

    /// The name of a channel of this schema's own.
    #[must_use]
    pub fn channel(&self, name: &str) -> String {
        format!("{}_{name}", self.0.schema.channel())
    }

    /// Whether the URL allows for migrations at the start.
    #[must_use]
    pub fn migrates(&self) -> bool {
        self.0.migrates
    }

    /// Whether the URL allows for a session to listen on.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.0.listens
    }

    /// Runs a statement, within the store's time limit. With `repeatable`, doing it twice is as
    /// good as doing it once: it is sent again when a connection breaks.
    ///
    /// # Errors
    /// When it can't be done; it may have been done all the same.
    pub async fn query(
        &self,
        repeatable: bool,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, StoreError> {
        let caller = &self.0.caller;
        caller
            .query(Operation::Inspect, repeatable, statement, parameters)
            .await
    }

    /// As [`query`](Self::query), for what is only read and may take its time.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn read_within(
        &self,
        limit: Duration,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, StoreError> {
        let caller = &self.0.caller;
        caller
            .query_within(limit, Operation::Inspect, true, statement, parameters)
            .await
    }

    /// Makes what `component` needs in the schema, unless it is there in this version. Of several
    /// who do it at once, one does it. In the texts, of which each leads to one version more,
    /// `{schema}` stands for the schema's name and `{channel}` for the component's channel, quoted
    /// as it must be. All or nothing.
    ///
    /// # Errors
    /// When it can't be done; also when a newer version is there.
    pub async fn migrate(&self, component: &str, texts: &[&str]) -> Result<(), StoreError> {
        let schema = self.schema();
        let current = i32::try_from(texts.len()).unwrap_or(i32::MAX);
        let found = self.version(component).await?;
        if found > current {
            return Err(misconfigured(format!(
                "`{component}` in the schema {schema} has version {found}, and this Onlyonce knows \
                 versions up to {current}: it is too old for it"
            )));
        }
        if found == current {
            return Ok(());
        }
        let lock = format!(
            "SELECT pg_advisory_xact_lock(hashtext('onlyonce'), hashtext('{}'));",
            self.0.schema.as_str()
        );
        // One message is one transaction: half a migration is none.
        let mut script = format!(
            "{lock}
             CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE IF NOT EXISTS {schema}.component (
                 name    text PRIMARY KEY,
                 version integer NOT NULL,
                 applied timestamptz NOT NULL DEFAULT now()
             );\n"
        );
        let channel = format!("'{}'", self.channel(component));
        let from = usize::try_from(found).unwrap_or_default();
        for text in texts.iter().skip(from) {
            let text = text.replace("{schema}", &schema);
            script.push_str(&text.replace("{channel}", &channel));
            script.push('\n');
        }
        script.push_str(&format!(
            "INSERT INTO {schema}.component AS c (name, version) VALUES ('{component}', {current})
             ON CONFLICT (name) DO UPDATE SET version = excluded.version, applied = now();"
        ));
        let done = self.batch(&script).await;
        match done {
            // Somebody else may have been quicker.
            Err(_) if self.version(component).await? >= current => Ok(()),
            done => done,
        }
    }

    /// Which version of a component is there; 0 for none.
    ///
    /// # Errors
    /// When it can't be found out.
    pub async fn version(&self, component: &str) -> Result<i32, StoreError> {
        let schema = self.schema();
        let there = format!("SELECT to_regclass('{schema}.component') IS NOT NULL");
        let rows = self.query(true, &there, &[]).await?;
        let there = rows.first().map(|row| row.try_get(0)).transpose();
        if !there.map_err(|error| self.strange(error))?.unwrap_or(false) {
            return Ok(0);
        }
        let version = format!("SELECT version FROM {schema}.component WHERE name = $1");
        let rows = self
            .query(true, &version, &[(&component, Type::TEXT)])
            .await?;
        let version = rows.first().map(|row| row.try_get(0)).transpose();
        Ok(version.map_err(|error| self.strange(error))?.unwrap_or(0))
    }

    async fn batch(&self, script: &str) -> Result<(), StoreError> {
        const OPERATION: Operation = Operation::Open;
        let connection = self.0.caller.connection(OPERATION).await?;
        // Building an index on a large table takes its time.
        let limit = Duration::from_secs(3_600);
        match timeout(limit, connection.client().batch_execute(script)).await {
            Ok(done) => {
                connection.give_back();
                done.map_err(|error| of_query(OPERATION, error))
            }
            Err(elapsed) => {
                let message = format!("the migration did not end within {limit:?}");
                let error = StoreError::new(OPERATION, StoreErrorKind::Timeout, message);
                Err(error.with_source(elapsed))
            }
        }
    }

    /// The error that says that the database holds something which makes no sense.
    #[must_use]
    pub fn strange(&self, error: tokio_postgres::Error) -> StoreError {
        strange(Operation::Inspect, error)
    }

    /// Hears what a channel is notified of, for as long as what is returned lives; nothing where
    /// the URL says `listen=off`. `hear` must be quick.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use = "dropped, nothing is heard any more"]
    pub fn listen(
        &self,
        channel: String,
        hear: impl Fn(Heard) + Send + Sync + 'static,
    ) -> Listening {
        let (link, hear) = (self.clone(), Arc::new(hear));
        Listening(AbortOnDropHandle::new(tokio::spawn(async move {
            if !link.0.listens {
                return;
            }
            let mut pause = PAUSES.0;
            loop {
                let mut connected = false;
                let ended = link.0.listen(&channel, &hear, &mut connected).await;
                hear(Heard::Lost);
                if let Err(error) = ended {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        channel,
                        "nothing is heard just now"
                    );
                }
                pause = if connected {
                    PAUSES.0
                } else {
                    (pause * 2).min(PAUSES.1)
                };
                tokio::time::sleep(pause).await;
            }
        })))
    }
}

impl Inner {
    /// Until the connection breaks.
    async fn listen(
        &self,
        channel: &str,
        hear: &Arc<impl Fn(Heard) + Send + Sync + 'static>,
        connected: &mut bool,
    ) -> Result<(), StoreError> {
        const OPERATION: Operation = Operation::Watch;
        // On the heap: connecting takes much room, once.
        let connecting = Box::pin(self.config.connect(self.tls.clone()));
        let connecting = async { connecting.await.map_err(|e| of_connecting(OPERATION, e)) };
        let (client, mut connection) = self.in_time(connecting).await?;
        let to = Arc::clone(hear);
        let mut reading = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message {
                    to(Heard::Message(notification.payload().to_owned()));
                }
            }
        }));
        let ask = async |statement: &str| {
            let asked = client.batch_execute(statement).await;
            asked.map_err(|error| of_query(OPERATION, error))
        };
        self.in_time(ask(&format!("LISTEN \"{channel}\""))).await?;
        *connected = true;
        hear(Heard::Connected);
        loop {
            tokio::select! {
                _ = &mut reading => return Ok(()),
                () = tokio::time::sleep(HEARTBEAT) => self.in_time(ask("SELECT 1")).await?,
            }
        }
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = timeout(self.caller.limit, work).await;
        done.unwrap_or_else(|elapsed| {
            let message = "the connection that listens is silent";
            let error = StoreError::new(Operation::Watch, StoreErrorKind::Timeout, message);
            Err(error.with_source(elapsed))
        })
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("schema", &self.0.schema)
            .finish_non_exhaustive()
    }
}
