//! Values that settings write as one text or one number, and how serde sees them.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::names::nearest;

/// A value that settings write as one text or one number.
pub(super) trait Scalar: Sized {
    /// What belongs there, to follow "expected".
    fn expected() -> Cow<'static, str>;

    /// The value that `text` stands for.
    fn from_text(text: &str) -> Result<Self, Remedy>;

    /// The value that `number` stands for.
    fn from_integer(_number: u64) -> Result<Self, Remedy> {
        Err(Remedy::none())
    }

    /// How settings write it.
    fn written(&self) -> Written;

    /// What an editor needs to know; its `title` is what the docs call such values.
    fn schema() -> Schema;
}

/// How to put a wrong value right, if there is something to say beyond what was expected.
#[derive(Debug, Default)]
pub(super) struct Remedy(Option<String>);

impl Remedy {
    pub(super) const fn none() -> Self {
        Self(None)
    }

    pub(super) fn into_text(self) -> Option<String> {
        self.0
    }
}

impl<T: Into<String>> From<T> for Remedy {
    fn from(text: T) -> Self {
        Self(Some(text.into()))
    }
}

/// A value as settings write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Text(String),
    Integer(u64),
}

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Integer(number) => serializer.serialize_u64(*number),
        }
    }
}

/// A [`Scalar`] for serde and schemars, which don't know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct As<T>(pub(super) T);

impl<'de, T: Scalar> Deserialize<'de> for As<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

impl<T: Scalar> Serialize for As<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.written().serialize(serializer)
    }
}

impl<T: Scalar> JsonSchema for As<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::expected()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

/// For `#[serde(with = "scalar")]`.
pub(super) fn deserialize<'de, T: Scalar, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(ScalarVisitor(PhantomData))
}

/// For `#[serde(with = "scalar")]`.
pub(super) fn serialize<T: Scalar, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.written().serialize(serializer)
}

struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&T::expected())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(|remedy| wrong(Unexpected::Str(text), &self, remedy))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        T::from_integer(number).map_err(|remedy| wrong(Unexpected::Unsigned(number), &self, remedy))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }
}

fn wrong<E: de::Error>(found: Unexpected<'_>, expected: &dyn de::Expected, remedy: Remedy) -> E {
    match remedy.0 {
        None => E::invalid_value(found, expected),
        // What follows the first line is the remedy, see `Fault`.
        Some(remedy) => E::custom(format!(
            "{}\n{remedy}",
            super::decode::expected_but(&found, expected)
        )),
    }
}

/// A setting that can be switched off with the text `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OrOff<T> {
    Off,
    On(T),
}

impl<T: Scalar> Scalar for OrOff<T> {
    fn expected() -> Cow<'static, str> {
        format!("{}, or \"off\"", T::expected()).into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        if text == "off" {
            Ok(Self::Off)
        } else {
            T::from_text(text).map(Self::On)
        }
    }

    fn from_integer(number: u64) -> Result<Self, Remedy> {
        T::from_integer(number).map(Self::On)
    }

    fn written(&self) -> Written {
        match self {
            Self::Off => Written::Text("off".to_owned()),
            Self::On(value) => value.written(),
        }
    }

    fn schema() -> Schema {
        let on = T::schema();
        let title = title_of(&on);
        json_schema!({
            "title": format!("{title}, or `off`"),
            "anyOf": [on, { "type": "string", "const": "off" }],
        })
    }
}

/// For `#[serde(with = "scalar::or_off")]` on an `Option`: `None` is "off".
pub(super) mod or_off {
    use super::{Deserializer, OrOff, Scalar, Serializer};

    pub(in super::super) fn deserialize<'de, T: Scalar, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        super::deserialize::<OrOff<T>, D>(deserializer).map(Option::from)
    }

    pub(in super::super) fn serialize<T: Scalar + Clone, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        super::serialize(&OrOff::from(value.clone()), serializer)
    }
}

impl<T> From<OrOff<T>> for Option<T> {
    fn from(value: OrOff<T>) -> Self {
        match value {
            OrOff::Off => None,
            OrOff::On(value) => Some(value),
        }
    }
}

impl<T> From<Option<T>> for OrOff<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Off, Self::On)
    }
}

/// A list that can be switched off with the text `off`; `None` is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OrOffList<T>(pub(super) Option<Vec<As<T>>>);

impl<'de, T: Scalar> Deserialize<'de> for OrOffList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);

        impl<'de, T: Scalar> Visitor<'de> for ListVisitor<T> {
            type Value = Option<Vec<As<T>>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, or \"off\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text {
                    "off" => Ok(None),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Some(items))
            }
        }

        deserializer
            .deserialize_any(ListVisitor(PhantomData))
            .map(Self)
    }
}

impl<T: Scalar> Serialize for OrOffList<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            None => serializer.serialize_str("off"),
            Some(items) => items.serialize(serializer),
        }
    }
}

impl<T: Scalar> JsonSchema for OrOffList<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ListOrOff_{}", T::expected()).into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let item = T::schema();
        json_schema!({
            "title": format!("list of {}s, or `off`", title_of(&item)),
            "anyOf": [
                { "type": "array", "items": item },
                { "type": "string", "const": "off" },
            ],
        })
    }
}

/// A value chosen from a list of names.
pub(super) trait Choice: Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];
}

impl<T: Choice> Scalar for T {
    fn expected() -> Cow<'static, str> {
        let names: Vec<String> = T::NAMES
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        join_or(&names).into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        T::NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let names = T::NAMES.iter().map(|(name, _)| *name);
                nearest(text, names).map_or(Remedy::none(), |name| {
                    format!("did you mean \"{name}\"?").into()
                })
            })
    }

    fn written(&self) -> Written {
        Written::Text(name(*self).to_owned())
    }

    fn schema() -> Schema {
        let names: Vec<&str> = T::NAMES.iter().map(|(name, _)| *name).collect();
        let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        json_schema!({ "title": join_or(&quoted), "type": "string", "enum": names })
    }
}

/// The name of `value`.
pub(super) fn name<T: Choice>(value: T) -> &'static str {
    T::NAMES
        .iter()
        .find(|(_, named)| *named == value)
        .map_or("", |(name, _)| *name)
}

/// "a, b or c".
pub(super) fn join_or(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [start @ .., last] => format!("{} or {last}", start.join(", ")),
    }
}

macro_rules! counts {
    ($($kind:ty)*) => {$(
        impl Scalar for $kind {
            fn expected() -> Cow<'static, str> {
                "a whole number, 0 or more".into()
            }

            fn from_text(text: &str) -> Result<Self, Remedy> {
                match text.parse::<Self>() {
                    Ok(_) => Err("write the number without quotes".into()),
                    Err(_) => Err(Remedy::none()),
                }
            }

            fn from_integer(number: u64) -> Result<Self, Remedy> {
                Self::try_from(number).map_err(|_| format!("the most is {}", Self::MAX).into())
            }

            fn written(&self) -> Written {
                Written::Integer(u64::try_from(*self).unwrap_or(u64::MAX))
            }

            fn schema() -> Schema {
                json_schema!({ "title": "number", "type": "integer", "minimum": 0 })
            }
        }
    )*};
}

counts! { usize u32 }

fn title_of(schema: &Schema) -> String {
    schema
        .get("title")
        .and_then(serde_json::Value::as_str)
        .unwrap_or("value")
        .to_owned()
}
