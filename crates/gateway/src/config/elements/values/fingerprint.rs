//! `fingerprint`: what tells a retry from another request.

use std::borrow::Cow;
use std::fmt;

use http::HeaderName;
use onlyonce_core::{BodyFingerprint, FingerprintRule};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::scalar::{As, Choice, Scalar};

/// `fingerprint`: `"off"`, how the body counts, or `{ body = …, headers = […] }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct FingerprintValue(pub(in crate::config) FingerprintRule);

/// How the body counts: a name or a list of JSON pointers.
#[derive(Clone, Debug)]
struct BodyValue(BodyFingerprint);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyName {
    Bytes,
    Json,
    None,
}

impl Choice for BodyName {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("bytes", Self::Bytes),
        ("json", Self::Json),
        ("none", Self::None),
    ];
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FingerprintTable {
    #[serde(default = "BodyValue::bytes")]
    body: BodyValue,
    #[serde(default)]
    headers: Vec<As<HeaderName>>,
}

impl BodyValue {
    const fn bytes() -> Self {
        Self(BodyFingerprint::Bytes)
    }
}

struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = BodyFingerprint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "\"bytes\", \"json\", \"none\" or a list of JSON pointers such as [\"/amount\"]",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<BodyFingerprint, E> {
        match BodyName::from_text(text) {
            Ok(BodyName::Bytes) => Ok(BodyFingerprint::Bytes),
            Ok(BodyName::Json) => Ok(BodyFingerprint::Json),
            Ok(BodyName::None) => Ok(BodyFingerprint::None),
            Err(_) if text.starts_with('/') => Ok(BodyFingerprint::Pointers(vec![text.into()])),
            Err(_) => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<BodyFingerprint, A::Error> {
        let mut pointers: Vec<Box<str>> = Vec::new();
        while let Some(pointer) = list.next_element()? {
            pointers.push(pointer);
        }
        Ok(BodyFingerprint::Pointers(pointers))
    }
}

impl<'de> Deserialize<'de> for BodyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BodyVisitor).map(Self)
    }
}

impl Serialize for BodyValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            BodyFingerprint::Json => As(BodyName::Json).serialize(serializer),
            BodyFingerprint::None => As(BodyName::None).serialize(serializer),
            BodyFingerprint::Pointers(pointers) => pointers.serialize(serializer),
            _ => As(BodyName::Bytes).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FingerprintValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rule;

        impl<'de> Visitor<'de> for Rule {
            type Value = FingerprintRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"off\", ")?;
                BodyVisitor.expecting(f)?;
                f.write_str(", or { body = …, headers = […] }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<FingerprintRule, E> {
                if text == "off" {
                    return Ok(FingerprintRule::Off);
                }
                let body = BodyVisitor
                    .visit_str::<de::value::Error>(text)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                Ok(whole(body, Vec::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<FingerprintRule, A::Error> {
                Ok(whole(BodyVisitor.visit_seq(list)?, Vec::new()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FingerprintRule, A::Error> {
                let table =
                    FingerprintTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let headers = table.headers.into_iter().map(|As(name)| name);
                Ok(whole(table.body.0, headers.collect()))
            }
        }

        deserializer.deserialize_any(Rule).map(Self)
    }
}

fn whole(body: BodyFingerprint, headers: Vec<HeaderName>) -> FingerprintRule {
    FingerprintRule::On { body, headers }
}

impl Serialize for FingerprintValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            FingerprintRule::On { body, headers } if headers.is_empty() => {
                BodyValue(body.clone()).serialize(serializer)
            }
            FingerprintRule::On { body, headers } => FingerprintTable {
                body: BodyValue(body.clone()),
                headers: headers.iter().cloned().map(As).collect(),
            }
            .serialize(serializer),
            _ => serializer.serialize_str("off"),
        }
    }
}

impl JsonSchema for FingerprintValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Fingerprint".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pointers = json_schema!({
            "type": "array",
            "items": { "type": "string", "pattern": "^(/.*)?$" },
            "minItems": 1,
        });
        let body = json_schema!({
            "anyOf": [{ "type": "string", "enum": ["bytes", "json", "none"] }, pointers],
        });
        json_schema!({
            "title": "`off`, `bytes`, `json`, `none`, list of JSON pointers, or \
                      `{ body = …, headers = […] }`",
            "anyOf": [
                { "type": "string", "enum": ["off", "bytes", "json", "none"] },
                pointers,
                {
                    "type": "object",
                    "properties": {
                        "body": body,
                        "headers": { "type": "array", "items": HeaderName::schema() },
                    },
                    "additionalProperties": false,
                },
            ],
        })
    }
}
