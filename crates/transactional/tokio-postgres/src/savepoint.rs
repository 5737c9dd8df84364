//! A part of a transaction that can be undone alone.

use std::fmt;
use std::future::Future as _;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::pin;
use std::task::{Context, Waker};

use deadpool_postgres::Client;
use tokio_postgres::Error;

/// A part of a [`Tx`](crate::Tx) that can be undone alone, such as an insert that may meet a row
/// that is there. Dropped without [`commit`](Self::commit), it is undone.
///
/// # Example
/// ```no_run
/// # async fn example(tx: &mut onlyonce_tokio_postgres::Tx) -> Result<(), tokio_postgres::Error> {
/// let part = tx.savepoint().await?;
/// match part.execute("INSERT INTO customer VALUES ($1)", &[&7]).await {
///     Ok(_) => part.commit().await?,
///     Err(_) => part.rollback().await?, // and the transaction goes on
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "dropped, it is undone"]
pub struct Savepoint<'a> {
    client: &'a Client,
    /// 1 in the transaction itself. In the name, so that undoing a part never stops at one in it.
    depth: u32,
    is_open: bool,
    /// As long as it is there, it alone is worked in.
    alone: PhantomData<&'a mut ()>,
}

impl<'a> Savepoint<'a> {
    pub(crate) async fn begin(client: &'a Client, depth: u32) -> Result<Self, Error> {
        let begin = format!("SAVEPOINT onlyonce_part_{depth}");
        client.batch_execute(&begin).await?;
        Ok(Self {
            client,
            depth,
            is_open: true,
            alone: PhantomData,
        })
    }

    /// Keeps what was done in it, as far as the transaction is committed.
    ///
    /// # Errors
    /// When a statement in it has failed: then it is undone; or the connection is broken.
    ///
    /// # Cancellation safety
    /// Once polled, it is as good as done.
    pub async fn commit(mut self) -> Result<(), Error> {
        self.is_open = false;
        let keep = format!("RELEASE SAVEPOINT onlyonce_part_{}", self.depth);
        let kept = self.client.batch_execute(&keep).await;
        self.is_open = kept.is_err();
        kept
    }

    /// Undoes what was done in it, as dropping it does, and tells whether that worked.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn rollback(mut self) -> Result<(), Error> {
        self.is_open = false;
        self.client.batch_execute(&self.undo()).await
    }

    /// A part of this part.
    ///
    /// # Errors
    /// When a statement has failed before, or the connection is broken.
    pub async fn savepoint(&mut self) -> Result<Savepoint<'_>, Error> {
        Savepoint::begin(self.client, self.depth + 1).await
    }

    fn undo(&self) -> String {
        let name = format!("onlyonce_part_{}", self.depth);
        format!("ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}")
    }
}

impl Drop for Savepoint<'_> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let undo = self.undo();
        // Polled once, it is on its way, before all that follows; nobody waits for the answer.
        let undone = pin!(self.client.batch_execute(&undo));
        let _ = undone.poll(&mut Context::from_waker(Waker::noop()));
    }
}

impl Deref for Savepoint<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client
    }
}

impl fmt::Debug for Savepoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Savepoint")
    }
}
