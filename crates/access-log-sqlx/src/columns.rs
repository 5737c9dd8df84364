//! Rows to columns and back.

use std::time::Duration;

use onlyonce_core::{BoxError, Timestamp};
use onlyonce_pipeline::access_log::{AccessRow, Ending, RowId, RowSummary};
use sqlx::{ColumnIndex, Decode, Row, Type};

use crate::statement::Value;

/// All columns, in the order of [`values`] and [`row`].
pub(crate) const COLUMNS: &str = "id, trace_id, module, method, scheme, host, path, query, \
    headers, body, ip, user_id, code, message, stack, status, user_agent, duration_ms, ending, \
    responded, created, outcome, key_hash";

/// The columns of [`summary`].
pub(crate) const SUMMARY: &str = "id, trace_id, module, method, path, ip, user_id, code, status, \
    duration_ms, created, outcome";

pub(crate) fn values(row: &AccessRow) -> [Value; 23] {
    let text = |text: &str| Value::Text(text.to_owned());
    let json = |json: serde_json::Result<String>| Value::Text(json.unwrap_or_default());
    [
        Value::Bytes(row.id.as_bytes().to_vec()),
        text(&row.trace_id),
        text(&row.module),
        text(&row.method),
        text(&row.scheme),
        text(&row.host),
        text(&row.path),
        text(&row.query),
        // Strings always serialise.
        json(serde_json::to_string(&row.headers)),
        text(&row.body),
        Value::MaybeText(row.ip.map(|ip| ip.to_string())),
        Value::MaybeText(row.user.clone()),
        Value::MaybeInteger(row.code.map(i64::from)),
        text(&row.message),
        json(serde_json::to_string(&row.stack)),
        Value::Integer(row.status.into()),
        text(&row.user_agent),
        Value::Integer(i64::try_from(row.duration.as_millis()).unwrap_or(i64::MAX)),
        text(row.ending.as_str()),
        Value::Integer(millis(row.responded)),
        Value::Integer(millis(row.created)),
        Value::MaybeText(row.outcome.clone()),
        Value::MaybeText(row.key_hash.clone()),
    ]
}

/// A database whose columns have these types.
pub(crate) trait Columns<'r>: Row
where
    usize: ColumnIndex<Self>,
{
    fn bytes(&'r self, column: usize) -> Result<Vec<u8>, sqlx::Error>;
    fn text(&'r self, column: usize) -> Result<String, sqlx::Error>;
    fn maybe_text(&'r self, column: usize) -> Result<Option<String>, sqlx::Error>;
    fn integer(&'r self, column: usize) -> Result<i64, sqlx::Error>;
    fn maybe_integer(&'r self, column: usize) -> Result<Option<i64>, sqlx::Error>;
}

impl<'r, R: Row> Columns<'r> for R
where
    usize: ColumnIndex<R>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn bytes(&'r self, column: usize) -> Result<Vec<u8>, sqlx::Error> {
        self.try_get(column)
    }

    fn text(&'r self, column: usize) -> Result<String, sqlx::Error> {
        self.try_get(column)
    }

    fn maybe_text(&'r self, column: usize) -> Result<Option<String>, sqlx::Error> {
        self.try_get(column)
    }

    fn integer(&'r self, column: usize) -> Result<i64, sqlx::Error> {
        self.try_get(column)
    }

    fn maybe_integer(&'r self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }
}

pub(crate) fn row<'r, R: Columns<'r>>(columns: &'r R) -> Result<AccessRow, BoxError>
where
    usize: ColumnIndex<R>,
{
    let ending = columns.text(18)?;
    Ok(AccessRow {
        id: id(columns.bytes(0)?)?,
        trace_id: columns.text(1)?,
        module: columns.text(2)?,
        method: columns.text(3)?,
        scheme: columns.text(4)?,
        host: columns.text(5)?,
        path: columns.text(6)?,
        query: columns.text(7)?,
        headers: serde_json::from_str(&columns.text(8)?)?,
        body: columns.text(9)?,
        ip: columns.maybe_text(10)?.map(|ip| ip.parse()).transpose()?,
        user: columns.maybe_text(11)?,
        code: columns.maybe_integer(12)?.map(i32::try_from).transpose()?,
        message: columns.text(13)?,
        stack: serde_json::from_str(&columns.text(14)?)?,
        status: u16::try_from(columns.integer(15)?)?,
        user_agent: columns.text(16)?,
        duration: Duration::from_millis(u64::try_from(columns.integer(17)?)?),
        ending: Ending::of(&ending).ok_or_else(|| format!("`{ending}` is no ending"))?,
        responded: timestamp(columns.integer(19)?)?,
        created: timestamp(columns.integer(20)?)?,
        outcome: columns.maybe_text(21)?,
        key_hash: columns.maybe_text(22)?,
    })
}

pub(crate) fn summary<'r, R: Columns<'r>>(columns: &'r R) -> Result<RowSummary, BoxError>
where
    usize: ColumnIndex<R>,
{
    Ok(RowSummary {
        id: id(columns.bytes(0)?)?,
        trace_id: columns.text(1)?,
        module: columns.text(2)?,
        method: columns.text(3)?,
        path: columns.text(4)?,
        ip: columns.maybe_text(5)?.map(|ip| ip.parse()).transpose()?,
        user: columns.maybe_text(6)?,
        code: columns.maybe_integer(7)?.map(i32::try_from).transpose()?,
        status: u16::try_from(columns.integer(8)?)?,
        duration: Duration::from_millis(u64::try_from(columns.integer(9)?)?),
        created: timestamp(columns.integer(10)?)?,
        outcome: columns.maybe_text(11)?,
    })
}

fn id(bytes: Vec<u8>) -> Result<RowId, BoxError> {
    let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| "an identifier has 16 bytes")?;
    Ok(RowId::from_bytes(bytes))
}

fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn timestamp(millis: i64) -> Result<Timestamp, BoxError> {
    Ok(Timestamp::from_millis(u64::try_from(millis)?))
}
