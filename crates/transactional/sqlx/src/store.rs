//! The store.

use std::fmt;
use std::time::Duration;

use onlyonce::Claimed;
use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Fenced, Lease, RecordId, Renewal, Store, StoreError,
    Watchers,
};
use onlyonce_postgres::transactional::{READ_COMMITTED, SERIALIZABLE, Sql, Transactions};
use sqlx::PgPool;

use crate::driver::Sqlx;
use crate::listen::Listener;
use crate::{NoTransaction, Tx};

/// A store whose claims are transactions. Cloning is cheap and gives the same store.
///
/// See the [crate's documentation](crate).
#[derive(Clone)]
pub struct TransactionalStore(Transactions<Sqlx>);

/// Makes a [`TransactionalStore`] with settings of one's own.
///
/// # Example
/// ```no_run
/// use onlyonce_sqlx::TransactionalStore;
///
/// # async fn example(pool: sqlx::PgPool) -> Result<(), onlyonce_core::StoreError> {
/// let store = TransactionalStore::builder(pool)
///     .schema("idempotency")
///     .serializable()
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder makes nothing until `build` is called"]
pub struct Builder {
    pool: PgPool,
    schema: String,
    begin: &'static str,
}

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

    /// Looks whether the schema is there.
    ///
    /// # Errors
    /// [`Misconfigured`](onlyonce_core::StoreErrorKind::Misconfigured) when it is not, or is of
    /// another version; [`Unavailable`](onlyonce_core::StoreErrorKind::Unavailable) when the server
    /// can't be reached.
    pub async fn build(self) -> Result<TransactionalStore, StoreError> {
        let sql = Sql::new(&self.schema)?;
        let driver = Sqlx {
            listener: Listener::new(sql.channel.clone()),
            pool: self.pool,
            sql,
            begin: self.begin,
        };
        let opened = Transactions::open(driver, &self.schema, Watchers::new()).await?;
        Ok(TransactionalStore(opened))
    }
}

impl TransactionalStore {
    /// A store on the schema `onlyonce` of the pool's database.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub async fn new(pool: PgPool) -> Result<Self, StoreError> {
        Self::builder(pool).build().await
    }

    /// Makes a store with settings of one's own.
    pub fn builder(pool: PgPool) -> Builder {
        Builder {
            pool,
            schema: "onlyonce".to_owned(),
            begin: READ_COMMITTED,
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
