//! The store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Effects, Fence, Fenced, Fingerprint, Lease, Operation,
    RecordId, Renewal, Store, StoreError, StoreErrorKind, Timestamp, Watchers,
};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::announce::Announcements;
use crate::batch::{Ending, Gate};
use crate::builder::Builder;
use crate::error::strange;
use crate::examine::Warning;
use crate::listener::Listener;
use crate::migrate::{self, Migrated};
use crate::query::{Borrowed, Caller, Parameter, Statements};
use crate::record::{self, RawRecord, corrupt};

/// Records on PostgreSQL. Cloning is cheap and gives the same store.
///
/// See the [crate's documentation](crate) for URLs, settings and guarantees.
#[derive(Clone)]
pub struct PostgresStore(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) caller: Caller,
    pub(crate) statements: Statements,
    pub(crate) claims: Gate<Attempt>,
    pub(crate) endings: Gate<Ending>,
    pub(crate) watchers: Watchers,
    pub(crate) listener: Option<Listener>,
    pub(crate) announcements: Arc<Announcements>,
    pub(crate) warnings: Vec<Warning>,
    #[cfg(test)]
    pub(crate) clock: Option<Arc<onlyonce_core::ManualClock>>,
}

impl PostgresStore {
    /// Connects to the server of a URL, with the defaults of [`builder`](Self::builder).
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder(url).connect().await
    }

    /// Makes a store with settings of one's own, which win over those in the URL.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// Brings the schema of a URL up to date, and says what it did. Of several who do it at once,
    /// one does it. Stores that are at work go on meanwhile.
    ///
    /// # Errors
    /// As [`Builder::connect`]; also when the schema is newer than this version knows.
    pub async fn migrate(url: &str) -> Result<Migrated, StoreError> {
        migrate::by_url(url).await
    }

    /// What [`migrate`](Self::migrate) would do; changes nothing.
    ///
    /// # Errors
    /// As [`migrate`](Self::migrate).
    pub async fn migration(url: &str) -> Result<Migrated, StoreError> {
        migrate::look(url).await
    }

    /// Reads a URL without connecting anywhere: for a look at settings.
    ///
    /// # Errors
    /// [`Misconfigured`](onlyonce_core::StoreErrorKind::Misconfigured), with the remedy.
    pub fn check_url(url: &str) -> Result<(), StoreError> {
        Builder::new(url).check().map(drop)
    }

    /// The URL as it may be shown: `[hidden]` stands for users, passwords and all options but our
    /// own.
    #[must_use]
    pub fn shown_url(url: &str) -> String {
        crate::url::shown(url)
    }

    /// What connecting found that may lose records.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.0.warnings
    }

    /// How many watches are open, over all records.
    #[must_use]
    pub fn open_watches(&self) -> usize {
        self.0.watchers.len()
    }
}

impl Store for PostgresStore {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.0.together(attempt.clone()).await
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        let fingerprint = renewal.fingerprint.as_ref().map(fingerprint_bytes);
        let (fence, extend) = (fence_number(lease.fence), millis(renewal.extend));
        let rows = self
            .0
            .call(
                Operation::Renew,
                true,
                &self.0.statements.renew,
                &[
                    (&&lease.id.as_bytes()[..], Type::BYTEA),
                    (&fence, Type::INT8),
                    (&extend, Type::INT8),
                    (&fingerprint, Type::BYTEA),
                ],
            )
            .await
            .map_err(not_for_good)?;
        fenced(Operation::Renew, &rows)
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let ending = Ending {
            lease: lease.clone(),
            completion: completion.clone(),
            keep,
        };
        let ended = self.0.together(ending).await;
        self.0.watchers.notify(&lease.id);
        ended.map_err(not_for_good)
    }

    /// Not sent again by itself when a connection breaks: the second answer would not tell whose
    /// doing it was.
    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        let fence = fence_number(lease.fence);
        let rows = self
            .0
            .call(
                Operation::Release,
                false,
                &self.0.statements.release,
                &[
                    (&&lease.id.as_bytes()[..], Type::BYTEA),
                    (&fence, Type::INT8),
                ],
            )
            .await
            .map_err(not_for_good)?;
        self.0.watchers.notify(&lease.id);
        fenced(Operation::Release, &rows)
    }

    /// Tells the server whom to notify, on a connection of all watches. When that breaks, every
    /// watch resolves: whoever waits looks at the record again.
    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        let Some(listener) = &self.0.listener else {
            return Ok(self.0.watchers.watch(id));
        };
        let changes = listener.watch(id).await?;
        let parameter: Parameter<'_> = (&&id.as_bytes()[..], Type::BYTEA);
        self.0
            .caller
            .query(
                Operation::Watch,
                true,
                &self.0.statements.watch,
                &[parameter],
            )
            .await?;
        Ok(changes)
    }
}

