//! SQLite: a file of its own.

use std::path::Path;
use std::time::Duration;

use onlyonce_core::{BoxError, Timestamp};
use onlyonce_pipeline::access_log::{
    AccessRow, RowId, RowQuery, RowSink, RowSummary, SinkError, SinkFuture,
};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection as _, Sqlite, query::Query, sqlite::SqliteArguments};

use crate::columns;
use crate::outcome;
use crate::statement::{Dialect, Statement, Value};

/// In their order; the first is version 1. Never changed once released.
const MIGRATIONS: [&str; 1] = [include_str!("../migrations/sqlite/0001_rows.sql")];
/// Says that a file is ours: "only".
const APPLICATION_ID: i64 = 0x6f6e_6c79;
const DIALECT: Dialect = Dialect { position: "instr" };
/// Rows in one statement: SQLite binds up to 32766 values, 23 of them for each.
const ROWS: usize = 1400;
/// How long a statement waits for another process to finish writing.
const BUSY: Duration = Duration::from_secs(5);
const READERS: u32 = 2;
/// Pages given back to the file system after a step of the purge.
const FREED: &str = "PRAGMA incremental_vacuum(2000)";

/// Keeps rows in a SQLite file, in WAL mode: readers don't wait for the one writer.
///
/// A crash of the process loses nothing that was written; a loss of power may lose the last
/// seconds, and nothing else.
#[derive(Clone, Debug)]
pub struct SqliteSink {
    /// One connection: SQLite has one writer at a time anyway.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteSink {
    /// Opens the file, or makes it, readable by this user alone. Its folder must be there.
    ///
    /// # Errors
    /// When the file can't be opened or made, is another program's, or is of a newer version.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, SinkError> {
        let path = path.as_ref();
        let failed = |source: BoxError| {
            let source = Located {
                path: path.display().to_string(),
                source,
            };
            SinkError::new("opened", source)
        };
        Self::try_open(path).await.map_err(failed)
    }

    async fn try_open(path: &Path) -> Result<Self, BoxError> {
        make_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY);
        let writing = options
            .clone()
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(writing)
            .await?;
        migrate(&writer).await?;
        let reading = options.pragma("query_only", "ON");
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_lazy_with(reading);
        Ok(Self { writer, readers })
    }

    /// Closes the file. Whatever is still asked of it afterwards fails.
    pub async fn close(&self) {
        self.readers.close().await;
        // The log of writes goes into the file: nothing that matters is left beside it. Where that
        // can't be, the next one to open it sees to it.
        let joined = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)");
        if let Err(error) = joined.execute(&self.writer).await {
            tracing::debug!(%error, "the write-ahead log stays");
        }
        self.writer.close().await;
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
struct Located {
    path: String,
    source: BoxError,
}

/// What is logged is nobody else's business.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

async fn migrate(pool: &SqlitePool) -> Result<(), BoxError> {
    let mut connection = pool.acquire().await?;
    // Before anything is read, so that two processes don't both make the tables.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let number = async |transaction: &mut sqlx::SqliteConnection, pragma: &'static str| {
        sqlx::query_scalar::<_, i64>(pragma)
            .fetch_one(transaction)
            .await
    };
    let owner = number(&mut transaction, "PRAGMA application_id").await?;
    let objects = number(&mut transaction, "SELECT count(*) FROM sqlite_schema").await?;
    if objects > 0 && owner != APPLICATION_ID {
        return Err("the file is another program's: name one of its own for the access log".into());
    }
    let found = number(&mut transaction, "PRAGMA user_version").await?;
    let found = usize::try_from(found)?;
    if found > MIGRATIONS.len() {
        let newer =
            "the file was written by a newer version of this program: use that, or another file";
        return Err(newer.into());
    }
    for migration in &MIGRATIONS[found..] {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    if found < MIGRATIONS.len() {
        // Numbers of ours; pragmas bind no values.
        let marks = format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}",
            MIGRATIONS.len()
        );
        sqlx::raw_sql(AssertSqlSafe(marks))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

impl RowSink for SqliteSink {
    fn write<'a>(&'a self, rows: &'a [AccessRow]) -> SinkFuture<'a, ()> {
        let writing = async move {
            // Another size is another text: there is no use in keeping them all prepared.
            let insert = |rows| bound(Statement::insert(rows)).persistent(false);
            if rows.is_empty() {
                return Ok(());
            }
            if rows.len() <= ROWS {
                // A statement is a transaction by itself, which SQLite ends whatever happens.
                insert(rows).execute(&self.writer).await?;
                return Ok(());
            }
            // A full disk may end a transaction without sqlx, which then counts one too many: what
            // comes next on the connection would seem to be written, and never be. So nothing does.
            let mut connection = self.writer.acquire().await?;
            connection.close_on_drop();
            let mut transaction = connection.begin().await?;
            for rows in rows.chunks(ROWS) {
                insert(rows).execute(&mut *transaction).await?;
            }
            transaction.commit().await
        };
        outcome::of("written", writing)
    }

    fn list<'a>(&'a self, query: &'a RowQuery) -> SinkFuture<'a, Vec<RowSummary>> {
        let reading = async move {
            let select = bound(Statement::list(query, DIALECT));
            let rows = select.fetch_all(&self.readers).await?;
            rows.iter()
                .map(columns::summary)
                .collect::<Result<Vec<_>, BoxError>>()
        };
        outcome::of("read", reading)
    }

    fn find(&self, id: RowId) -> SinkFuture<'_, Option<AccessRow>> {
        let reading = async move {
            let select = bound(Statement::find(id));
            let row = select.fetch_optional(&self.readers).await?;
            row.as_ref().map(columns::row).transpose()
        };
        outcome::of("read", reading)
    }

    fn purge(&self, before: Timestamp, most: usize) -> SinkFuture<'_, u64> {
        let purging = async move {
            let delete = bound(Statement::purge(before, most));
            let purged = delete.execute(&self.writer).await?.rows_affected();
            if purged > 0 {
                sqlx::raw_sql(FREED).execute(&self.writer).await?;
            }
            Ok::<_, sqlx::Error>(purged)
        };
        outcome::of("purged", purging)
    }
}

fn bound(statement: Statement) -> Query<'static, Sqlite, SqliteArguments> {
    // The text is put together from ours; what users type is a value.
    let mut query = sqlx::query(AssertSqlSafe(unnumbered(&statement.sql)));
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

/// `sql` with `?` for `$1`, `$2` and so on, which stand in their order: SQLite takes these for names,
/// and looks through all of them for each.
fn unnumbered(sql: &str) -> String {
    let mut pieces = sql.split('$');
    let mut unnumbered = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        unnumbered.push('?');
        unnumbered.push_str(piece.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    unnumbered
}
