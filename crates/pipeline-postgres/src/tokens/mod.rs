//! Sessions of tokens, and tickets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Operation, StoreError, StoreErrorKind};
use onlyonce_pipeline::auth::store::{
    Current, Look, Session, SessionKey, TokenKey, TokenStore, TokenStoreError, UserKey,
};
use onlyonce_postgres::Link;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

/// Sessions and tickets on PostgreSQL, for all processes that use the same database and schema.
/// Cloning is cheap and gives the same store.
///
/// They are rows of `token_session`, `token_current` and `token_ticket` in the URL's schema; each
/// step is one statement. Neither tokens nor users' names are stored, only hashes. The server's
/// clock alone decides what has expired; expired rows go, a few at a time, when others come.
///
/// # Example
/// ```no_run
/// use onlyonce_pipeline::auth::{TokenKeys, Tokens};
/// use onlyonce_pipeline_postgres::PostgresTokenStore;
///
/// # async fn example(keys: TokenKeys) -> Result<(), Box<dyn std::error::Error>> {
/// let url = "postgres://onlyonce:password@127.0.0.1/shop";
/// PostgresTokenStore::migrate(url).await?;
/// let store = PostgresTokenStore::connect(url).await?;
/// let tokens = Tokens::builder("admin", keys).with_store(store).build()?;
/// # let _ = tokens; Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresTokenStore(Arc<Shared>);

struct Shared {
    link: Link,
    statements: Statements,
}

struct Statements {
    begin: String,
    look: String,
    extend: String,
    replace: String,
    end: String,
    end_all: String,
    put_ticket: String,
    take_ticket: String,
}

/// In their order; the first leads to version 1. Never changed once released.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/tokens_1.sql")];
const COMPONENT: &str = "tokens";

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl PostgresTokenStore {
    /// Connects to the server of a URL: see [`onlyonce_postgres`](onlyonce_postgres#urls). Makes
    /// the tables where the URL says `migrate=auto`.
    ///
    /// # Errors
    /// [`Misconfigured`](StoreErrorKind::Misconfigured), with the remedy, for a URL that can't be
    /// read, a wrong password or database, tables that are missing or of another version;
    /// [`Unavailable`](StoreErrorKind::Unavailable) or [`Timeout`](StoreErrorKind::Timeout) when
    /// the server can't be reached.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let link = Link::connect(url).await?;
        if link.migrates() {
            link.migrate(COMPONENT, &MIGRATIONS).await?;
        }
        let found = link.version(COMPONENT).await?;
        if usize::try_from(found).ok() != Some(MIGRATIONS.len()) {
            let message = format!(
                "the tables of tokens in the schema {} have version {found}, and version {} is \
                 needed: run `onlyonce migrate`, or write `migrate=auto` in the URL (0: there are \
                 none)",
                link.schema(),
                MIGRATIONS.len()
            );
            let kind = StoreErrorKind::Misconfigured;
            return Err(StoreError::new(Operation::Open, kind, message));
        }
        let statements = Statements::new(&link.schema());
        Ok(Self(Arc::new(Shared { link, statements })))
    }

    /// Brings the tables up to date. Of several who do it at once, one does it.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); also when the tables are newer than this version knows.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn migrate(url: &str) -> Result<(), StoreError> {
        let link = Link::connect(url).await?;
        link.migrate(COMPONENT, &MIGRATIONS).await
    }

    /// What a function that does one step says.
    async fn step(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<bool, TokenStoreError> {
        let rows = self.0.link.query(true, statement, parameters).await?;
        let done: Result<bool, Error> = rows.first().map_or(Ok(false), |row| row.try_get(0));
        done.map_err(|error| self.strange(error))
    }

    fn strange(&self, error: Error) -> TokenStoreError {
        self.0.link.strange(error).into()
    }
}

impl Statements {
    fn new(s: &str) -> Self {
        let call = |call: &str| format!("SELECT {s}.token_{call}");
        let millis = |span: &str| format!("(extract(epoch FROM {span}) * 1000)::bigint");
        Self {
            begin: call("begin($1, $2, $3, $4)"),
            look: format!(
                "SELECT s.refreshes, {age} AS age, {remaining} AS remaining, c.token = $2 AS this \
                 FROM (SELECT 1) AS one \
                 LEFT JOIN {s}.token_session s \
                     ON s.user_key = $1 AND s.token = $2 AND s.until > now() \
                 LEFT JOIN ({s}.token_current c JOIN {s}.token_session o \
                     ON o.user_key = c.user_key AND o.token = c.token AND o.until > now()) \
                     ON c.user_key = $1",
                age = millis("now() - s.since"),
                remaining = millis("s.until - now()"),
            ),
            extend: call("extend($1, $2, $3, $4)"),
            replace: call("replace($1, $2, $3, $4, $5)"),
            end: call("end($1, $2)"),
            end_all: call("end_all($1)"),
            put_ticket: call("put_ticket($1, $2, $3)"),
            take_ticket: format!(
                "DELETE FROM {s}.token_ticket WHERE ticket = $1 RETURNING grants, until > now()"
            ),
        }
    }
}

impl TokenStore for PostgresTokenStore {
    async fn begin(
        &self,
        session: &SessionKey,
        keep: Duration,
        at_most: usize,
    ) -> Result<(), TokenStoreError> {
        let (user, token) = names(session);
        let (keep, at_most) = (
            millis(keep),
            i64::try_from(at_most).unwrap_or(i64::MAX).max(1),
        );
        let parameters: [Parameter<'_>; 4] = [
            (&user, Type::BYTEA),
            (&token, Type::BYTEA),
            (&keep, Type::INT8),
            (&at_most, Type::INT8),
        ];
        let began = self.step(&self.0.statements.begin, &parameters);
        began.await.map(|_| ())
    }

