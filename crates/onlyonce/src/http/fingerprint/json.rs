//! JSON by meaning: one text for all texts that mean the same.
//!
//! Numbers are kept as they are written: two spellings of one number count as different, which
//! is safe, while reading them as floats would make different amounts equal.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Deeper than this, a body counts byte by byte.
const DEPTH: usize = 64;

/// The canonical text of `body`; `None` when it is not JSON, names a member twice, or nests too
/// deep.
pub(super) fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    let value: &RawValue = serde_json::from_slice(body).ok()?;
    let mut out = Vec::with_capacity(body.len());
    write(value, DEPTH, &mut out)?;
    Some(out)
}

/// The canonical texts of what `pointers` (RFC 6901) point to in `body`.
pub(super) fn selected(body: &[u8], pointers: &[Box<str>]) -> Option<Vec<u8>> {
    let root: &RawValue = serde_json::from_slice(body).ok()?;
    let mut out = Vec::new();
    for pointer in pointers {
        out.extend_from_slice(&serde_json::to_vec(pointer.as_ref()).ok()?);
        match find(root, pointer)? {
            Some(value) => {
                out.push(b'=');
                write(value, DEPTH, &mut out)?;
            }
            None => out.push(b'-'),
        }
        out.push(b'\n');
    }
    Some(out)
}

/// `None`: the body is not fit for pointers. `Some(None)`: there is nothing there.
fn find<'a>(root: &'a RawValue, pointer: &str) -> Option<Option<&'a RawValue>> {
    let mut value = root;
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let next = match value.get().as_bytes().first()? {
            b'{' => members(value)?.0.remove(step.as_str()),
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
                let plain = step == "0" || !step.starts_with('0');
                let index = step.bytes().all(|b| b.is_ascii_digit()) && plain;
                index
                    .then(|| step.parse().ok().and_then(|i: usize| items.get(i).copied()))
                    .flatten()
            }
            _ => None,
        };
        match next {
            Some(next) => value = next,
            None => return Some(None),
        }
    }
    Some(Some(value))
}

fn write(value: &RawValue, depth: usize, out: &mut Vec<u8>) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let text = value.get();
    match text.as_bytes().first()? {
        b'{' => {
            out.push(b'{');
            for (name, member) in members(value)?.0 {
                out.extend_from_slice(&serde_json::to_vec(name.as_ref()).ok()?);
                out.push(b':');
                write(member, depth, out)?;
                out.push(b',');
            }
            out.push(b'}');
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            out.push(b'[');
            for item in items {
                write(item, depth, out)?;
                out.push(b',');
            }
            out.push(b']');
        }
        b'"' => {
            let decoded: String = serde_json::from_str(text).ok()?;
            out.extend_from_slice(&serde_json::to_vec(&decoded).ok()?);
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
    Some(())
}

fn members(value: &RawValue) -> Option<Members<'_>> {
    serde_json::from_str(value.get()).ok()
}

/// An object's members by name, none twice.
struct Members<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = BTreeMap<Cow<'de, str>, &'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if members.insert(Cow::Owned(name), value).is_some() {
                        return Err(M::Error::custom("a member is named twice"));
                    }
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Collect).map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn deep_nesting_counts_byte_by_byte() {
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        assert_eq!(canonical(deep.as_bytes()), None);
        let flat = format!("{}{}", "[".repeat(60), "]".repeat(60));
        assert!(canonical(flat.as_bytes()).is_some());
    }

    #[test]
    fn pointers_follow_rfc_6901() {
        let body = br#"{"a/b":1,"m~n":2,"":3,"list":[{"x":4}],"01":5}"#;
        let at = |pointer: &str| {
            let root: &RawValue = serde_json::from_slice(body).unwrap();
            find(root, pointer)
                .unwrap()
                .map(|value| value.get().to_owned())
        };
        assert_eq!(at("/a~1b").as_deref(), Some("1"));
        assert_eq!(at("/m~0n").as_deref(), Some("2"));
        assert_eq!(at("/").as_deref(), Some("3"));
        assert_eq!(at("/list/0/x").as_deref(), Some("4"));
        assert_eq!(at("/01").as_deref(), Some("5"));
        assert_eq!(at("/list/00"), None);
        assert_eq!(at("/list/1"), None);
        assert_eq!(at("").as_deref(), std::str::from_utf8(body).ok());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_white_space_never_counts(
            numbers in proptest::collection::vec(any::<i64>(), 0..5),
            name in "[a-z\"\\\\]{0,4}", noise in ".{0,40}",
        ) {
            let _ = canonical(noise.as_bytes());
            let value = serde_json::json!({ name: numbers, "z": null });
            let (short, long) = (value.to_string(), serde_json::to_string_pretty(&value).unwrap());
            prop_assert_eq!(canonical(short.as_bytes()), canonical(long.as_bytes()));
            prop_assert!(canonical(short.as_bytes()).is_some());
        }
    }
}
