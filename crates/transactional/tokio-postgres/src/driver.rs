//! What the transactional mode does, by tokio-postgres.

use std::time::Duration;

use deadpool_postgres::Pool;
use onlyonce_core::{Changes, Operation, RecordId, StoreError, Watchers};
use onlyonce_postgres::transactional::{
    Borrowed, Driver, Failure, Found, Listener, RawRecord, SAVEPOINT, Sql, UNDO, Written, Wrote,
};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

/// How long a connection of the pool is waited for, where the pool itself sets no limit.
const WAIT: Duration = Duration::from_secs(30);
/// How many connections that broke while nobody used them a claim passes over.
const TRIES: u32 = 8;

pub(crate) struct TokioPostgres {
    pub(crate) pool: Pool,
    pub(crate) sql: Sql,
    pub(crate) begin: &'static str,
    pub(crate) listener: Option<Listener>,
}

impl Driver for TokioPostgres {
    /// A connection in the midst of a transaction: dropped, it is closed, and never used again.
    type Transaction = Borrowed;

    async fn schema_version(&self) -> Result<i32, Failure> {
        let row = self.ask(&self.sql.version, &[]).await?;
        Ok(row.try_get(0)?)
    }

    async fn begin(&self, id: &RecordId) -> Result<(Borrowed, Found), Failure> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let connection = self.connection().await?;
            match self.begin_on(&connection, id).await {
                Ok(found) => return Ok((connection, found)),
                // Nothing has happened in the transaction, and nothing will.
                Err(failure) if failure.is_broken() && tries > 0 => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn undo(&self, transaction: &mut Borrowed) -> Result<(), Failure> {
        Ok(transaction.client().batch_execute(UNDO).await?)
    }

    async fn write(
        &self,
        transaction: &mut Borrowed,
        record: &Written<'_>,
    ) -> Result<Wrote, Failure> {
        let parameters: [(&(dyn ToSql + Sync), Type); 10] = [
            (&record.id, Type::BYTEA),
            (&record.fence, Type::INT8),
            (&record.nonce, Type::BYTEA),
            (&record.state, Type::INT2),
            (&record.status, Type::INT4),
            (&record.fingerprint, Type::BYTEA),
            (&record.result, Type::BYTEA),
            (&record.label, Type::BYTEA),
            (&record.age, Type::INT8),
            (&record.keep, Type::INT8),
        ];
        let client = transaction.client();
        let row = client.query_typed_one(&self.sql.write, &parameters).await?;
        Ok(Wrote {
            applied: row.try_get(0)?,
            ours: row.try_get(1)?,
        })
    }

    async fn commit(&self, transaction: Borrowed) -> Result<(), Failure> {
        let committed = transaction.client().batch_execute("COMMIT").await;
        match committed.map_err(Failure::from) {
            // A commit that is refused ends the transaction too.
            Err(failure) if !failure.leaves_it_open() => {
                transaction.give_back();
                Err(failure)
            }
            Err(failure) => Err(failure),
            Ok(()) => {
                transaction.give_back();
                Ok(())
            }
        }
    }

    async fn rollback(&self, transaction: Borrowed) -> Result<(), Failure> {
        transaction.client().batch_execute("ROLLBACK").await?;
        transaction.give_back();
        Ok(())
    }

    async fn was_committed(&self, id: &RecordId, fence: i64) -> Result<bool, Failure> {
        let id = &id.as_bytes()[..];
        let parameters: [Parameter<'_>; 2] = [(&id, Type::BYTEA), (&fence, Type::INT8)];
        let row = self.ask(&self.sql.committed, &parameters).await?;
        Ok(row.try_get(0)?)
    }

    async fn announce(&self, id: &RecordId) -> Result<(), Failure> {
        let id = &id.as_bytes()[..];
        let parameters: [Parameter<'_>; 1] = [(&id, Type::BYTEA)];
        self.ask(&self.sql.announce, &parameters).await.map(drop)
    }

    async fn watch(&self, id: &RecordId, watchers: &Watchers) -> Result<Changes, StoreError> {
        let Some(listener) = &self.listener else {
            return Ok(watchers.watch(id));
        };
        let changes = listener.watch(id).await?;
        let id = &id.as_bytes()[..];
        let parameters: [Parameter<'_>; 1] = [(&id, Type::BYTEA)];
        let told = self.ask(&self.sql.watch, &parameters).await;
        told.map_err(|failure| failure.into_error(Operation::Watch))?;
        Ok(changes)
    }
}

/// With its type: nothing is prepared, so that a pooler may stand in between.
type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl TokioPostgres {
    async fn connection(&self) -> Result<Borrowed, Failure> {
        let object = tokio::time::timeout(WAIT, self.pool.get()).await;
        Ok(Borrowed::new(object.map_err(Failure::exhausted)??))
    }

    /// Outside of a transaction.
    ///
    /// # Cancellation safety
    /// A connection whose answer nobody has read is closed, not given back.
    async fn ask(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Row, Failure> {
        let connection = self.connection().await?;
        let client = connection.client();
        let row = client.query_typed_one(statement, parameters).await?;
        connection.give_back();
        Ok(row)
    }

    /// One round trip: the statements are sent together.
    async fn begin_on(&self, connection: &Borrowed, id: &RecordId) -> Result<Found, Failure> {
        let client = connection.client();
        let id = &id.as_bytes()[..];
        let parameters: [Parameter<'_>; 1] = [(&id, Type::BYTEA)];
        let (begun, claimed, set) = tokio::join!(
            biased;
            client.batch_execute(self.begin),
            client.query_typed_one(&self.sql.claim, &parameters),
            client.batch_execute(SAVEPOINT),
        );
        begun?;
        let row = claimed?;
        set?;
        let record = RawRecord::of_row(Operation::Claim, &row, true);
        Ok(Found {
            busy: row.try_get("busy")?,
            won: row.try_get("won")?,
            record: record.map_err(Failure::strange)?,
        })
    }
}
