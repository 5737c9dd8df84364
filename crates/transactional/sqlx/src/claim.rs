//! Claiming: beginning a transaction.

use std::time::Duration;

use bytes::Bytes;
use onlyonce_core::{
    Algorithm, Attempt, Claim, Effects, Fence, Fingerprint, Lease, Operation, Record, State,
    StoreError, StoreErrorKind,
};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use crate::store::{Inner, failed};
use crate::tx::SAVEPOINT;

const OPERATION: Operation = Operation::Claim;

impl Inner {
    /// # Cancellation safety
    /// A transaction that nobody has been told of is rolled back.
    pub(crate) async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        if let Some(claim) = self.of_this_process(attempt) {
            return Ok(claim);
        }
        let refused = |error| failed(OPERATION, error);
        let mut transaction = self.pool.begin_with(self.begin).await.map_err(refused)?;
        let row = sqlx::query(AssertSqlSafe(self.sql.claim.as_str()))
            .bind(&attempt.id.as_bytes()[..])
            .fetch_one(&mut *transaction)
            .await
            .map_err(refused)?;
        let (busy, won): (bool, bool) = (get(&row, "busy")?, get(&row, "won")?);
        if !won {
            let claim = if busy {
                Claim::Held(in_progress(attempt, None))
            } else {
                Claim::Held(record(&row)?)
            };
            transaction.rollback().await.map_err(refused)?;
            return Ok(claim);
        }
        sqlx::query(SAVEPOINT)
            .execute(&mut *transaction)
            .await
            .map_err(refused)?;
        let fence = fence(&row)?;
        self.executions.begin(attempt, fence, transaction);
        Ok(Claim::Won(lease(attempt, fence)))
    }

    /// What an execution of this process says: more than another one's, whose transaction nobody
    /// can look into.
    fn of_this_process(&self, attempt: &Attempt) -> Option<Claim> {
        let executions = self.executions.lock();
        let execution = executions.get(&attempt.id)?;
        if execution.ending.is_some() {
            return None;
        }
        Some(if execution.nonce == attempt.nonce {
            Claim::Won(lease(attempt, execution.fence))
        } else {
            Claim::Held(in_progress(attempt, execution.fingerprint))
        })
    }
}

fn lease(attempt: &Attempt, fence: Fence) -> Lease {
    Lease {
        id: attempt.id,
        fence,
        attempt: 1,
        effects: Effects::WithRecord,
    }
}

/// A record that is not there yet. It ends with its transaction, not with a lease.
fn in_progress(attempt: &Attempt, fingerprint: Option<Fingerprint>) -> Record {
    Record {
        fingerprint,
        attempt: 1,
        fence: Fence::new(0),
        state: State::InProgress {
            lease_left: attempt.lease,
        },
        age: Duration::ZERO,
        expires_in: attempt.keep,
        label: attempt.label.clone(),
    }
}

fn record(row: &PgRow) -> Result<Record, StoreError> {
    let span = |name: &str| -> Result<Duration, StoreError> {
        let millis: i64 = get(row, name)?;
        Ok(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    };
    let status = || -> Result<u16, StoreError> {
        let status: i32 = get(row, "status")?;
        u16::try_from(status).map_err(|_| corrupt())
    };
    let state: i16 = get(row, "state")?;
    let state = match state {
        0 => State::InProgress {
            lease_left: span("lease_left")?,
        },
        1 => State::Unknown,
        2 => State::Completed {
            status: status()?,
            kept: Some(Bytes::from(get::<Vec<u8>>(row, "result")?)),
        },
        3 => State::Completed {
            status: status()?,
            kept: None,
        },
        _ => return Err(corrupt()),
    };
    let fingerprint: Option<Vec<u8>> = get(row, "fingerprint")?;
    let fingerprint = fingerprint.map(|bytes| {
        let (algorithm, digest) = bytes.split_first().ok_or_else(corrupt)?;
        let algorithm = Algorithm::from_u8(*algorithm).ok_or_else(corrupt)?;
        let digest = digest.try_into().map_err(|_| corrupt())?;
        Ok::<_, StoreError>(Fingerprint::from_parts(algorithm, digest))
    });
    let attempt: i64 = get(row, "attempt")?;
    let label = String::from_utf8(get(row, "label")?).map_err(|_| corrupt())?;
    Ok(Record {
        fingerprint: fingerprint.transpose()?,
        attempt: u32::try_from(attempt).map_err(|_| corrupt())?,
        fence: fence(row)?,
        state,
        age: span("age")?,
        expires_in: span("expires_in")?,
        label: label.into(),
    })
}

fn fence(row: &PgRow) -> Result<Fence, StoreError> {
    let fence: i64 = get(row, "fence")?;
    u64::try_from(fence).map(Fence::new).map_err(|_| corrupt())
}

fn get<'r, T>(row: &'r PgRow, name: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(name)
        .map_err(|error| corrupt().with_source(error))
}

fn corrupt() -> StoreError {
    StoreError::new(
        OPERATION,
        StoreErrorKind::Corrupt,
        "the database holds something in a record's place that this version of Onlyonce can't read",
    )
}
