//! Spans of time: `"10s"`, `"24h"`, `"1h30m"`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{Schema, json_schema};

use super::scalar::{Remedy, Scalar, Written};

/// Beyond any use, and far below where sums of durations would overflow.
const LONGEST: Duration = Duration::from_secs(100 * 366 * DAY);
const DAY: u64 = 24 * 3600;

const UNITS: [(&str, Duration); 5] = [
    ("ms", Duration::from_millis(1)),
    ("s", Duration::from_secs(1)),
    ("m", Duration::from_secs(60)),
    ("h", Duration::from_secs(3600)),
    ("d", Duration::from_secs(DAY)),
];

/// A span of time of the command line, written as in the settings.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    Duration::from_text(text).map_err(|remedy| {
        let expected = Duration::expected();
        match remedy.into_text() {
            Some(remedy) => format!("expected {expected}; {remedy}"),
            None => format!("expected {expected}"),
        }
    })
}

impl Scalar for Duration {
    fn expected() -> Cow<'static, str> {
        "a duration such as \"500ms\", \"10s\" or \"24h\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        let mut rest = text;
        let mut total = Self::ZERO;
        while !rest.is_empty() || text.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, after) = rest.split_at(digits);
            let letters = after
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(letters);
            if number.is_empty() {
                return Err(Remedy::none());
            }
            if unit.is_empty() {
                return Err(
                    format!("a duration needs a unit: write \"{text}s\" for seconds").into(),
                );
            }
            let Some((_, length)) = UNITS.iter().find(|(name, _)| *name == unit) else {
                return Err("the units are ms, s, m (minutes), h and d".into());
            };
            total = number
                .parse::<u32>()
                .ok()
                .and_then(|number| length.checked_mul(number))
                .and_then(|part| total.checked_add(part))
                .filter(|total| *total <= LONGEST)
                .ok_or_else(|| Remedy::from("the longest is 100 years"))?;
            rest = after;
        }
        Ok(total)
    }

    fn from_integer(number: u64) -> Result<Self, Remedy> {
        Err(format!("a duration needs a unit: write \"{number}s\" for seconds").into())
    }

    /// In the largest unit that divides it; a single minute stays 60 seconds, a day 24 hours.
    fn written(&self) -> Written {
        let millis = self.as_millis();
        let (name, length) = UNITS
            .iter()
            .rev()
            .find(|(name, length)| {
                let length = length.as_millis();
                let least = if matches!(*name, "m" | "d") { 2 } else { 1 };
                millis.is_multiple_of(length) && millis >= least * length
            })
            .unwrap_or(&UNITS[if millis == 0 { 1 } else { 0 }]);
        Written::Text(format!("{}{name}", millis / length.as_millis()))
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "duration",
            "type": "string",
            "pattern": "^([0-9]+(ms|s|m|h|d))+$",
            "examples": ["500ms", "10s", "24h", "1h30m"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Option<Duration> {
        Duration::from_text(text).ok()
    }

    #[test]
    fn texts() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("90m", 5_400_000),
            ("1h30m", 5_400_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "10",
            "10 s",
            "10sec",
            "-1s",
            "1.5s",
            "1h30",
            "36601d",
            "9999999999s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn written_as_one_would() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (1500, "1500ms"),
            (10_000, "10s"),
            (60_000, "60s"),
            (90_000, "90s"),
            (120_000, "2m"),
            (3_600_000, "1h"),
            (86_400_000, "24h"),
            (172_800_000, "2d"),
        ] {
            let written = Duration::from_millis(millis).written();
            assert_eq!(written, Written::Text(text.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(millis in 0..4_000_000_000_u64) {
            let duration = Duration::from_millis(millis);
            let Written::Text(text) = duration.written() else { unreachable!() };
            prop_assert_eq!(parse(&text), Some(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