    async fn look(&self, session: &SessionKey) -> Result<Look, TokenStoreError> {
        let (user, token) = names(session);
        let parameters: [Parameter<'_>; 2] = [(&user, Type::BYTEA), (&token, Type::BYTEA)];
        let query = self
            .0
            .link
            .query(true, &self.0.statements.look, &parameters);
        let rows = query.await?;
        let row = rows.first().ok_or_else(|| {
            let message = "it did not answer a question that always has an answer";
            TokenStoreError::new(StoreErrorKind::Corrupt, message)
        })?;
        read(row).map_err(|error| self.strange(error))
    }

    async fn extend(
        &self,
        session: &SessionKey,
        refreshes: u32,
        keep: Duration,
    ) -> Result<bool, TokenStoreError> {
        let (user, token) = names(session);
        let (refreshes, keep) = (count(refreshes), millis(keep));
        let parameters: [Parameter<'_>; 4] = [
            (&user, Type::BYTEA),
            (&token, Type::BYTEA),
            (&refreshes, Type::INT4),
            (&keep, Type::INT8),
        ];
        self.step(&self.0.statements.extend, &parameters).await
    }

    async fn replace(
        &self,
        session: &SessionKey,
        token: &TokenKey,
        refreshes: u32,
        keep: Duration,
    ) -> Result<bool, TokenStoreError> {
        let (user, old) = names(session);
        let new = token.as_bytes().as_slice();
        let (refreshes, keep) = (count(refreshes), millis(keep));
        let parameters: [Parameter<'_>; 5] = [
            (&user, Type::BYTEA),
            (&old, Type::BYTEA),
            (&new, Type::BYTEA),
            (&refreshes, Type::INT4),
            (&keep, Type::INT8),
        ];
        self.step(&self.0.statements.replace, &parameters).await
    }

    async fn end(&self, session: &SessionKey) -> Result<bool, TokenStoreError> {
        let (user, token) = names(session);
        let parameters: [Parameter<'_>; 2] = [(&user, Type::BYTEA), (&token, Type::BYTEA)];
        self.step(&self.0.statements.end, &parameters).await
    }

    async fn end_all(&self, user: &UserKey) -> Result<(), TokenStoreError> {
        let user = user.as_bytes().as_slice();
        let parameters: [Parameter<'_>; 1] = [(&user, Type::BYTEA)];
        let ended = self.step(&self.0.statements.end_all, &parameters);
        ended.await.map(|_| ())
    }

    async fn put_ticket(
        &self,
        ticket: &TokenKey,
        grant: &[u8],
        keep: Duration,
    ) -> Result<(), TokenStoreError> {
        let (ticket, keep) = (ticket.as_bytes().as_slice(), millis(keep));
        let parameters: [Parameter<'_>; 3] = [
            (&ticket, Type::BYTEA),
            (&grant, Type::BYTEA),
            (&keep, Type::INT8),
        ];
        let put = self.step(&self.0.statements.put_ticket, &parameters);
        put.await.map(|_| ())
    }

    async fn take_ticket(&self, ticket: &TokenKey) -> Result<Option<Vec<u8>>, TokenStoreError> {
        let ticket = ticket.as_bytes().as_slice();
        let statement = &self.0.statements.take_ticket;
        let parameters: [Parameter<'_>; 1] = [(&ticket, Type::BYTEA)];
        // Not repeated: a second try would find nothing and say so.
        let query = self.0.link.query(false, statement, &parameters);
        let rows = query.await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let taken = row.try_get(0).and_then(|grant: Vec<u8>| {
            let is_live: bool = row.try_get(1)?;
            Ok(is_live.then_some(grant))
        });
        taken.map_err(|error| self.strange(error))
    }
}

fn names(session: &SessionKey) -> (&[u8], &[u8]) {
    (session.user.as_bytes(), session.token.as_bytes())
}

fn read(row: &Row) -> Result<Look, Error> {
    let refreshes: Option<i32> = row.try_get("refreshes")?;
    let (age, remaining): (Option<i64>, Option<i64>) =
        (row.try_get("age")?, row.try_get("remaining")?);
    let this: Option<bool> = row.try_get("this")?;
    let span = |millis: Option<i64>| {
        Duration::from_millis(u64::try_from(millis.unwrap_or_default()).unwrap_or_default())
    };
    Ok(Look {
        session: refreshes.map(|refreshes| Session {
            refreshes: refreshes.unsigned_abs(),
            age: span(age),
            remaining: span(remaining),
        }),
        current: match this {
            None => Current::None,
            Some(true) => Current::This,
            Some(false) => Current::Other,
        },
    })
}

fn count(refreshes: u32) -> i32 {
    i32::try_from(refreshes).unwrap_or(i32::MAX - 1)
}

/// Whole milliseconds, one at least, and not more than dates reach.
fn millis(keep: Duration) -> i64 {
    const CENTURY: i64 = 100 * 366 * 24 * 60 * 60 * 1000;
    i64::try_from(keep.as_millis())
        .unwrap_or(CENTURY)
        .clamp(1, CENTURY)
}

impl fmt::Debug for PostgresTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresTokenStore")
    }
}
