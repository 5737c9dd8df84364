//! Rows as the console shows them: on pages and as JSON alike.

use std::time::{Duration, UNIX_EPOCH};

use onlyonce_core::Timestamp;
use onlyonce_pipeline::access_log::{AccessRow, RowSummary};
use serde::Serialize;

/// A row in a listing.
#[derive(Debug, Serialize)]
pub(super) struct ShownSummary {
    id: String,
    created: String,
    method: String,
    url: String,
    status: u16,
    code: Option<i32>,
    duration_ms: u64,
    ip: Option<String>,
    user: Option<String>,
    module: String,
    idempotency: Option<String>,
    trace_id: String,
}

impl From<RowSummary> for ShownSummary {
    fn from(row: RowSummary) -> Self {
        Self {
            id: row.id.to_string(),
            created: calendar(row.created),
            method: row.method,
            url: row.path,
            status: row.status,
            code: row.code,
            duration_ms: millis(row.duration),
            ip: row.ip.map(|ip| ip.to_string()),
            user: row.user,
            module: row.module,
            idempotency: row.outcome,
            trace_id: row.trace_id,
        }
    }
}

/// A row with all there is, in HotGo's order.
#[derive(Debug, Serialize)]
pub(super) struct ShownRow {
    id: String,
    method: String,
    url: String,
    duration_ms: u64,
    ip: Option<String>,
    trace_id: String,
    response_time: String,
    created: String,
    user_agent: String,
    code: Option<i32>,
    message: String,
    stack: Vec<String>,
    /// `None`: hidden, as read-only mode is on.
    headers: Option<Vec<(String, String)>>,
    query: String,
    body: String,
    module: String,
    user: Option<String>,
    status: u16,
    ending: &'static str,
    idempotency: Option<String>,
    key_hash: Option<String>,
}

impl ShownRow {
    pub(super) fn new(row: AccessRow, read_only: bool) -> Self {
        Self {
            id: row.id.to_string(),
            url: format!("{}://{}{}", row.scheme, row.host, row.path),
            method: row.method,
            duration_ms: millis(row.duration),
            ip: row.ip.map(|ip| ip.to_string()),
            trace_id: row.trace_id,
            response_time: calendar(row.responded),
            created: calendar(row.created),
            user_agent: row.user_agent,
            code: row.code,
            message: row.message,
            stack: row.stack,
            headers: (!read_only).then_some(row.headers),
            query: row.query,
            body: row.body,
            module: row.module,
            user: row.user,
            status: row.status,
            ending: row.ending.as_str(),
            idempotency: row.outcome,
            key_hash: row.key_hash,
        }
    }
}

impl ShownRow {
    /// The body for people: JSON on lines of its own.
    pub(super) fn readable_body(&self) -> String {
        let value = serde_json::from_str::<serde_json::Value>(&self.body);
        let laid_out = value.and_then(|value| serde_json::to_string_pretty(&value));
        laid_out.unwrap_or_else(|_| self.body.clone())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-01-01 00:00:00.000`, in UTC.
fn calendar(time: Timestamp) -> String {
    // Up to the year 9999.
    let time = UNIX_EPOCH + Duration::from_millis(time.as_millis().min(253_402_300_799_999));
    let text = humantime::format_rfc3339_millis(time).to_string();
    text.trim_end_matches('Z').replacen('T', " ", 1)
}
