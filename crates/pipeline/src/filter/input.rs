//! What a request brings, from wherever in it, as one set of fields.

use std::cell::Cell;
use std::collections::{BTreeMap, btree_map};

use axum::extract::{FromRequestParts as _, RawPathParams};
use http::StatusCode;
use http::request::Parts;
use serde::de::value::{self, MapDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde_json::Value;

use super::field::Field;
use super::json::{self, Media};
use super::refusal;
use super::rejection::{FilterRejection, mistake};
use crate::{Code, Error, Text};

/// What a request brings: its fields, or a body that is no object.
#[derive(Debug)]
pub(super) enum Input {
    Fields(BTreeMap<String, Field>),
    Alone(Value),
}

impl Input {
    /// Takes the fields of the query, then those of the body, then those of the route: what comes
    /// later takes the place of what came before.
    pub(super) async fn gather(parts: &mut Parts, body: &[u8]) -> Result<Self, FilterRejection> {
        let mut fields = pairs(parts.uri.query().unwrap_or_default().as_bytes());
        match Media::of(&parts.headers) {
            _ if body.is_empty() => {}
            Media::Form => fields.append(&mut pairs(body)),
            Media::Json => match json::from_slice(body).map_err(not_json)? {
                Value::Object(object) => {
                    let of_body = object.into_iter();
                    fields.extend(of_body.map(|(name, value)| (name, Field::Json(value))));
                }
                alone => return Ok(Self::Alone(alone)),
            },
            Media::Other | Media::Unsaid => return Err(unsupported()),
        }
        fields.append(&mut of_route(parts).await?);
        Ok(Self::Fields(fields))
    }

    /// Makes a `T` of it, and tells the names of its fields in the order of their declaration.
    pub(super) fn parse<T: DeserializeOwned>(self) -> Result<(T, Declared), Error> {
        match self {
            Self::Alone(value) => {
                let value = serde_path_to_error::deserialize(value).map_err(misfit)?;
                Ok((value, &[]))
            }
            Self::Fields(fields) => {
                let declared = Cell::new(Declared::default());
                let top = Top {
                    fields,
                    declared: &declared,
                };
                let value = serde_path_to_error::deserialize(top).map_err(misfit)?;
                Ok((value, declared.get()))
            }
        }
    }
}

/// The names of a type's fields as they are sent, in the order of their declaration; empty where
/// the type does not tell.
pub(super) type Declared = &'static [&'static str];

/// All fields together.
struct Top<'a> {
    fields: BTreeMap<String, Field>,
    declared: &'a Cell<Declared>,
}

impl Top<'_> {
    fn map<'de>(self) -> MapDeserializer<'de, btree_map::IntoIter<String, Field>, value::Error> {
        MapDeserializer::new(self.fields.into_iter())
    }
}

impl<'de> Deserializer<'de> for Top<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_map(self.map())
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        declared: Declared,
        visitor: V,
    ) -> Result<V::Value, value::Error> {
        self.declared.set(declared);
        visitor.visit_map(self.map())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, value::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, value::Error> {
        value::MapAccessDeserializer::new(self.map()).deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The pairs of a query or a form. A name that is there several times, or ends in `[]`, has all of
/// its values.
fn pairs(text: &[u8]) -> BTreeMap<String, Field> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(text) {
        let name = name.strip_suffix("[]").unwrap_or(&name);
        let values = texts.entry(name.to_owned()).or_default();
        values.push(value.into_owned());
    }
    texts
        .into_iter()
        .map(|(name, texts)| (name, Field::Texts(texts)))
        .collect()
}

async fn of_route(parts: &mut Parts) -> Result<BTreeMap<String, Field>, FilterRejection> {
    use axum::extract::rejection::RawPathParamsRejection;

    match RawPathParams::from_request_parts(parts, &()).await {
        Ok(params) => Ok(params
            .iter()
            .map(|(name, value)| (name.to_owned(), Field::Texts(vec![value.to_owned()])))
            .collect()),
        // No router of axum stands outside.
        Err(RawPathParamsRejection::MissingPathParams(_)) => Ok(BTreeMap::new()),
        Err(error) => Err(Error::from(error)
            .wrap_code(
                Code::INVALID_REQUEST,
                Text::both("The path is not UTF-8", "路径不是有效的UTF-8"),
            )
            .into()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn not_json(error: serde_json::Error) -> FilterRejection {
    mistake(Code::INVALID_REQUEST, refusal::not_json(&error)).into()
}

fn unsupported() -> FilterRejection {
    let text = Text::both(
        "The body must be JSON or a form, in UTF-8 and not compressed",
        "请求体必须是未压缩的UTF-8 JSON或表单",
    );
    FilterRejection::from(mistake(Code::INVALID_REQUEST, text))
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

/// A field that does not fit its type. What was sent is not told: it may be a secret.
fn misfit<E: std::error::Error>(error: serde_path_to_error::Error<E>) -> Error {
    let path = error.path().to_string();
    let problem = error.into_inner().to_string();
    let is_misfit = problem.starts_with("invalid type: ") || problem.starts_with("invalid value: ");
    let expected = problem.rfind("expected ").filter(|_| is_misfit);
    let problem = &problem[expected.unwrap_or(0)..];
    let text = match path.as_str() {
        "." | "?" | "" => Text::both(problem.to_owned(), format!("参数不正确：{problem}")),
        path => Text::both(
            format!("{path}: {problem}"),
            format!("{path}：参数不正确（{problem}）"),
        ),
    };
    mistake(Code::VALIDATION_FAILED, text)
}
