//! PostgreSQL: one log for several gateways or services.

use std::str::FromStr as _;
use std::time::Duration;

use onlyonce_core::{BoxError, Timestamp};
use onlyonce_pipeline::access_log::{
    AccessRow, RowId, RowQuery, RowSink, RowSummary, SinkError, SinkFuture,
};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Postgres, query::Query};

use crate::columns;
use crate::outcome;
use crate::statement::{Dialect, Statement, Value};

/// In their order; the first is version 1. Never changed once released.
const MIGRATIONS: [&str; 1] = [include_str!("../migrations/postgres/0001_rows.sql")];
const DIALECT: Dialect = Dialect { position: "strpos" };
/// Rows in one statement: PostgreSQL binds up to 65535 values.
const ROWS: usize = 1000;
const CONNECTIONS: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The server gives a statement up that takes longer: a look for a part of a path, say.
const STATEMENT_TIMEOUT: &str = "20s";

/// Keeps rows in a PostgreSQL database, which any number of processes may share.
#[derive(Clone, Debug)]
pub struct PostgresSink {
    pool: PgPool,
}

impl PostgresSink {
    /// Connects to the database, such as `postgres://user:password@host/database`, and makes its
    /// table in the first schema of the search path.
    ///
    /// # Errors
    /// When the URL is malformed, the database can't be reached or won't have the table, or its
    /// table is of a newer version.
    pub async fn connect(url: &str) -> Result<Self, SinkError> {
        let connecting = async {
            let options = options(url)?;
            // A pool tries until its time is over, and then tells of nothing but that.
            reach(&options).await?.close().await?;
            let pool = PgPoolOptions::new()
                .max_connections(CONNECTIONS)
                .acquire_timeout(CONNECT_TIMEOUT);
            Ok(pool.connect_with(options).await?)
        };
        let connected: Result<PgPool, BoxError> = connecting.await;
        let pool = connected.map_err(|error| SinkError::new("opened", error))?;
        Self::with_pool(pool).await
    }

    /// Whether [`connect`](Self::connect) would succeed. Changes nothing.
    ///
    /// # Errors
    /// When the URL is malformed, the database can't be reached, its table is of a newer version,
    /// or it can't hold every text.
    pub async fn examine(url: &str) -> Result<(), SinkError> {
        let looking = async {
            let mut connection = reach(&options(url)?).await?;
            holds_every_text(&mut connection).await?;
            let version = version(&mut connection).await?.unwrap_or(0);
            connection.close().await?;
            not_newer(version)
        };
        let looked: Result<(), BoxError> = looking.await;
        looked.map_err(|error| SinkError::new("opened", error))
    }

    /// Whether [`connect`](Self::connect) would take the URL, as far as can be told from here.
    ///
    /// # Errors
    /// When it is malformed; the message says how.
    pub fn check_url(url: &str) -> Result<(), SinkError> {
        PgConnectOptions::from_str(url)
            .map(drop)
            .map_err(|error| SinkError::new("opened", error))
    }

    /// Takes a pool that is there already, and makes its table.
    ///
    /// # Errors
    /// When the database can't be reached or won't have the table, or its table is of a newer
    /// version.
    pub async fn with_pool(pool: PgPool) -> Result<Self, SinkError> {
        let migrated = migrate(&pool).await;
        migrated.map_err(|error| SinkError::new("opened", error))?;
        Ok(Self { pool })
    }

    /// Closes all connections. Whatever is still asked afterwards fails.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(url)?
        .application_name("onlyonce access log")
        .options([("statement_timeout", STATEMENT_TIMEOUT)]))
}

async fn reach(options: &PgConnectOptions) -> Result<PgConnection, BoxError> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, options.connect());
    let connected = connecting.await.map_err(|_| "no answer within 10 s")?;
    Ok(connected?)
}