impl Inner {
    /// Calls one of our functions, whose last parameter is the clock that only tests set.
    pub(crate) async fn call(
        &self,
        operation: Operation,
        repeatable: bool,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.call_on(None, operation, repeatable, statement, parameters)
            .await
    }

    /// The same, beginning with a connection that is there already.
    pub(crate) async fn call_on(
        &self,
        connection: Option<Borrowed>,
        operation: Operation,
        repeatable: bool,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let now = self.injected_time();
        let mut all: Vec<Parameter<'_>> = Vec::with_capacity(parameters.len() + 1);
        all.extend_from_slice(parameters);
        all.push((&now, Type::INT8));
        let caller = &self.caller;
        let work = caller.query_on(connection, operation, repeatable, statement, &all);
        caller.in_time(operation, work).await
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "its twin for tests uses it")]
    pub(crate) fn injected_time(&self) -> Option<i64> {
        None
    }

    #[cfg(test)]
    pub(crate) fn injected_time(&self) -> Option<i64> {
        use onlyonce_core::Clock as _;
        let clock = self.clock.as_ref()?;
        i64::try_from(clock.now().as_millis()).ok()
    }
}

/// The longest span that the server is given, in milliseconds: some 35,000 years.
const LONGEST: u64 = 1 << 50;

/// A span in whole milliseconds, rounded up: a promise of "at least so long" is kept.
pub(crate) fn millis(span: Duration) -> i64 {
    let millis = Timestamp::from_millis(0).plus(span).as_millis();
    i64::try_from(millis.min(LONGEST)).unwrap_or(i64::MAX)
}

/// A fence that no sequence has given fits no record.
pub(crate) fn fence_number(fence: Fence) -> i64 {
    i64::try_from(fence.get()).unwrap_or(-1)
}

pub(crate) fn fingerprint_bytes(fingerprint: &Fingerprint) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(33);
    bytes.push(fingerprint.algorithm() as u8);
    bytes.extend(fingerprint.digest());
    bytes
}

/// What a row of `claim` says.
pub(crate) fn claim_of(attempt: &Attempt, row: &Row) -> Result<Claim, StoreError> {
    const OPERATION: Operation = Operation::Claim;
    let won: bool = row.try_get("won").map_err(|e| strange(OPERATION, e))?;
    let columns = RawRecord::of_row(OPERATION, row, true)?;
    if !won {
        return Ok(Claim::Held(columns.parse(OPERATION)?));
    }
    Ok(Claim::Won(Lease {
        id: attempt.id,
        fence: record::fence(OPERATION, columns.fence)?,
        attempt: record::attempt(OPERATION, columns.attempt)?,
        effects: Effects::Apart,
    }))
}

pub(crate) fn only(operation: Operation, rows: &[Row]) -> Result<&Row, StoreError> {
    match rows {
        [row] => Ok(row),
        _ => Err(corrupt(operation)),
    }
}

/// A full disk refuses new claims; who has one tries again, as there will be room some time.
fn not_for_good(error: StoreError) -> StoreError {
    if error.kind() != StoreErrorKind::Full {
        return error;
    }
    let message = "the server's disk is full: what is under way waits for room";
    StoreError::new(error.operation(), StoreErrorKind::Unavailable, message).with_source(error)
}

fn fenced(operation: Operation, rows: &[Row]) -> Result<Fenced, StoreError> {
    let applied = only(operation, rows)?.try_get(0);
    Ok(if applied.map_err(|e| strange(operation, e))? {
        Fenced::Applied
    } else {
        Fenced::Superseded
    })
}

/// An error of connecting.
pub(crate) fn misconfigured(message: impl Into<Box<str>>) -> StoreError {
    StoreError::new(Operation::Open, StoreErrorKind::Misconfigured, message)
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}
