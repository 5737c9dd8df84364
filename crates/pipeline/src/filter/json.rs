//! JSON that has one reading.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads JSON, and refuses an object that names a field twice: of two readers, one may take the
/// first and the other the last.
pub(super) fn from_slice(json: &[u8]) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = OneReading.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

struct OneReading;

impl<'de> DeserializeSeed<'de> for OneReading {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneReading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number is too large"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(de::Error::custom(format_args!(
                    "the field {name:?} is there twice"
                )));
            }
            object.insert(name, fields.next_value_seed(Self)?);
        }
        Ok(Value::Object(object))
    }
}

/// What a media type says of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Form,
    /// Something else, or in an encoding that is not looked through.
    Other,
    /// Nothing is said.
    Unsaid,
}

impl Media {
    pub(super) fn of(headers: &http::HeaderMap) -> Self {
        use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

        let encoded = headers.get_all(CONTENT_ENCODING).iter();
        if encoded
            .into_iter()
            .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
        {
            return Self::Other;
        }
        let mut lines = headers.get_all(CONTENT_TYPE).iter();
        let Some(line) = lines.next() else {
            return Self::Unsaid;
        };
        let (Ok(text), None) = (line.to_str(), lines.next()) else {
            return Self::Other;
        };
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let other_charset =
            parts
                .filter_map(|parameter| parameter.split_once('='))
                .any(|(name, value)| {
                    let value = value.trim().trim_matches('"');
                    name.trim().eq_ignore_ascii_case("charset")
                        && !value.eq_ignore_ascii_case("utf-8")
                        && !value.eq_ignore_ascii_case("us-ascii")
                });
        let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
        match &*essence {
            _ if other_charset => Self::Other,
            "application/json" => Self::Json,
            _ if subtype.ends_with("+json") => Self::Json,
            "application/x-www-form-urlencoded" => Self::Form,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_json() {
        let text = r#"{"a":[1,-2,3.5,true,null,"x\n\u00e9"],"b":{"":{}}}"#;
        let value = json!({"a": [1, -2, 3.5, true, null, "x\né"], "b": {"": {}}});
        assert_eq!(from_slice(text.as_bytes()).unwrap(), value);
    }

    #[test]
    fn hazard_51_a_field_that_is_there_twice_has_two_readings() {
        for text in [r#"{"a":1,"a":2}"#, r#"[{"b":{"a":1,"\u0061":1}}]"#] {
            let error = from_slice(text.as_bytes()).unwrap_err().to_string();
            assert!(
                error.starts_with(r#"the field "a" is there twice at line 1"#),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_no_json() {
        for text in [
            "", "{", "{} {}", "{}x", "nul", "[1,]", "01", "1e999", "NaN", "'a'",
        ] {
            assert!(from_slice(text.as_bytes()).is_err(), "{text}");
        }
        assert!(from_slice(b"\"\xff\"").is_err());
        assert!(from_slice("\u{feff}{}".as_bytes()).is_err());
        let deep = "[".repeat(100_000);
        assert!(from_slice(deep.as_bytes()).is_err());
    }

    proptest! {
        /// serde_json's own reading, where no field is there twice.
        #[test]
        fn as_serde_json_reads_it(text in r#"(\{|\}|\[|\]|,|:|"a"|"b"|1|-2.5|true|null| ){0,12}"#) {
            let ours = from_slice(text.as_bytes());
            let theirs: Result<Value, _> = serde_json::from_str(&text);
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
                (Err(error), Ok(_)) => prop_assert!(error.to_string().contains("twice"), "{}", error),
                (Ok(_), Err(error)) => prop_assert!(false, "{}", error),
                (Err(_), Err(_)) => {}
            }
        }
    }

    #[test]
    fn media_types() {
        let of = |content_type: &str| {
            Media::of(&HeaderMap::from_iter([(
                CONTENT_TYPE,
                content_type.parse().unwrap(),
            )]))
        };
        for json in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/problem+json",
        ] {
            assert_eq!(of(json), Media::Json, "{json}");
        }
        assert_eq!(
            of("application/x-www-form-urlencoded; charset=UTF-8"),
            Media::Form
        );
        for other in [
            "",
            "text/json",
            "application/jsonx",
            "application/json; charset=gbk",
            "application/json; charset=utf-16",
            "multipart/form-data; boundary=x",
            "text/plain, application/json",
        ] {
            assert_eq!(of(other), Media::Other, "{other}");
        }
        assert_eq!(Media::of(&HeaderMap::new()), Media::Unsaid);
    }

    #[test]
    fn hazard_51_what_is_encoded_or_said_twice_is_not_looked_through() {
        let json = (CONTENT_TYPE, "application/json".parse().unwrap());
        let mut headers = HeaderMap::from_iter([json.clone()]);
        headers.insert(CONTENT_ENCODING, "identity".parse().unwrap());
        assert_eq!(Media::of(&headers), Media::Json);
        headers.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(Media::of(&headers), Media::Other);
        let mut headers = HeaderMap::from_iter([json.clone()]);
        headers.append(CONTENT_TYPE, "text/plain".parse().unwrap());
        assert_eq!(Media::of(&headers), Media::Other);
    }
}
