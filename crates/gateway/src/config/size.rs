//! Numbers of bytes: `"64KiB"`, `"1MiB"`, or a plain integer.

use std::borrow::Cow;

use schemars::{Schema, json_schema};

use super::scalar::{Remedy, Scalar, Written};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1000),
    ("MB", 1000_u64.pow(2)),
    ("GB", 1000_u64.pow(3)),
    ("TB", 1000_u64.pow(4)),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// TOML's integers end here.
const MOST: u64 = i64::MAX as u64;

impl Scalar for Bytes {
    fn expected() -> Cow<'static, str> {
        "a size such as \"64KiB\" or \"1MiB\", or a number of bytes".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(Remedy::none());
        }
        if unit.is_empty() {
            return Err("write a plain number of bytes without quotes, or add a unit".into());
        }
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .ok_or("the units are B, KiB, MiB, GiB, TiB, and KB, MB, GB, TB for powers of 1000")?;
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*factor))
            .filter(|bytes| *bytes <= MOST)
            .map(Self)
            .ok_or_else(|| "that is more than any machine has".into())
    }

    fn from_integer(number: u64) -> Result<Self, Remedy> {
        Ok(Self(number))
    }

    fn written(&self) -> Written {
        let largest = UNITS.iter().rev().find(|(name, factor)| {
            name.ends_with("iB") && self.0 >= *factor && self.0.is_multiple_of(*factor)
        });
        match largest {
            Some((name, factor)) => Written::Text(format!("{}{name}", self.0 / factor)),
            None => Written::Integer(self.0),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "size",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+([KkMmGgTt]?[Ii]?[Bb])$" },
            ],
            "examples": ["64KiB", "1MiB", 4096],
        })
    }
}

impl Bytes {
    /// As many as this machine can address, if it's more.
    pub(super) fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// For `#[serde(with = "size::in_usize")]`.
pub(super) mod in_usize {
    use serde::{Deserializer, Serializer};

    use super::Bytes;
    use crate::config::scalar;

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<usize, D::Error> {
        scalar::deserialize::<Bytes, _>(deserializer).map(Bytes::as_usize)
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(in super::super) fn serialize<S: Serializer>(
        bytes: &usize,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        scalar::serialize(&Bytes(*bytes as u64), serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Option<u64> {
        Bytes::from_text(text).ok().map(|bytes| bytes.0)
    }

    #[test]
    fn texts() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("1MiB", 1_048_576),
            ("1mib", 1_048_576),
            ("10MB", 10_000_000),
            ("512B", 512),
            ("0B", 0),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "KiB",
            "64",
            "64 KiB",
            "64K",
            "1.5MiB",
            "-1B",
            "99999999TiB",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn written_as_one_would() {
        for (bytes, written) in [
            (65_536, Written::Text("64KiB".to_owned())),
            (1 << 20, Written::Text("1MiB".to_owned())),
            (1000, Written::Integer(1000)),
            (0, Written::Integer(0)),
        ] {
            assert_eq!(Bytes(bytes).written(), written);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(bytes in 0..MOST) {
            let read = match Bytes(bytes).written() {
                Written::Text(text) => parse(&text),
                Written::Integer(number) => Bytes::from_integer(number).ok().map(|bytes| bytes.0),
            };
            prop_assert_eq!(read, Some(bytes));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
