//! A record as the database gives it, whatever the driver.

use std::time::Duration;

use bytes::Bytes;
use onlyonce_core::{
    Algorithm, Fence, Fingerprint, Operation, Record, State, StoreError, StoreErrorKind,
};
use tokio_postgres::Row;

use crate::error::strange;

/// The columns of a record, not looked at yet.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "they are the columns' names")]
pub struct RawRecord {
    pub fence: Option<i64>,
    pub attempt: Option<i64>,
    pub state: Option<i16>,
    pub status: Option<i32>,
    pub fingerprint: Option<Vec<u8>>,
    /// Milliseconds, as the other spans.
    pub lease_left: Option<i64>,
    pub age: Option<i64>,
    pub expires_in: Option<i64>,
    pub label: Option<Vec<u8>>,
    pub result: Option<Vec<u8>>,
}

impl RawRecord {
    /// # Errors
    /// [`Corrupt`](StoreErrorKind::Corrupt) when the columns are not those of a record.
    pub fn of_row(operation: Operation, row: &Row, with_result: bool) -> Result<Self, StoreError> {
        let strange = |error| strange(operation, error);
        Ok(Self {
            fence: row.try_get("fence").map_err(strange)?,
            attempt: row.try_get("attempt").map_err(strange)?,
            state: row.try_get("state").map_err(strange)?,
            status: row.try_get("status").map_err(strange)?,
            fingerprint: row.try_get("fingerprint").map_err(strange)?,
            lease_left: row.try_get("lease_left").map_err(strange)?,
            age: row.try_get("age").map_err(strange)?,
            expires_in: row.try_get("expires_in").map_err(strange)?,
            label: row.try_get("label").map_err(strange)?,
            result: match with_result {
                true => row.try_get("result").map_err(strange)?,
                false => Some(Vec::new()),
            },
        })
    }

    /// # Errors
    /// [`Corrupt`](StoreErrorKind::Corrupt) when they are not those of a record that this version
    /// knows.
    pub fn parse(self, operation: Operation) -> Result<Record, StoreError> {
        let corrupt = || corrupt(operation);
        let span = |millis: Option<i64>| {
            let millis = u64::try_from(millis.ok_or_else(corrupt)?).unwrap_or(0);
            Ok(Duration::from_millis(millis))
        };
        let status = || {
            let status = self.status.ok_or_else(corrupt)?;
            u16::try_from(status).map_err(|_| corrupt())
        };
        let state = match self.state {
            Some(0) => State::InProgress {
                lease_left: span(self.lease_left)?,
            },
            Some(1) => State::Unknown,
            Some(2) => State::Completed {
                status: status()?,
                kept: Some(Bytes::from(self.result.ok_or_else(corrupt)?)),
            },
            Some(3) => State::Completed {
                status: status()?,
                kept: None,
            },
            _ => return Err(corrupt()),
        };
        let fingerprint = match self.fingerprint.as_deref() {
            None => None,
            Some([algorithm, digest @ ..]) => {
                let algorithm = Algorithm::from_u8(*algorithm).ok_or_else(corrupt)?;
                let digest = digest.try_into().map_err(|_| corrupt())?;
                Some(Fingerprint::from_parts(algorithm, digest))
            }
            Some([]) => return Err(corrupt()),
        };
        let label = String::from_utf8(self.label.ok_or_else(corrupt)?).map_err(|_| corrupt())?;
        Ok(Record {
            fingerprint,
            attempt: attempt(operation, self.attempt)?,
            fence: fence(operation, self.fence)?,
            state,
            age: span(self.age)?,
            expires_in: span(self.expires_in)?,
            label: label.into(),
        })
    }
}

pub(crate) fn fence(operation: Operation, column: Option<i64>) -> Result<Fence, StoreError> {
    let fence = column.and_then(|fence| u64::try_from(fence).ok());
    fence.map(Fence::new).ok_or_else(|| corrupt(operation))
}

pub(crate) fn attempt(operation: Operation, column: Option<i64>) -> Result<u32, StoreError> {
    let attempt = column.and_then(|attempt| u32::try_from(attempt).ok());
    attempt.ok_or_else(|| corrupt(operation))
}

pub(crate) fn corrupt(operation: Operation) -> StoreError {
    StoreError::new(
        operation,
        StoreErrorKind::Corrupt,
        "the database holds something in a record's place that this version of Onlyonce can't read",
    )
}
