//! One statement at a time, on whatever connection is free.

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use onlyonce_core::{Operation, StoreError, StoreErrorKind};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::error::{is_lost, of_pool, of_query};
use crate::store::misconfigured;

/// How often a step that may be repeated is tried when connections break.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(25);

/// A parameter and its type: nothing is prepared, so nobody else says.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// The pool, and how long anything may take.
pub(crate) struct Caller {
    pub(crate) pool: Pool,
    pub(crate) limit: Duration,
}

/// The schema's name, which is safe to stand in a statement as it is.
#[derive(Clone, Debug)]
pub(crate) struct Schema(String);

/// The calls of our functions.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) claim: String,
    pub(crate) renew: String,
    pub(crate) complete: String,
    pub(crate) release: String,
    pub(crate) watch: String,
    pub(crate) list: String,
    pub(crate) show: String,
    pub(crate) resolve: String,
    pub(crate) forget: String,
    pub(crate) count: String,
    pub(crate) sweep: String,
    pub(crate) keep_secret: String,
    /// As operators write it.
    pub(crate) secret_table: String,
}

impl Schema {
    pub(crate) fn new(name: &str) -> Result<Self, StoreError> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        if !begins || name.len() > 40 || !name.chars().all(fits) || name.starts_with("pg_") {
            return Err(misconfigured(format!(
                "`schema` is `{}`; it must be lower-case letters, digits and `_`, not begin with a \
                 digit or `pg_`, and have at most 40 characters",
                name.escape_debug()
            )));
        }
        Ok(Self(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Its name in double quotes, as it may be a word of SQL.
    pub(crate) fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }

    /// The channel of its notifications.
    pub(crate) fn channel(&self) -> String {
        format!("onlyonce_{}", self.0)
    }

    /// The channel on which it is told whose copies are void.
    pub(crate) fn void_channel(&self) -> String {
        format!("onlyonce_{}_void", self.0)
    }

    pub(crate) fn statements(&self) -> Statements {
        let s = self.quoted();
        // Without the result, which may be large.
        let head = "id, state, status, attempt, fence, fingerprint, label, \
                    greatest(lease_until - n.now, 0) AS lease_left, \
                    greatest(n.now - created, 0) AS age, expires - n.now AS expires_in";
        let now = format!("(SELECT {s}.millis($1) AS now OFFSET 0) n");
        // A lease that has run out counts as unknown.
        let kind = "CASE WHEN state = 0 AND lease_until <= n.now THEN 1 ELSE state END";
        Statements {
            claim: format!(
                "SELECT c.* FROM unnest($1, $2, $3, $4, $5, $6, $7) WITH ORDINALITY \
                     AS k(id, nonce, print, lease, keep, retry, label, place), \
                     LATERAL {s}.claim(id, nonce, print, lease, keep, retry, k.label, $8) c \
                 ORDER BY place"
            ),
            renew: format!("SELECT {s}.renew($1, $2, $3, $4, $5)"),
            complete: format!(
                "SELECT c FROM unnest($1, $2, $3, $4, $5, $6, $7) WITH ORDINALITY \
                     AS k(id, fence, state, status, print, result, keep, place), \
                     LATERAL {s}.complete(id, fence, state, status, print, result, keep, $8) c \
                 ORDER BY place"
            ),
            release: format!("SELECT {s}.release($1, $2, $3)"),
            watch: format!("SELECT {s}.watch($1)"),
            list: format!(
                "SELECT {head} FROM {s}.record, {now} \
                 WHERE expires > n.now AND ($2::bytea IS NULL OR id > $2) \
                 AND ($3::smallint IS NULL OR {kind} = $3) ORDER BY id LIMIT $4"
            ),
            show: format!(
                "SELECT {head}, result FROM {s}.record, {now} WHERE id = $2 AND expires > n.now"
            ),
            resolve: format!("SELECT {s}.resolve($1, $2, $3, $4, $5)"),
            forget: format!("SELECT {s}.forget($1, $2)"),
            count: format!(
                "SELECT {kind} AS kind, count(*), \
                 coalesce(sum(pg_column_size(record.*)), 0)::bigint \
                 FROM {s}.record, {now} WHERE expires > n.now GROUP BY 1"
            ),
            sweep: format!("SELECT {s}.sweep($1, $2)"),
            keep_secret: format!("SELECT {s}.keep_secret($1)"),
            secret_table: format!("{}.secret", self.0),
        }
    }
}

impl Caller {
    /// Runs a statement. When its connection turns out to be dead, another one is tried, as long as
    /// nothing was sent on it, or `repeatable` says that doing it twice is doing it once, however
    /// much later the second time comes.
    ///
    /// # Cancellation safety
    /// A connection whose answer nobody has read is closed, not given back.
    pub(crate) async fn query(
        &self,
        operation: Operation,
        repeatable: bool,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let limit = self.limit;
        self.query_within(limit, operation, repeatable, statement, parameters)
            .await
    }

    /// As [`query`](Self::query), for what may take longer than a step of a request.
    pub(crate) async fn query_within(
        &self,
        limit: Duration,
        operation: Operation,
        repeatable: bool,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let work = self.query_on(None, operation, repeatable, statement, parameters);
        within(limit, operation, work).await
    }

    /// As [`query`](Self::query), beginning with a connection that is there already, and without a
    /// time limit.
    pub(crate) async fn query_on(
        &self,
        mut first: Option<Borrowed>,
        operation: Operation,
        repeatable: bool,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let mut tries = TRIES;
        let mut broke = false;
        loop {
            tries -= 1;
            let connection = match first.take() {
                Some(connection) => Ok(connection),
                None => self.connection(operation).await,
            };
            let connection = match connection {
                // Nothing is sent on it, so that nothing can come of it.
                Ok(connection) if connection.client().is_closed() && tries > 0 => {
                    broke = true;
                    continue;
                }
                Ok(connection) => connection,
                // What broke the connection may not be over yet.
                Err(error) if broke && tries > 0 && error.is_retryable() => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match connection.client().query_typed(statement, parameters).await {
                Ok(rows) => {
                    connection.give_back();
                    return Ok(rows);
                }
                Err(error) if is_lost(&error) && repeatable && tries > 0 => broke = true,
                Err(error) => {
                    if !is_lost(&error) {
                        connection.give_back();
                    }
                    return Err(of_query(operation, error));
                }
            }
        }
    }

    /// A connection, to be given back.
    pub(crate) async fn connection(&self, operation: Operation) -> Result<Borrowed, StoreError> {
        let object = self.pool.get().await;
        let object = object.map_err(|error| of_pool(operation, error))?;
        Ok(Borrowed::new(object))
    }

    pub(crate) async fn in_time<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        within(self.limit, operation, work).await
    }
}

async fn within<T>(
    limit: Duration,
    operation: Operation,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|elapsed| {
        let message = format!("PostgreSQL did not answer within {limit:?}");
        Err(StoreError::new(operation, StoreErrorKind::Timeout, message).with_source(elapsed))
    })
}

/// A connection of the pool; dropped, it is closed: nobody knows what is still under way on it.
pub struct Borrowed(Option<Object>);

impl Borrowed {
    /// It is closed unless it is given back.
    #[must_use]
    pub fn new(object: Object) -> Self {
        Self(Some(object))
    }

    /// The connection itself.
    ///
    /// # Panics
    /// Never: giving it back consumes it.
    pub fn client(&self) -> &Object {
        self.0.as_ref().expect("it is taken only at the end")
    }

    /// All that was asked has been answered, and no transaction is open.
    pub fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}
