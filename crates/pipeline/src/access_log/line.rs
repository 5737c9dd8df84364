//! A request as a line.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use onlyonce_core::Timestamp;
use serde::Serialize;

use super::Ending;
use super::entry::Entry;
use super::escape::{Quoted, Word, escape_json};
use crate::Code;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineFormat {
    /// `2026-01-01 00:00:00.000 {TRACE} 200 "GET http host /path HTTP/1.1" 0.003, 192.0.2.7, "", "curl/8"`
    /// in UTC; an error's line goes on with `, CODE, "message", "", "stack"`.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

impl LineFormat {
    /// The line, without a line break at its end or anywhere in it.
    pub(super) fn line(self, entry: &Entry) -> String {
        match self {
            Self::Text => text(entry),
            Self::Json => json(entry),
        }
    }
}

fn text(entry: &Entry) -> String {
    let mut line = String::with_capacity(256);
    let ip = entry.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
    // Writing to a String does not fail.
    let _ = write!(
        line,
        "{} {{{}}} {} \"{} {} {} {} {}\" {:.3}, {ip}, \"{}\", \"{}\"",
        calendar(entry.responded),
        Word(&entry.trace_id),
        entry.answered.status,
        Word(entry.asked.method.as_str()),
        entry.scheme(),
        Word(&entry.host()),
        Word(&entry.target()),
        entry.protocol(),
        entry.duration.as_secs_f64(),
        Quoted(&entry.referer()),
        Quoted(&entry.user_agent()),
    );
    let code = entry.code().filter(|code| *code != Code::OK);
    if code.is_some() || entry.ending != Ending::Complete {
        let _ = write!(
            line,
            ", {}, \"{}\", \"{}\"",
            code.unwrap_or(Code::NONE).number(),
            Quoted(entry.message()),
            entry.ending.remark(),
        );
        if !entry.stack().is_empty() {
            let _ = write!(line, ", \"{}\"", Quoted(&entry.stack().join("\n")));
        }
    }
    line
}

/// The fields of a JSON line, in their order. What is not known is left out.
#[derive(Serialize)]
struct Fields<'a> {
    time: String,
    trace_id: &'a str,
    status: u16,
    method: &'a str,
    scheme: &'a str,
    host: String,
    uri: String,
    protocol: &'a str,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    referer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    module: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stack: &'a [String],
    ending: Ending,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hash: Option<&'a str>,
}

fn json(entry: &Entry) -> String {
    let fields = Fields {
        time: rfc3339(entry.responded),
        trace_id: &entry.trace_id,
        status: entry.answered.status,
        method: entry.asked.method.as_str(),
        scheme: entry.scheme(),
        host: entry.host(),
        uri: entry.target(),
        protocol: entry.protocol(),
        duration_ms: millis(entry.duration),
        ip: entry.ip.map(|ip| ip.to_string()),
        referer: entry.referer(),
        user_agent: entry.user_agent(),
        module: &entry.module,
        user: entry.user.as_deref(),
        code: entry.code().map(Code::number),
        message: entry.message(),
        stack: entry.stack(),
        ending: entry.ending,
        idempotency: entry.outcome(),
        key_hash: entry.key_hash(),
    };
    // Strings and numbers always serialise.
    escape_json(&serde_json::to_string(&fields).unwrap_or_default())
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-01-01T00:00:00.000Z`
fn rfc3339(time: Timestamp) -> String {
    // Up to the year 9999.
    let time = UNIX_EPOCH + Duration::from_millis(time.as_millis().min(253_402_300_799_999));
    humantime::format_rfc3339_millis(time).to_string()
}

/// `2026-01-01 00:00:00.000`, in UTC.
fn calendar(time: Timestamp) -> String {
    let time = rfc3339(time);
    time.trim_end_matches('Z').replacen('T', " ", 1)
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
