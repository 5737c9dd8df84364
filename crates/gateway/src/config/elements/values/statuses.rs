//! `store`: which responses are stored.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use onlyonce_core::StatusSet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::StrDeserializer;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::scalar::{As, Remedy, Scalar, Written};

/// `store`: a name, or a list of statuses and ranges such as `[200, "400-404"]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct StatusSetValue(pub(in crate::config) StatusSet);

const STATUS_SETS: [(&str, StatusSet); 4] = [
    ("final", StatusSet::FINAL),
    ("below-500", StatusSet::BELOW_500),
    ("success", StatusSet::SUCCESS),
    ("all", StatusSet::ALL),
];

/// One status or a range of them.
#[derive(Clone, Debug)]
struct StatusRange(std::ops::RangeInclusive<u16>);

impl Scalar for StatusRange {
    fn expected() -> Cow<'static, str> {
        "a status such as 200 or a range such as \"400-404\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| {
            let number = text.trim().parse().ok()?;
            StatusCode::from_u16(number).ok().map(|_| number)
        };
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self(first..=last)),
            (Some(_), Some(_)) => Err("the lower status comes first".into()),
            _ => Err(Remedy::none()),
        }
    }

    fn from_integer(number: u64) -> Result<Self, Remedy> {
        Self::from_text(&number.to_string())
    }

    fn written(&self) -> Written {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last {
            Written::Integer((*first).into())
        } else {
            Written::Text(format!("{first}-{last}"))
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [
                StatusCode::schema(),
                { "type": "string", "pattern": "^[1-9][0-9]{2}(-[1-9][0-9]{2})?$" },
            ],
        })
    }
}

impl<'de> Deserialize<'de> for StatusSetValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Statuses;

        impl<'de> Visitor<'de> for Statuses {
            type Value = StatusSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "\"final\", \"below-500\", \"success\", \"all\" or a list of statuses and \
                     ranges such as [200, \"400-404\"]",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusSet, E> {
                let named = STATUS_SETS.iter().find(|(name, _)| *name == text);
                if let Some((_, set)) = named {
                    return Ok(*set);
                }
                let As(StatusRange(range)) =
                    As::deserialize(StrDeserializer::<de::value::Error>::new(text))
                        .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                Ok(StatusSet::EMPTY.with(range))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<StatusSet, E> {
                let StatusRange(range) = StatusRange::from_integer(number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))?;
                Ok(StatusSet::EMPTY.with(range))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<StatusSet, A::Error> {
                let mut set = StatusSet::EMPTY;
                while let Some(As(StatusRange(range))) = list.next_element()? {
                    set = set.with(range);
                }
                Ok(set)
            }
        }

        deserializer.deserialize_any(Statuses).map(Self)
    }
}

impl Serialize for StatusSetValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some((name, _)) = STATUS_SETS.iter().find(|(_, set)| *set == self.0) {
            return serializer.serialize_str(name);
        }
        let mut ranges: Vec<As<StatusRange>> = Vec::new();
        for status in (100..=999).filter(|status| self.0.contains(*status)) {
            match ranges.last_mut() {
                Some(As(StatusRange(range))) if *range.end() + 1 == status => {
                    *range = *range.start()..=status;
                }
                _ => ranges.push(As(StatusRange(status..=status))),
            }
        }
        ranges.serialize(serializer)
    }
}

impl JsonSchema for StatusSetValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StatusSet".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = STATUS_SETS.iter().map(|(name, _)| *name).collect();
        json_schema!({
            "title": "`final`, `below-500`, `success`, `all`, or list of statuses and ranges",
            "anyOf": [
                { "type": "string", "enum": names },
                { "type": "array", "items": StatusRange::schema() },
                StatusCode::schema(),
            ],
        })
    }
}
