//! The store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use onlyonce::Claimed;
use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Fenced, Lease, RecordId, Renewal, Store, StoreError,
    Watchers,
};
use onlyonce_postgres::transactional::{Listener, READ_COMMITTED, SERIALIZABLE, Sql, Transactions};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, Socket};

use crate::driver::TokioPostgres;
use crate::{NoTransaction, Tx};

/// How long a step of the connection that listens may take.
const LISTENING: Duration = Duration::from_secs(5);

/// A store whose claims are transactions. Cloning is cheap and gives the same store.
///
/// See the [crate's documentation](crate).
#[derive(Clone)]
pub struct TransactionalStore(Transactions<TokioPostgres>);

/// Makes a [`TransactionalStore`] with settings of one's own.
///
/// # Example
/// ```no_run
/// use deadpool_postgres::Pool;
/// use onlyonce_tokio_postgres::TransactionalStore;
/// use tokio_postgres::{Config, NoTls};
///
/// # async fn example(config: Config, pool: Pool) -> Result<(), onlyonce_core::StoreError> {
/// let store = TransactionalStore::builder(pool)
///     .schema("idempotency")
///     .serializable()
///     .listen(config, NoTls)
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder makes nothing until `build` is called"]
pub struct Builder {
    pool: Pool,
    schema: String,
    begin: &'static str,
    listen: Option<Arc<Listen>>,
}

/// Makes what listens on a channel.
type Listen = dyn Fn(String, Watchers) -> Listener + Send + Sync;

impl Builder {
    /// In which schema of the database the records lie. Default: `onlyonce`.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// Transactions are serializable. One that can't be serialized is undone, and its client gets
    /// 503 with `Retry-After`: its retry executes again. Default: read committed.
    pub fn serializable(mut self) -> Self {
        self.begin = SERIALIZABLE;
        self
    }

    /// Whoever waits is notified of what other nodes commit, on one connection besides those of the
    /// pool, which does not give its connections' notifications away. It is made at the first wait.
    /// Default: who waits is notified of what this process does, and looks for itself each second.
    pub fn listen<T>(mut self, config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        self.listen = Some(Arc::new(move |channel, watchers| {
            Listener::new(config.clone(), tls.clone(), channel, watchers, LISTENING)
        }));
        self
    }

    /// Looks whether the schema is there.
    ///
    /// # Errors
    /// [`Misconfigured`](onlyonce_core::StoreErrorKind::Misconfigured) when it is not, or is of
    /// another version; [`Unavailable`](onlyonce_core::StoreErrorKind::Unavailable) when the server
    /// can't be reached.
    pub async fn build(self) -> Result<TransactionalStore, StoreError> {
        let watchers = Watchers::new();
        let sql = Sql::new(&self.schema)?;
        let listener = self.listen;
        let listener = listener.map(|listen| listen(sql.channel.clone(), watchers.clone()));
        let driver = TokioPostgres {
            pool: self.pool,
            sql,
            begin: self.begin,
            listener,
        };
        let opened = Transactions::open(driver, &self.schema, watchers).await?;
        Ok(TransactionalStore(opened))
    }
}

impl TransactionalStore {
    /// A store on the schema `onlyonce` of the pool's database.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub async fn new(pool: Pool) -> Result<Self, StoreError> {
        Self::builder(pool).build().await
    }

    /// Makes a store with settings of one's own.
    pub fn builder(pool: Pool) -> Builder {
        Builder {
            pool,
            schema: "onlyonce".to_owned(),
            begin: READ_COMMITTED,
            listen: None,
        }
    }

    /// The transaction of a claim, for code that has no extractor: a job of
    /// [`Engine::run_with`](onlyonce::Engine::run_with), another framework.
    ///
    /// # Errors
    /// When the claim is not one of this store's that is being executed, or its transaction is in
    /// use already.
    pub fn transaction(&self, claimed: &Claimed) -> Result<Tx, NoTransaction> {
        self.0.borrow(claimed.id(), claimed.fence()).map(Tx)
    }

    /// How many executions hold a transaction open.
    #[must_use]
    pub fn open_transactions(&self) -> usize {
        self.0.open_transactions()
    }
}

impl Store for TransactionalStore {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.0.claim(attempt).await
    }

    /// Nothing to renew: the transaction holds as long as its connection does.
    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        Ok(self.0.renew(lease, renewal))
    }

    /// # Cancellation safety
    /// Goes on to its end by itself; called again, it joins.
    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        self.0.complete(lease, completion, keep).await
    }

    /// # Cancellation safety
    /// Goes on to its end by itself.
    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        Ok(self.0.release(lease).await)
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.0.watch(id).await
    }
}

impl fmt::Debug for TransactionalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalStore")
            .field("open_transactions", &self.open_transactions())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Builder {
    /// Without the settings of connections: they may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("schema", &self.schema)
            .field("begin", &self.begin)
            .field("listens", &self.listen.is_some())
            .finish_non_exhaustive()
    }
}
