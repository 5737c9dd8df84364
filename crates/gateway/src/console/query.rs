//! What an operator looks for, from the text that was typed.

use std::fmt::{self, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use onlyonce_core::Timestamp;
use onlyonce_pipeline::access_log::{MAX_PAGE, RowFilter, RowQuery};
use serde::{Deserialize, Serialize};

/// The filters, as they are typed; empty ones let all through.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Typed {
    pub(super) url: String,
    pub(super) module: String,
    pub(super) method: String,
    pub(super) user: String,
    pub(super) ip: String,
    pub(super) from: String,
    pub(super) until: String,
    pub(super) code: String,
    pub(super) min_ms: String,
    pub(super) trace_id: String,
    pub(super) limit: String,
    pub(super) before: String,
}

/// What is wrong with a filter.
#[derive(Debug)]
pub(super) struct Wrong {
    name: &'static str,
    expected: &'static str,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: expected {}", self.name, self.expected)
    }
}

const PAGE: usize = 50;
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Typed {
    pub(super) fn query(&self) -> Result<RowQuery, Wrong> {
        let wrong = |name, expected| move || Wrong { name, expected };
        let text = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
        let time = "a day such as 2026-01-31, or a time such as 2026-01-31 08:30 (UTC)";
        let filter = RowFilter {
            trace_id: text(&self.trace_id).map(|id| id.to_ascii_lowercase()),
            path: text(&self.url),
            module: text(&self.module),
            method: text(&self.method).map(|method| method.to_ascii_uppercase()),
            user: text(&self.user),
            ip: parsed(&self.ip, str::parse)
                .ok_or_else(wrong("ip", "an address such as 192.0.2.7"))?,
            from: parsed(&self.from, |text| moment(text, Duration::ZERO))
                .ok_or_else(wrong("from", time))?,
            // A day's end is the next one's beginning.
            until: parsed(&self.until, |text| moment(text, DAY))
                .ok_or_else(wrong("until", time))?,
            code: parsed(&self.code, str::parse)
                .ok_or_else(wrong("code", "a number such as 61"))?,
            min_duration: parsed(&self.min_ms, str::parse)
                .ok_or_else(wrong("min_ms", "milliseconds, such as 500"))?
                .map(Duration::from_millis),
        };
        let limit = parsed(&self.limit, str::parse::<usize>)
            .flatten_limit()
            .ok_or_else(wrong("limit", "rows on a page, from 1 to 500"))?;
        let before = parsed(&self.before, str::parse)
            .ok_or_else(wrong("before", "the ID of a row: 32 hexadecimal digits"))?;
        Ok(RowQuery {
            filter,
            before,
            limit,
        })
    }

    /// The query of a link to the page behind the row `before`.
    pub(super) fn older(&self, before: &str) -> String {
        let fields = [
            ("url", &*self.url),
            ("module", &self.module),
            ("method", &self.method),
            ("user", &self.user),
            ("ip", &self.ip),
            ("from", &self.from),
            ("until", &self.until),
            ("code", &self.code),
            ("min_ms", &self.min_ms),
            ("trace_id", &self.trace_id),
            ("limit", &self.limit),
            ("before", before),
        ];
        let mut query = String::new();
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(name);
            query.push('=');
            encode(value, &mut query);
        }
        query
    }
}

/// `None` for a text that can't be parsed, `Some(None)` for no text.
fn parsed<T, E>(text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<Option<T>> {
    match text.trim() {
        "" => Some(None),
        text => parse(text).ok().map(Some),
    }
}

trait FlattenLimit {
    fn flatten_limit(self) -> Option<usize>;
}

impl FlattenLimit for Option<Option<usize>> {
    fn flatten_limit(self) -> Option<usize> {
        let limit = self?.unwrap_or(PAGE);
        (1..=MAX_PAGE).contains(&limit).then_some(limit)
    }
}

/// A moment, or the beginning of a day plus `day`.
fn moment(text: &str, day: Duration) -> Result<Timestamp, humantime::TimestampError> {
    let text = text.trim_end_matches('Z').replacen('T', " ", 1);
    let (text, more) = match text.len() {
        10 => (format!("{text} 00:00:00"), day),
        16 => (format!("{text}:00"), Duration::ZERO),
        _ => (text, Duration::ZERO),
    };
    let time = humantime::parse_rfc3339_weak(&text)?;
    // That far back nothing was logged.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Timestamp::from_millis(0).plus(since).plus(more))
}

fn encode(value: &str, into: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(name: &str, value: &str) -> Typed {
        serde_json::from_value(serde_json::json!({ name: value })).unwrap()
    }

    #[test]
    fn nothing_typed_is_no_filter() {
        let query = Typed::default().query().unwrap();
        assert_eq!(query.filter, RowFilter::default());
        assert_eq!((query.limit, query.before), (50, None));
        assert_eq!(typed("ip", "  ").query().unwrap().filter.ip, None);
    }

    #[test]
    fn days_and_times_are_read_as_utc_and_a_last_day_counts_whole() {
        let new_year = 1_767_225_600_000;
        for (name, text, expected) in [
            ("from", "2026-01-01", new_year),
            ("until", "2025-12-31", new_year),
            ("until", "2026-01-01T00:00", new_year),
            ("from", "2026-01-01 00:00:01", new_year + 1000),
            ("from", "2026-01-01T00:00:00.250Z", new_year + 250),
        ] {
            let filter = typed(name, text).query().unwrap().filter;
            let found = filter.from.or(filter.until).unwrap();
            assert_eq!(found.as_millis(), expected, "{name} {text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_what_can() {
        for (name, text) in [
            ("ip", "a"),
            ("from", "yesterday"),
            ("until", "2026-13-01"),
            ("code", "x"),
            ("min_ms", "-1"),
            ("limit", "0"),
            ("limit", "501"),
            ("before", "x"),
            ("from", "٢٠٢٦-٠١-٠١"),
        ] {
            let error = typed(name, text).query().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{name}`: expected ")),
                "{error}"
            );
        }
        let unknown = serde_json::json!({ "uesr": "1" });
        assert!(serde_json::from_value::<Typed>(unknown).is_err());
    }

    #[test]
    fn links_keep_the_filters_and_nothing_breaks_out_of_them() {
        let filters = Typed {
            url: "/a b&code=1\"<é".to_owned(),
            user: "17".to_owned(),
            before: "old".to_owned(),
            ..Typed::default()
        };
        assert_eq!(
            filters.older("00ff"),
            "?url=%2Fa%20b%26code%3D1%22%3C%C3%A9&user=17&before=00ff"
        );
    }
}