/// A single text with a sign that the database lacks would keep its whole batch out, and anybody can
/// send one.
async fn holds_every_text(connection: &mut PgConnection) -> Result<(), BoxError> {
    let encoding: String = sqlx::query_scalar("SHOW server_encoding")
        .fetch_one(connection)
        .await?;
    // The second takes every byte as it comes.
    if !["UTF8", "SQL_ASCII"].contains(&&*encoding) {
        let narrow = format!(
            "its encoding is {encoding}, in which not every text can be written: make one with \
             CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        );
        return Err(narrow.into());
    }
    Ok(())
}

/// Of the tables that are there; `None` where there are none.
async fn version(connection: &mut PgConnection) -> Result<Option<usize>, BoxError> {
    let known = "SELECT to_regclass('onlyonce_access_log_version') IS NOT NULL";
    let known: bool = sqlx::query_scalar(known)
        .fetch_one(&mut *connection)
        .await?;
    if !known {
        return Ok(None);
    }
    let found: i32 = sqlx::query_scalar("SELECT version FROM onlyonce_access_log_version")
        .fetch_one(connection)
        .await?;
    Ok(Some(usize::try_from(found)?))
}

fn not_newer(version: usize) -> Result<(), BoxError> {
    if version > MIGRATIONS.len() {
        let newer = "its tables were made by a newer version of this program: use that";
        return Err(newer.into());
    }
    Ok(())
}

async fn migrate(pool: &PgPool) -> Result<(), BoxError> {
    let mut transaction = pool.begin().await?;
    // One at a time, whoever starts together.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('onlyonce'), hashtext('access log'))")
        .execute(&mut *transaction)
        .await?;
    holds_every_text(&mut transaction).await?;
    let found = match version(&mut transaction).await? {
        Some(found) => found,
        None => {
            let make = "CREATE TABLE onlyonce_access_log_version (version integer NOT NULL); \
                        INSERT INTO onlyonce_access_log_version VALUES (0)";
            sqlx::raw_sql(make).execute(&mut *transaction).await?;
            0
        }
    };
    not_newer(found)?;
    for migration in &MIGRATIONS[found..] {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    if found < MIGRATIONS.len() {
        sqlx::query("UPDATE onlyonce_access_log_version SET version = $1")
            .bind(i32::try_from(MIGRATIONS.len())?)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

impl RowSink for PostgresSink {
    fn write<'a>(&'a self, rows: &'a [AccessRow]) -> SinkFuture<'a, ()> {
        let writing = async move {
            let mut transaction = self.pool.begin().await?;
            for rows in rows.chunks(ROWS) {
                let insert = bound(Statement::insert(rows));
                insert.execute(&mut *transaction).await?;
            }
            transaction.commit().await
        };
        outcome::of("written", writing)
    }

    fn list<'a>(&'a self, query: &'a RowQuery) -> SinkFuture<'a, Vec<RowSummary>> {
        let reading = async move {
            let select = bound(Statement::list(query, DIALECT));
            let rows = select.fetch_all(&self.pool).await?;
            rows.iter()
                .map(columns::summary)
                .collect::<Result<Vec<_>, BoxError>>()
        };
        outcome::of("read", reading)
    }

    fn find(&self, id: RowId) -> SinkFuture<'_, Option<AccessRow>> {
        let reading = async move {
            let select = bound(Statement::find(id));
            let row = select.fetch_optional(&self.pool).await?;
            row.as_ref().map(columns::row).transpose()
        };
        outcome::of("read", reading)
    }

    fn purge(&self, before: Timestamp, most: usize) -> SinkFuture<'_, u64> {
        let purging = async move {
            let delete = bound(Statement::purge(before, most));
            let purged = delete.execute(&self.pool).await?;
            Ok::<_, sqlx::Error>(purged.rows_affected())
        };
        outcome::of("purged", purging)
    }
}

/// Without preparing: the texts differ with each filter and each number of rows, and behind a
/// pooler the session that prepared one may be another's.
fn bound(statement: Statement) -> Query<'static, Postgres, PgArguments> {
    // The text is put together from ours; what users type is a value.
    let mut query = sqlx::query(AssertSqlSafe(statement.sql)).persistent(false);
    for value in statement.values {
        query = match value {
            Value::Bytes(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::MaybeText(value) => query.bind(value),
            Value::Integer(value) => query.bind(value),
            Value::MaybeInteger(value) => query.bind(value),
        };
    }
    query
}
