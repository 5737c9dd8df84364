//! `validate`: what keys must look like.

use std::borrow::Cow;
use std::fmt;

use onlyonce_core::KeyRule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::scalar::{As, Choice, Scalar};

/// `validate`: `"any"`, `"uuid"`, `{ min-length = N }` or `{ length = N }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct KeyRuleValue(pub(in crate::config) KeyRule);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyRuleName {
    Any,
    Uuid,
}

impl Choice for KeyRuleName {
    const NAMES: &'static [(&'static str, Self)] = &[("any", Self::Any), ("uuid", Self::Uuid)];
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct KeyLength {
    #[serde(alias = "min_length", skip_serializing_if = "Option::is_none")]
    min_length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<usize>,
}

impl<'de> Deserialize<'de> for KeyRuleValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rule;

        impl<'de> Visitor<'de> for Rule {
            type Value = KeyRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"any\", \"uuid\", { min-length = N } or { length = N }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeyRule, E> {
                match KeyRuleName::from_text(text) {
                    Ok(KeyRuleName::Any) => Ok(KeyRule::Any),
                    Ok(KeyRuleName::Uuid) => Ok(KeyRule::Uuid),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeyRule, A::Error> {
                let lengths = KeyLength::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let (number, rule) = match (lengths.min_length, lengths.length) {
                    (Some(least), None) => (least, KeyRule::MinLength(least)),
                    (None, Some(exact)) => (exact, KeyRule::Length(exact)),
                    _ => return Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
                };
                if !(1..=onlyonce_core::Key::MAX_LEN).contains(&number) {
                    return Err(de::Error::custom(
                        "expected a length from 1 to 255, which keys can have",
                    ));
                }
                Ok(rule)
            }
        }

        deserializer.deserialize_any(Rule).map(Self)
    }
}

impl Serialize for KeyRuleValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lengths = match self.0 {
            KeyRule::Uuid => return As(KeyRuleName::Uuid).serialize(serializer),
            KeyRule::MinLength(least) => (Some(least), None),
            KeyRule::Length(exact) => (None, Some(exact)),
            _ => return As(KeyRuleName::Any).serialize(serializer),
        };
        KeyLength {
            min_length: lengths.0,
            length: lengths.1,
        }
        .serialize(serializer)
    }
}

impl JsonSchema for KeyRuleValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "KeyRule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let length = json_schema!({ "type": "integer", "minimum": 1, "maximum": 255 });
        let table = |name: &str| {
            json_schema!({
                "type": "object",
                "properties": { name: length },
                "required": [name],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "title": "`any`, `uuid`, `{ min-length = N }` or `{ length = N }`",
            "anyOf": [
                { "type": "string", "enum": ["any", "uuid"] },
                table("min-length"),
                table("length"),
            ],
        })
    }
}
