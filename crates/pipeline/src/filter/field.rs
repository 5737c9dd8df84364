//! A field as a value of whatever type is wanted.

use std::str::FromStr;

use serde::de::value::{Error, SeqDeserializer};
use serde::de::{self, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde_json::Value;

/// What a request says of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field {
    /// Said in the query, a form, or the route, once or several times: texts, which also stand for
    /// numbers and truths.
    Texts(Vec<String>),
    /// Said in JSON: typed.
    Json(Value),
}

impl Field {
    fn one(texts: Vec<String>) -> Result<String, Error> {
        let [text] = <[String; 1]>::try_from(texts)
            .map_err(|texts| Error::custom(format_args!("given {} times", texts.len())))?;
        Ok(text)
    }

    fn parsed<T: FromStr>(texts: Vec<String>, expected: &str) -> Result<T, Error> {
        let text = Self::one(texts)?;
        let parsed = text.trim().parse();
        parsed.map_err(|_| Error::custom(format_args!("expected {expected}")))
    }

    fn truth(texts: Vec<String>) -> Result<bool, Error> {
        match &*Self::one(texts)? {
            "true" | "1" | "on" => Ok(true),
            "false" | "0" | "off" => Ok(false),
            _ => Err(Error::custom("expected true or false")),
        }
    }
}

impl IntoDeserializer<'_, Error> for Field {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn told(error: serde_json::Error) -> Error {
    Error::custom(error)
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ident $expected:literal,)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self {
                Self::Texts(texts) => visitor.$visit(Self::parsed::<$type>(texts, $expected)?),
                Self::Json(value) => value.$method(visitor).map_err(told),
            }
        })+
    };
}

impl<'de> Deserializer<'de> for Field {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Texts(mut texts) => match (texts.pop(), texts.is_empty()) {
                (Some(text), true) => visitor.visit_string(text),
                (last, _) => {
                    texts.extend(last);
                    Self::Texts(texts).deserialize_seq(visitor)
                }
            },
            Self::Json(value) => value.deserialize_any(visitor).map_err(told),
        }
    }

    numbers! {
        deserialize_i8 visit_i8 i8 "a whole number",
        deserialize_i16 visit_i16 i16 "a whole number",
        deserialize_i32 visit_i32 i32 "a whole number",
        deserialize_i64 visit_i64 i64 "a whole number",
        deserialize_i128 visit_i128 i128 "a whole number",
        deserialize_u8 visit_u8 u8 "a whole number, not negative",
        deserialize_u16 visit_u16 u16 "a whole number, not negative",
        deserialize_u32 visit_u32 u32 "a whole number, not negative",
        deserialize_u64 visit_u64 u64 "a whole number, not negative",
        deserialize_u128 visit_u128 u128 "a whole number, not negative",
        deserialize_f32 visit_f32 f32 "a number",
        deserialize_f64 visit_f64 f64 "a number",
        deserialize_char visit_char char "one character",
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Texts(texts) => visitor.visit_bool(Self::truth(texts)?),
            Self::Json(value) => value.deserialize_bool(visitor).map_err(told),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Texts(texts) => visitor.visit_string(Self::one(texts)?),
            Self::Json(value) => value.deserialize_string(visitor).map_err(told),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Json(Value::Null) => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Texts(texts) => {
                let items = texts.into_iter().map(|text| Self::Texts(vec![text]));
                visitor.visit_seq(SeqDeserializer::new(items))
            }
            Self::Json(value) => value.deserialize_seq(visitor).map_err(told),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Self::Texts(texts) => {
                let text: de::value::StringDeserializer<Error> =
                    Self::one(texts)?.into_deserializer();
                visitor.visit_enum(text)
            }
            Self::Json(value) => value
                .deserialize_enum(name, variants, visitor)
                .map_err(told),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bytes byte_buf unit unit_struct map struct identifier
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    fn texts<T: DeserializeOwned>(texts: &[&str]) -> Result<T, String> {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        T::deserialize(Field::Texts(texts)).map_err(|error| error.to_string())
    }

    fn of_json<T: DeserializeOwned>(value: Value) -> Result<T, String> {
        T::deserialize(Field::Json(value)).map_err(|error| error.to_string())
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Colour {
        Red,
        DarkBlue,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Id(u64);

    #[test]
    fn texts_stand_for_what_is_wanted() {
        assert_eq!(texts::<i8>(&["-128"]), Ok(-128));
        assert_eq!(texts::<u64>(&[" 18446744073709551615 "]), Ok(u64::MAX));
        assert_eq!(texts::<u128>(&["18446744073709551616"]), Ok(1 << 64));
        assert_eq!(texts::<f64>(&["1.5"]), Ok(1.5));
        assert_eq!(texts::<char>(&["é"]), Ok('é'));
        assert_eq!(texts::<bool>(&["true"]), Ok(true));
        assert_eq!(texts::<bool>(&["off"]), Ok(false));
        assert_eq!(texts::<String>(&[" a "]), Ok(" a ".to_owned()));
        assert_eq!(texts::<Option<u8>>(&["7"]), Ok(Some(7)));
        assert_eq!(texts::<Id>(&["7"]), Ok(Id(7)));
        assert_eq!(texts::<Colour>(&["dark_blue"]), Ok(Colour::DarkBlue));
        assert_eq!(texts::<Value>(&["7"]), Ok(json!("7")));
        assert_eq!(texts::<Value>(&["a", "b"]), Ok(json!(["a", "b"])));
    }

    #[test]
    fn a_list_takes_all_that_is_said() {
        assert_eq!(texts::<Vec<u8>>(&["1", "2"]), Ok(vec![1, 2]));
        assert_eq!(texts::<Vec<u8>>(&["1"]), Ok(vec![1]));
        assert_eq!(texts::<(u8, bool)>(&["1", "on"]), Ok((1, true)));
    }

    #[test]
    fn what_does_not_fit_says_what_would() {
        assert_eq!(
            texts::<u8>(&["256"]),
            Err("expected a whole number, not negative".into())
        );
        assert_eq!(texts::<i64>(&["x"]), Err("expected a whole number".into()));
        assert_eq!(texts::<i64>(&[""]), Err("expected a whole number".into()));
        assert_eq!(texts::<f32>(&["x"]), Err("expected a number".into()));
        assert_eq!(
            texts::<bool>(&["yes"]),
            Err("expected true or false".into())
        );
        assert_eq!(texts::<char>(&["ab"]), Err("expected one character".into()));
        assert_eq!(texts::<String>(&["a", "b"]), Err("given 2 times".into()));
        assert!(
            texts::<Colour>(&["green"])
                .unwrap_err()
                .contains("expected `red` or `dark_blue`")
        );
        assert!(texts::<std::collections::BTreeMap<String, u8>>(&["x"]).is_err());
    }

    #[test]
    fn json_is_typed() {
        assert_eq!(of_json::<u8>(json!(7)), Ok(7));
        assert!(of_json::<u8>(json!("7")).is_err());
        assert!(of_json::<String>(json!(7)).is_err());
        assert!(of_json::<bool>(json!("true")).is_err());
        assert_eq!(of_json::<Option<u8>>(Value::Null), Ok(None));
        assert_eq!(of_json::<Id>(json!(7)), Ok(Id(7)));
        assert_eq!(
            of_json::<Vec<Option<u8>>>(json!([1, null])),
            Ok(vec![Some(1), None])
        );
        assert_eq!(of_json::<Colour>(json!("red")), Ok(Colour::Red));
        assert!(of_json::<()>(Value::Null).is_ok());
    }
}
