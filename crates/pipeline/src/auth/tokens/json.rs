//! JSON objects in which no name stands twice.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The object that `bytes` are; none if they are something else, or a name stands twice in it.
///
/// Of two values, one reader takes the first and the next one the last.
pub(super) fn unique_object(bytes: &[u8]) -> Option<Map<String, Value>> {
    struct Unique(Map<String, Value>);

    impl<'de> Deserialize<'de> for Unique {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Once;

            impl<'de> Visitor<'de> for Once {
                type Value = Unique;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique, A::Error> {
                    let mut map = Map::new();
                    while let Some((name, value)) = access.next_entry::<String, Value>()? {
                        if map.insert(name, value).is_some() {
                            return Err(de::Error::custom("a name stands twice"));
                        }
                    }
                    Ok(Unique(map))
                }
            }

            deserializer.deserialize_map(Once)
        }
    }

    serde_json::from_slice::<Unique>(bytes)
        .ok()
        .map(|unique| unique.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_once() {
        assert!(unique_object(br#"{"a":1,"b":2}"#).is_some());
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            "[]",
            "1",
            "",
            "{}x",
        ] {
            assert!(unique_object(text.as_bytes()).is_none(), "{text}");
        }
    }
}
