//! SQL that both databases understand, with its values.

use std::fmt::Write as _;
use std::time::Duration;

use onlyonce_core::Timestamp;
use onlyonce_pipeline::access_log::{AccessRow, RowFilter, RowId, RowQuery};

use crate::columns::{COLUMNS, SUMMARY, values};

/// A text with numbered places (`$1`), and what belongs there.
#[derive(Debug, Default)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Text(String),
    MaybeText(Option<String>),
    Integer(i64),
    MaybeInteger(Option<i64>),
}

/// How a database says whether a text contains another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    pub(crate) position: &'static str,
}

impl Statement {
    pub(crate) fn insert(rows: &[AccessRow]) -> Self {
        let mut statement = Self::default();
        statement.push("INSERT INTO onlyonce_access_log (");
        statement.push(COLUMNS);
        statement.push(") VALUES ");
        for (index, row) in rows.iter().enumerate() {
            statement.push(if index == 0 { "(" } else { ", (" });
            for (column, value) in values(row).into_iter().enumerate() {
                if column > 0 {
                    statement.push(", ");
                }
                statement.bind(value);
            }
            statement.push(")");
        }
        // A batch can come again when nobody knows what became of it.
        statement.push(" ON CONFLICT (id) DO NOTHING");
        statement
    }

    pub(crate) fn list(query: &RowQuery, dialect: Dialect) -> Self {
        let mut statement = Self::default();
        statement.push("SELECT ");
        statement.push(SUMMARY);
        statement.push(" FROM onlyonce_access_log WHERE TRUE");
        statement.filter(&query.filter, dialect);
        if let Some(before) = query.before {
            statement.and("id < ", id(before));
        }
        statement.push(" ORDER BY id DESC LIMIT ");
        // Bounded by `MAX_PAGE`.
        statement.bind(Value::Integer(
            i64::try_from(query.rows()).unwrap_or(i64::MAX),
        ));
        statement
    }

    pub(crate) fn find(row: RowId) -> Self {
        let mut statement = Self::default();
        statement.push("SELECT ");
        statement.push(COLUMNS);
        statement.push(" FROM onlyonce_access_log WHERE TRUE");
        statement.and("id = ", id(row));
        statement
    }

    pub(crate) fn purge(before: Timestamp, most: usize) -> Self {
        let mut statement = Self::default();
        statement.push("DELETE FROM onlyonce_access_log WHERE id IN (SELECT id FROM onlyonce_access_log WHERE TRUE");
        statement.and("id < ", id(RowId::first_at(before)));
        statement.push(" ORDER BY id LIMIT ");
        statement.bind(Value::Integer(i64::try_from(most).unwrap_or(i64::MAX)));
        statement.push(")");
        statement
    }

    fn filter(&mut self, filter: &RowFilter, dialect: Dialect) {
        let texts = [
            ("trace_id = ", filter.trace_id.clone()),
            ("module = ", filter.module.clone()),
            ("method = ", filter.method.clone()),
            ("user_id = ", filter.user.clone()),
            ("ip = ", filter.ip.map(|ip| ip.to_string())),
        ];
        for (condition, text) in texts {
            if let Some(text) = text {
                self.and(condition, Value::Text(printable(&text)));
            }
        }
        if let Some(path) = &filter.path {
            let path = printable(path);
            if path.starts_with('/') {
                // A range, so that an index serves; nothing sorts behind the last character.
                self.and("path >= ", Value::Text(path.clone()));
                self.and("path < ", Value::Text(format!("{path}\u{10ffff}")));
            } else {
                self.push(" AND ");
                self.push(dialect.position);
                self.push("(path, ");
                self.bind(Value::Text(path));
                self.push(") > 0");
            }
        }
        if let Some(code) = filter.code {
            self.and("code = ", Value::Integer(code.into()));
        }
        if let Some(least) = filter.min_duration {
            self.and("duration_ms >= ", Value::Integer(millis_up(least)));
        }
        if let Some(from) = filter.from {
            self.and("id >= ", id(RowId::first_at(from)));
        }
        if let Some(until) = filter.until {
            self.and("id < ", id(RowId::first_at(until)));
        }
    }

    fn and(&mut self, condition: &str, value: Value) {
        self.push(" AND ");
        self.push(condition);
        self.bind(value);
    }

    fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    fn bind(&mut self, value: Value) {
        self.values.push(value);
        // Writing to a String does not fail.
        let _ = write!(self.sql, "${}", self.values.len());
    }
}

fn id(id: RowId) -> Value {
    Value::Bytes(id.as_bytes().to_vec())
}

fn millis_up(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// Rows hold no such character, and PostgreSQL refuses it.
fn printable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_type_is_a_value_and_never_sql() {
        let evil = "' OR 1=1; --".to_owned();
        let filter = RowFilter {
            trace_id: Some(evil.clone()),
            path: Some(evil.clone()),
            module: Some(evil.clone()),
            method: Some(evil.clone()),
            user: Some(evil),
            ..RowFilter::default()
        };
        let query = RowQuery {
            filter,
            ..RowQuery::default()
        };
        let statement = Statement::list(&query, Dialect { position: "instr" });
        assert!(!statement.sql.contains("OR 1"), "{}", statement.sql);
        assert!(
            statement.sql.ends_with(
                " FROM onlyonce_access_log WHERE TRUE AND trace_id = $1 AND module = $2 AND method = $3 \
                 AND user_id = $4 AND instr(path, $5) > 0 ORDER BY id DESC LIMIT $6"
            ),
            "{}",
            statement.sql
        );
        assert_eq!(statement.values.len(), 6);
    }
}
