//! The operators' side.

use std::time::Duration;

use onlyonce_core::{
    Counts, Inspect, InspectFuture, Listed, Operation, Page, Record, RecordId, Resolution,
    Resolved, StateKind, StoreError,
};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::PostgresStore;
use crate::error::strange;
use crate::query::Parameter;
use crate::record::{RawRecord, corrupt};
use crate::store::only;

const OPERATION: Operation = Operation::Inspect;
/// For what reads the whole table.
const LONG: Duration = Duration::from_secs(60);

impl Inspect for PostgresStore {
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
        Box::pin(async move {
            let now = self.0.injected_time();
            let after = page.after.as_ref().map(|id| &id.as_bytes()[..]);
            let state = page.filter.state.map(number);
            let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
            let parameters: [Parameter<'_>; 4] = [
                (&now, Type::INT8),
                (&after, Type::BYTEA),
                (&state, Type::INT2),
                (&limit, Type::INT8),
            ];
            let statement = &self.0.statements.list;
            let rows = self.0.caller.query(OPERATION, true, statement, &parameters);
            rows.await?.iter().map(listed).collect()
        })
    }

    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
        Box::pin(async move {
            let now = self.0.injected_time();
            let parameters: [Parameter<'_>; 2] =
                [(&now, Type::INT8), (&&id.as_bytes()[..], Type::BYTEA)];
            let statement = &self.0.statements.show;
            let rows = self.0.caller.query(OPERATION, true, statement, &parameters);
            let rows = rows.await?;
            rows.first()
                .map(|row| RawRecord::of_row(OPERATION, row, true)?.parse(OPERATION))
                .transpose()
        })
    }

    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved> {
        Box::pin(async move {
            let (executed, status, result) = match resolution {
                Resolution::NotExecuted => (false, None, None),
                Resolution::Completed { status, result } => {
                    (true, Some(i32::from(*status)), result.as_deref())
                }
            };
            let parameters: [Parameter<'_>; 4] = [
                (&&id.as_bytes()[..], Type::BYTEA),
                (&executed, Type::BOOL),
                (&status, Type::INT4),
                (&result, Type::BYTEA),
            ];
            let statement = &self.0.statements.resolve;
            let rows = self.0.call(OPERATION, false, statement, &parameters).await;
            self.0.watchers.notify(id);
            resolved(&rows?)
        })
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        Box::pin(async move {
            let parameters: [Parameter<'_>; 1] = [(&&id.as_bytes()[..], Type::BYTEA)];
            let statement = &self.0.statements.forget;
            let rows = self.0.call(OPERATION, false, statement, &parameters).await;
            self.0.watchers.notify(id);
            resolved(&rows?)
        })
    }

    /// Counted by reading all records but their results, within a minute.
    fn count(&self) -> InspectFuture<'_, Counts> {
        Box::pin(async move {
            let now = self.0.injected_time();
            let parameters: [Parameter<'_>; 1] = [(&now, Type::INT8)];
            let statement = &self.0.statements.count;
            let caller = &self.0.caller;
            let rows = caller.query_within(LONG, OPERATION, true, statement, &parameters);
            let mut counts = Counts::default();
            for row in rows.await? {
                let get = |place| -> Result<i64, StoreError> {
                    row.try_get(place).map_err(|e| strange(OPERATION, e))
                };
                let unsigned = |number: i64| u64::try_from(number).map_err(|_| corrupt(OPERATION));
                let kind: i32 = row.try_get(0).map_err(|e| strange(OPERATION, e))?;
                let (count, bytes) = (unsigned(get(1)?)?, unsigned(get(2)?)?);
                match kind {
                    0 => counts.in_progress += count,
                    1 => counts.unknown += count,
                    2 => counts.completed += count,
                    3 => counts.not_kept += count,
                    _ => return Err(corrupt(OPERATION)),
                }
                counts.bytes += bytes;
            }
            Ok(counts)
        })
    }
}

fn number(kind: StateKind) -> i16 {
    match kind {
        StateKind::InProgress => 0,
        StateKind::Unknown => 1,
        StateKind::Completed => 2,
        StateKind::NotKept => 3,
        // A kind that this version knows no record of.
        _ => -1,
    }
}

fn listed(row: &Row) -> Result<Listed, StoreError> {
    let id: &[u8] = row.try_get("id").map_err(|e| strange(OPERATION, e))?;
    let id = id.try_into().map_err(|_| corrupt(OPERATION))?;
    Ok(Listed {
        id: RecordId::from_bytes(id),
        record: RawRecord::of_row(OPERATION, row, false)?.parse(OPERATION)?,
    })
}

fn resolved(rows: &[Row]) -> Result<Resolved, StoreError> {
    let answer = only(OPERATION, rows)?.try_get(0);
    match answer.map_err(|e| strange(OPERATION, e))? {
        1_i32 => Ok(Resolved::Applied),
        0 => Ok(Resolved::NotFound),
        -1 => Ok(Resolved::Refused),
        _ => Err(corrupt(OPERATION)),
    }
}
