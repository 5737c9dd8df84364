//! What the crates of the transactional mode share: all that does not depend on the driver.
//!
//! Hidden from the documentation, and no part of what is promised to stay.

mod claim;
mod driver;
mod end;
mod executions;
mod failure;
mod refusal;

use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Fence, Fenced, Lease, Operation, RecordId, Renewal,
    StoreError, Watchers,
};

pub use crate::listener::Listener;
use crate::migrate::CURRENT;
pub use crate::query::Borrowed;
pub use crate::record::RawRecord;
use crate::store::misconfigured;
pub use driver::{Driver, Found, Sql, Written, Wrote};
pub use executions::Lent;
pub use failure::Failure;
pub use refusal::NoTransaction;

/// Where an execution's transaction goes back to when it is to have had no effects.
pub const SAVEPOINT: &str = "SAVEPOINT onlyonce";
pub const UNDO: &str = "ROLLBACK TO SAVEPOINT onlyonce";
pub const READ_COMMITTED: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
pub const SERIALIZABLE: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE";

/// A store whose claims are transactions. Cloning is cheap and gives the same store.
pub struct Transactions<D: Driver>(Arc<Inner<D>>);

impl<D: Driver> Clone for Transactions<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<D: Driver> {
    driver: D,
    executions: executions::Executions<D::Transaction>,
    watchers: Watchers,
}

impl<D: Driver> Transactions<D> {
    /// Looks whether the schema is there.
    ///
    /// # Errors
    /// When it is not, or is of another version, or the server can't be reached.
    pub async fn open(driver: D, schema: &str, watchers: Watchers) -> Result<Self, StoreError> {
        match driver.schema_version().await {
            Ok(CURRENT) => {}
            Ok(found) => {
                return Err(misconfigured(format!(
                    "the schema `{schema}` has version {found}, and version {CURRENT} is needed: \
                     run `onlyonce migrate`"
                )));
            }
            Err(failure) if failure.is_state(&["42P01", "3F000"]) => {
                return Err(failure.with_message(
                    Operation::Open,
                    format!(
                        "the database has no schema `{schema}` of ours: run `onlyonce migrate`"
                    ),
                ));
            }
            Err(failure) => return Err(failure.into_error(Operation::Open)),
        }
        Ok(Self(Arc::new(Inner {
            driver,
            executions: executions::Executions::default(),
            watchers,
        })))
    }

    /// # Cancellation safety
    /// A transaction that nobody has been told of is rolled back.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.0.claim(attempt).await
    }

    /// Nothing to renew: the transaction holds as long as its connection does.
    pub fn renew(&self, lease: &Lease, renewal: &Renewal) -> Fenced {
        self.0.executions.renew(lease, renewal)
    }

    /// # Cancellation safety
    /// Goes on to its end by itself; called again, it joins.
    ///
    /// # Errors
    /// When nothing was committed, or nobody can say.
    pub async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        self.0.complete(lease, completion, keep).await
    }

    /// # Cancellation safety
    /// Goes on to its end by itself.
    pub async fn release(&self, lease: &Lease) -> Fenced {
        self.0.release(lease).await
    }

    /// # Errors
    /// When the server can't be reached or refuses.
    pub async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.0.driver.watch(id, &self.0.watchers).await
    }

    /// The transaction of a claim, to work in.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn borrow(
        &self,
        id: &RecordId,
        fence: Fence,
    ) -> Result<Lent<D::Transaction>, NoTransaction> {
        self.0.executions.borrow(id, fence)
    }

    /// How many executions hold a transaction open.
    #[must_use]
    pub fn open_transactions(&self) -> usize {
        self.0.executions.len()
    }
}
