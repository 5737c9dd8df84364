//! What the transactional mode does, by sqlx.

use onlyonce_core::{Changes, Operation, RecordId, StoreError, Watchers};
use onlyonce_postgres::transactional::{
    Driver, Failure, Found, RawRecord, SAVEPOINT, Sql, UNDO, Written, Wrote,
};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row, Transaction};

use crate::listen::Listener;

pub(crate) struct Sqlx {
    pub(crate) pool: PgPool,
    pub(crate) sql: Sql,
    pub(crate) begin: &'static str,
    pub(crate) listener: Listener,
}

impl Driver for Sqlx {
    type Transaction = Transaction<'static, Postgres>;

    async fn schema_version(&self) -> Result<i32, Failure> {
        let version = sqlx::query_scalar(AssertSqlSafe(self.sql.version.as_str()));
        version.fetch_one(&self.pool).await.map_err(failure)
    }

    async fn begin(&self, id: &RecordId) -> Result<(Self::Transaction, Found), Failure> {
        let mut transaction = self.pool.begin_with(self.begin).await.map_err(failure)?;
        let row = sqlx::query(AssertSqlSafe(self.sql.claim.as_str()))
            .bind(&id.as_bytes()[..])
            .fetch_one(&mut *transaction)
            .await;
        let found = found(&row.map_err(failure)?).map_err(Failure::strange)?;
        if found.won {
            let set = sqlx::query(SAVEPOINT).execute(&mut *transaction).await;
            set.map_err(failure)?;
        }
        Ok((transaction, found))
    }

    async fn undo(&self, transaction: &mut Self::Transaction) -> Result<(), Failure> {
        let undone = sqlx::query(UNDO).execute(&mut **transaction).await;
        undone.map(drop).map_err(failure)
    }

    async fn write(
        &self,
        transaction: &mut Self::Transaction,
        record: &Written<'_>,
    ) -> Result<Wrote, Failure> {
        let wrote = sqlx::query_as(AssertSqlSafe(self.sql.write.as_str()))
            .bind(record.id)
            .bind(record.fence)
            .bind(record.nonce)
            .bind(record.state)
            .bind(record.status)
            .bind(record.fingerprint.as_deref())
            .bind(record.result)
            .bind(record.label)
            .bind(record.age)
            .bind(record.keep)
            .fetch_one(&mut **transaction)
            .await;
        let (applied, ours) = wrote.map_err(failure)?;
        Ok(Wrote { applied, ours })
    }

    async fn commit(&self, transaction: Self::Transaction) -> Result<(), Failure> {
        transaction.commit().await.map_err(failure)
    }

    async fn rollback(&self, transaction: Self::Transaction) -> Result<(), Failure> {
        transaction.rollback().await.map_err(failure)
    }

    async fn was_committed(&self, id: &RecordId, fence: i64) -> Result<bool, Failure> {
        sqlx::query_scalar(AssertSqlSafe(self.sql.committed.as_str()))
            .bind(&id.as_bytes()[..])
            .bind(fence)
            .fetch_one(&self.pool)
            .await
            .map_err(failure)
    }

    async fn announce(&self, id: &RecordId) -> Result<(), Failure> {
        self.tell(&self.sql.announce, id).await
    }

    async fn watch(&self, id: &RecordId, watchers: &Watchers) -> Result<Changes, StoreError> {
        const OPERATION: Operation = Operation::Watch;
        let changes = self.listener.watch(id, &self.pool, watchers).await?;
        let told = self.tell(&self.sql.watch, id).await;
        told.map_err(|failure| failure.into_error(OPERATION))?;
        Ok(changes)
    }
}

impl Sqlx {
    async fn tell(&self, statement: &str, id: &RecordId) -> Result<(), Failure> {
        let told = sqlx::query(AssertSqlSafe(statement))
            .bind(&id.as_bytes()[..])
            .execute(&self.pool);
        told.await.map(drop).map_err(failure)
    }
}

fn found(row: &PgRow) -> Result<Found, sqlx::Error> {
    Ok(Found {
        busy: row.try_get("busy")?,
        won: row.try_get("won")?,
        record: RawRecord {
            fence: row.try_get("fence")?,
            attempt: row.try_get("attempt")?,
            state: row.try_get("state")?,
            status: row.try_get("status")?,
            fingerprint: row.try_get("fingerprint")?,
            lease_left: row.try_get("lease_left")?,
            age: row.try_get("age")?,
            expires_in: row.try_get("expires_in")?,
            label: row.try_get("label")?,
            result: row.try_get("result")?,
        },
    })
}

pub(crate) fn failure(error: sqlx::Error) -> Failure {
    match &error {
        sqlx::Error::Database(said) => {
            let state = said.code().unwrap_or_default().into_owned();
            Failure::refused(state, error)
        }
        sqlx::Error::PoolTimedOut => Failure::exhausted(error),
        _ => Failure::broken(error),
    }
}
