//! The transaction, as the handler has it.

use std::fmt;
use std::ops::Deref;

use deadpool_postgres::Client;
use onlyonce_postgres::transactional::{Borrowed, Lent, UNDO};
use tokio_postgres::Error;

use crate::savepoint::Savepoint;

/// The transaction in which a claimed request is executed: `tx.query(…)`, `tx.execute(…)`,
/// `tx.prepare_cached(…)` and all else that a [`Client`] does by a shared reference. `&*tx` is a
/// [`GenericClient`](deadpool_postgres::GenericClient).
///
/// It is lent: dropping it gives it back, and it ends after the handler has answered, with the
/// record. Don't end it by statements of your own (`COMMIT`, `ROLLBACK`); what is to be undone
/// alone goes into a [`savepoint`](Self::savepoint).
///
/// # Cancellation safety
/// As tokio-postgres has it: a statement whose future is dropped once it was polled is executed
/// for all that, before those that follow.
pub struct Tx(pub(crate) Lent<Borrowed>);

impl Tx {
    /// Undoes all that was done in the transaction so far, and goes on with it: for a handler that
    /// refuses after it has begun to write. Its refusal is recorded, its writes are not there.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn undo(&mut self) -> Result<(), Error> {
        self.batch_execute(UNDO).await
    }

    /// Begins a part of the transaction that can be undone alone.
    ///
    /// # Errors
    /// When a statement has failed before, or the connection is broken.
    pub async fn savepoint(&mut self) -> Result<Savepoint<'_>, Error> {
        Savepoint::begin(self.0.client(), 1).await
    }

    /// The client, for what asks for one of tokio-postgres itself.
    #[must_use]
    pub fn client(&self) -> &tokio_postgres::Client {
        self
    }
}

impl Deref for Tx {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.client()
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tx")
    }
}
