//! How a store is made.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use onlyonce_core::{InvalidationHub, StoreError, Watchers};

use crate::announce::Announcements;
use crate::batch::Gate;
use crate::examine::examine;
use crate::listener::Listener;
use crate::migrate;
use crate::query::{Caller, Schema};
use crate::store::{Inner, PostgresStore, misconfigured};
use crate::tls;
use crate::upkeep;
use crate::url::Url;

/// Makes a [`PostgresStore`] with settings of one's own.
///
/// # Example
/// ```no_run
/// use onlyonce_postgres::PostgresStore;
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), onlyonce_core::StoreError> {
/// let store = PostgresStore::builder("postgres://onlyonce:password@10.0.0.1/shop")
///     .schema("idempotency")
///     .connections(16)
///     .timeout(Duration::from_millis(500))
///     .migrate(true)
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder makes nothing until `connect` is called"]
pub struct Builder {
    url: Box<str>,
    schema: Option<String>,
    connections: Option<usize>,
    timeout: Option<Duration>,
    migrate: Option<bool>,
    listen: Option<bool>,
    #[cfg(test)]
    pub(crate) clock: Option<Arc<onlyonce_core::ManualClock>>,
}

const SCHEMA: &str = "onlyonce";
const CONNECTIONS: usize = 8;
const MOST_CONNECTIONS: usize = 1_000;
const TIMEOUT: Duration = Duration::from_secs(1);

/// All settings, if they can work.
pub(crate) struct Settings {
    pub(crate) url: Url,
    pub(crate) schema: Schema,
    pub(crate) connections: usize,
    pub(crate) timeout: Duration,
    pub(crate) migrate: bool,
    pub(crate) listen: bool,
}

impl Builder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            schema: None,
            connections: None,
            timeout: None,
            migrate: None,
            listen: None,
            #[cfg(test)]
            clock: None,
        }
    }

    /// In which schema of the database the records lie: lower-case letters, digits and `_`, 40
    /// characters at most. Stores in different schemas see nothing of each other. Default:
    /// `onlyonce`, or `schema` in the URL.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = Some(name.into());
        self
    }

    /// How many connections the pool has at most, 1 to 1000; waiting takes one more. Default: 8,
    /// or `connections` in the URL.
    pub fn connections(mut self, most: usize) -> Self {
        self.connections = Some(most);
        self
    }

    /// How long a step may take in all, with waiting for a connection: 10 ms to 60 s. Default:
    /// 1 s, or `timeout_ms` in the URL.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Whether connecting brings the schema up to date. Default: no, or `migrate` in the URL; see
    /// [`PostgresStore::migrate`].
    pub fn migrate(mut self, allowed: bool) -> Self {
        self.migrate = Some(allowed);
        self
    }

    /// Whether waiters are notified through `LISTEN`, which needs a session of its own. Without,
    /// they are notified of what this process does, and look for themselves each second. Default:
    /// yes, or `listen` in the URL.
    pub fn listen(mut self, notified: bool) -> Self {
        self.listen = Some(notified);
        self
    }

    pub(crate) fn check(&self) -> Result<Settings, StoreError> {
        let url = Url::parse(&self.url)?;
        let schema = self.schema.as_deref().or(url.schema.as_deref());
        let schema = Schema::new(schema.unwrap_or(SCHEMA))?;
        let connections = self.connections.or(url.connections).unwrap_or(CONNECTIONS);
        if !(1..=MOST_CONNECTIONS).contains(&connections) {
            return Err(misconfigured(format!(
                "`connections` is {connections}; it must be from 1 to {MOST_CONNECTIONS}"
            )));
        }
        let timeout = self.timeout.or(url.timeout).unwrap_or(TIMEOUT);
        if !(Duration::from_millis(10)..=Duration::from_secs(60)).contains(&timeout) {
            return Err(misconfigured(format!(
                "`timeout` is {timeout:?}; it must be from 10 ms to 60 s"
            )));
        }
        Ok(Settings {
            schema,
            connections,
            timeout,
            migrate: self.migrate.or(url.migrate).unwrap_or(false),
            listen: self.listen.or(url.listen).unwrap_or(true),
            url,
        })
    }

    /// Connects, looks at the server, and begins to sweep expired records.
    ///
    /// # Errors
    /// [`Misconfigured`](onlyonce_core::StoreErrorKind::Misconfigured), with the remedy, for a URL
    /// that can't be read, a wrong password or database, a server that is too old, a replica, a
    /// schema that is missing or of another version, a right that is lacking;
    /// [`Unavailable`](onlyonce_core::StoreErrorKind::Unavailable) or
    /// [`Timeout`](onlyonce_core::StoreErrorKind::Timeout) when no server can be reached. No
    /// message shows a password.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(self) -> Result<PostgresStore, StoreError> {
        let settings = self.check()?;
        let tls = tls::connector(settings.url.ssl_mode, settings.url.ssl_roots.as_deref())?;
        let config = settings.url.config;
        let manager = Manager::from_config(
            config.clone(),
            tls.clone(),
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = Pool::builder(manager)
            .max_size(settings.connections)
            .build();
        let pool = pool.map_err(|error| misconfigured("no pool").with_source(error))?;
        let caller = Caller {
            pool,
            limit: settings.timeout,
        };
        if settings.migrate {
            migrate::run(&caller, &settings.schema).await?;
        }
        let warnings = examine(&caller, &settings.schema).await?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let watchers = Watchers::new();
        let announcements = Arc::new(Announcements {
            hub: InvalidationHub::new(),
            at_work: AtomicBool::new(false),
            config: config.clone(),
            tls: tls.clone(),
            channel: settings.schema.void_channel(),
            limit: settings.timeout,
            listens: settings.listen,
        });
        let listener = settings.listen.then(|| {
            let channel = settings.schema.channel();
            Listener::new(config, tls, channel, watchers.clone(), settings.timeout)
        });
        // Half of the connections for each kind; the rest for what goes alone.
        let flights = (settings.connections / 2).max(1);
        let inner = Arc::new(Inner {
            statements: settings.schema.statements(),
            claims: Gate::new(flights),
            endings: Gate::new(flights),
            caller,
            watchers,
            listener,
            announcements,
            warnings,
            #[cfg(test)]
            clock: self.clock,
        });
        upkeep::begin(&inner);
        Ok(PostgresStore(inner))
    }
}

impl fmt::Debug for Builder {
    /// Without the URL: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .field("timeout", &self.timeout)
            .field("migrate", &self.migrate)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}
