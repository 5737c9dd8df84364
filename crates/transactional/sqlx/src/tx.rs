//! The transaction, as the handler has it.

use std::fmt;
use std::ops::{Deref, DerefMut};

use onlyonce_postgres::transactional::{Lent, UNDO};
use sqlx::{PgConnection, Postgres, Transaction};

/// The transaction in which a claimed request is executed: `&mut *tx` executes statements.
///
/// It is lent: dropping it gives it back, and it ends after the handler has answered, with the
/// record. Don't end it by statements of your own (`COMMIT`, `ROLLBACK`); savepoints are fine.
pub struct Tx(pub(crate) Lent<Transaction<'static, Postgres>>);

impl Tx {
    /// Undoes all that was done in the transaction so far, and goes on with it: for a handler that
    /// refuses after it has begun to write. Its refusal is recorded, its writes are not there.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn undo(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query(UNDO).execute(&mut **self).await.map(drop)
    }
}

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tx")
    }
}
