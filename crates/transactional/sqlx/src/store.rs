//! The store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce::Claimed;
use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Fenced, Lease, Operation, RecordId, Renewal, Store,
    StoreError, StoreErrorKind, Watchers,
};
use sqlx::{AssertSqlSafe, PgPool};

use crate::listen::Listener;
use crate::open::Executions;
use crate::tx::{NoTransaction, Tx};

/// A store whose claims are transactions. Cloning is cheap and gives the same store.
///
/// See the [crate's documentation](crate).
#[derive(Clone)]
pub struct TransactionalStore(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) pool: PgPool,
    pub(crate) sql: Sql,
    pub(crate) begin: &'static str,
    pub(crate) executions: Executions,
    pub(crate) watchers: Watchers,
    pub(crate) listener: Listener,
}

/// The calls of our functions.
pub(crate) struct Sql {
    pub(crate) claim: String,
    pub(crate) end: String,
    pub(crate) committed: String,
    pub(crate) watch: String,
    pub(crate) announce: String,
}

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
        self.begin = "BEGIN ISOLATION LEVEL SERIALIZABLE";
        self
    }

    /// Looks whether the schema is there.
    ///
    /// # Errors
    /// [`Misconfigured`](StoreErrorKind::Misconfigured) when it is not, or is of another version;
    /// [`Unavailable`](StoreErrorKind::Unavailable) when the server can't be reached.
    pub async fn build(self) -> Result<TransactionalStore, StoreError> {
        let schema = onlyonce_postgres::quoted_schema(&self.schema)?;
        let needed = onlyonce_postgres::SCHEMA_VERSION;
        let found = sqlx::query_scalar::<_, i32>(AssertSqlSafe(format!(
            "SELECT coalesce(max(version), 0) FROM {schema}.migration"
        )));
        match found.fetch_one(&self.pool).await {
            Ok(found) if found == needed => {}
            Ok(found) => {
                return Err(misconfigured(format!(
                    "the schema {schema} has version {found}, and version {needed} is needed: run \
                     `onlyonce migrate`"
                )));
            }
            Err(error) if is_state(&error, &["42P01", "3F000"]) => {
                return Err(misconfigured(format!(
                    "the database has no schema {schema} of ours: run `onlyonce migrate`"
                ))
                .with_source(error));
            }
            Err(error) => return Err(failed(Operation::Open, error)),
        }
        let watchers = Watchers::new();
        let channel = format!("onlyonce_{}", self.schema);
        Ok(TransactionalStore(Arc::new(Inner {
            sql: Sql {
                claim: format!("SELECT * FROM {schema}.begin_claim($1, NULL)"),
                end: format!(
                    "SELECT {schema}.end_claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL)"
                ),
                committed: format!("SELECT {schema}.was_committed($1, $2)"),
                watch: format!("SELECT {schema}.watch($1)"),
                announce: format!("SELECT {schema}.announce($1)"),
            },
            begin: self.begin,
            executions: Executions::default(),
            listener: Listener::new(self.pool.clone(), channel, watchers.clone()),
            watchers,
            pool: self.pool,
        })))
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
            begin: "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }

    /// The transaction of a claim, for code that has no extractor: a job of
    /// [`Engine::run_with`](onlyonce::Engine::run_with), another framework.
    ///
    /// # Errors
    /// When the claim is not one of this store's that is being executed, or its transaction is in
    /// use already.
    pub fn transaction(&self, claimed: &Claimed) -> Result<Tx, NoTransaction> {
        self.0.executions.borrow(claimed.id(), claimed.fence())
    }

    /// How many executions hold a transaction open.
    #[must_use]
    pub fn open_transactions(&self) -> usize {
        self.0.executions.len()
    }
}

impl Store for TransactionalStore {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.0.claim(attempt).await
    }

    /// Nothing to renew: the transaction holds as long as its connection does.
    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        Ok(self.0.executions.renew(lease, renewal))
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
        self.0.release(lease).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        const OPERATION: Operation = Operation::Watch;
        let changes = self.0.listener.watch(id).await?;
        let told = sqlx::query(AssertSqlSafe(self.0.sql.watch.as_str()))
            .bind(&id.as_bytes()[..])
            .execute(&self.0.pool)
            .await;
        told.map_err(|error| failed(OPERATION, error))?;
        Ok(changes)
    }
}

pub(crate) fn failed(operation: Operation, error: sqlx::Error) -> StoreError {
    use StoreErrorKind::{Full, Misconfigured, Unavailable};
    let (kind, message) = if is_state(&error, &["53100"]) {
        (Full, "the server's disk is full")
    } else if is_state(&error, &["42P01", "42883", "3F000"]) {
        (
            Misconfigured,
            "the schema is not there, or of another version: run `onlyonce migrate`",
        )
    } else if is_state(&error, &["42501"]) {
        (Misconfigured, "the user lacks a right in the schema")
    } else if matches!(error, sqlx::Error::PoolTimedOut) {
        (Unavailable, "no connection of the pool is free")
    } else if error.as_database_error().is_some() {
        (Unavailable, "PostgreSQL refuses the step")
    } else {
        (Unavailable, "the connection to PostgreSQL broke")
    };
    StoreError::new(operation, kind, message).with_source(error)
}

/// Whether the server refused with one of these codes.
pub(crate) fn is_state(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| codes.contains(&&*code))
}

pub(crate) fn misconfigured(message: impl Into<Box<str>>) -> StoreError {
    StoreError::new(Operation::Open, StoreErrorKind::Misconfigured, message)
}

impl fmt::Debug for TransactionalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalStore")
            .field("open_transactions", &self.open_transactions())
            .finish_non_exhaustive()
    }
}
