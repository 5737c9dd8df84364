//! What a driver does: statements, one at a time.

use std::future::Future;

use onlyonce_core::{Changes, Done, RecordId, StoreError, Watchers};

use super::end::Ending;
use super::failure::Failure;
use crate::query::Schema;
use crate::record::RawRecord;
use crate::store::{fence_number, fingerprint_bytes, millis};

/// A pool of connections, and how to work with it.
pub trait Driver: Send + Sync + 'static {
    /// An open transaction. Dropped, it is rolled back, and its connection is not used for anything
    /// else before that has happened.
    type Transaction: Send + 'static;

    fn schema_version(&self) -> impl Future<Output = Result<i32, Failure>> + Send;

    /// Begins a transaction, claims in it, and sets the savepoint.
    fn begin(
        &self,
        id: &RecordId,
    ) -> impl Future<Output = Result<(Self::Transaction, Found), Failure>> + Send;

    /// Goes back to the savepoint.
    fn undo(
        &self,
        transaction: &mut Self::Transaction,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Writes the record.
    fn write(
        &self,
        transaction: &mut Self::Transaction,
        record: &Written<'_>,
    ) -> impl Future<Output = Result<Wrote, Failure>> + Send;

    fn commit(
        &self,
        transaction: Self::Transaction,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    fn rollback(
        &self,
        transaction: Self::Transaction,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Waits for a transaction that has the record's lock.
    fn was_committed(
        &self,
        id: &RecordId,
        fence: i64,
    ) -> impl Future<Output = Result<bool, Failure>> + Send;

    /// Tells other nodes' waiters.
    fn announce(&self, id: &RecordId) -> impl Future<Output = Result<(), Failure>> + Send;

    fn watch(
        &self,
        id: &RecordId,
        watchers: &Watchers,
    ) -> impl Future<Output = Result<Changes, StoreError>> + Send;
}

/// The calls of our functions, and the channel of their notifications.
#[derive(Debug)]
pub struct Sql {
    pub claim: String,
    pub write: String,
    pub committed: String,
    pub watch: String,
    pub announce: String,
    pub version: String,
    pub channel: String,
}

/// What the claim found.
#[derive(Debug)]
pub struct Found {
    /// Another transaction is at work on it.
    pub busy: bool,
    pub won: bool,
    /// Of a claim that is won, the fence; of one that is neither, the whole record.
    pub record: RawRecord,
}

/// What is written in the end, as the parameters of [`Sql::write`] in their order.
#[derive(Debug)]
pub struct Written<'a> {
    pub id: &'a [u8],
    pub fence: i64,
    pub nonce: &'a [u8],
    pub state: i16,
    pub status: Option<i32>,
    pub fingerprint: Option<Vec<u8>>,
    pub result: Option<&'a [u8]>,
    pub label: &'a [u8],
    /// Milliseconds, as the next.
    pub age: i64,
    pub keep: i64,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub struct Wrote {
    /// It is written; if not, another one is there.
    pub applied: bool,
    /// It is in the transaction that the claim began. If not, the handler has ended that one by
    /// itself, and the record says that the outcome is unknown.
    pub ours: bool,
}

impl Sql {
    /// # Errors
    /// When it can't be a schema's name.
    pub fn new(schema: &str) -> Result<Self, StoreError> {
        let schema = Schema::new(schema)?;
        let name = schema.quoted();
        Ok(Self {
            // The setting goes with the transaction, whoever ends it.
            claim: format!(
                "SELECT c.*, set_config('onlyonce.fence', c.fence::text, true) \
                 FROM {name}.begin_claim($1, NULL) c"
            ),
            // In a transaction that is not ours any more nobody knows what stands.
            write: format!(
                "SELECT {name}.end_claim($1, $2, $3, CASE WHEN ours THEN $4 ELSE 1::smallint END, \
                     CASE WHEN ours THEN $5 END, $6, CASE WHEN ours THEN $7 END, $8, $9, $10, NULL), \
                     ours \
                 FROM (SELECT coalesce(current_setting('onlyonce.fence', true), '') \
                           = $2::bigint::text AS ours) t"
            ),
            committed: format!("SELECT {name}.was_committed($1, $2)"),
            watch: format!("SELECT {name}.watch($1)"),
            announce: format!("SELECT {name}.announce($1)"),
            version: format!("SELECT coalesce(max(version), 0) FROM {name}.migration"),
            channel: schema.channel(),
        })
    }
}

impl Ending {
    pub(super) fn written(&self) -> Written<'_> {
        let (state, status, result) = match &self.completion.done {
            Done::Unknown => (1, None, None),
            Done::Kept { status, result } => (2, Some(i32::from(*status)), Some(&result[..])),
            Done::NotKept { status } => (3, Some(i32::from(*status)), None),
        };
        Written {
            id: self.lease.id.as_bytes(),
            fence: fence_number(self.lease.fence),
            nonce: self.nonce.as_bytes(),
            state,
            status,
            fingerprint: self.fingerprint.as_ref().map(fingerprint_bytes),
            result,
            label: self.label.as_bytes(),
            age: millis(self.age),
            keep: millis(self.keep),
        }
    }
}
