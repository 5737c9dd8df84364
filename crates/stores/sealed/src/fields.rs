//! A scrub by names: header fields, and places in JSON bodies.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::{HeaderName, header};
use onlyonce_core::StoredResponse;
use serde::Deserializer as _;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// What is taken out of responses before they are stored.
///
/// Header and trailer fields are removed. What a JSON pointer names becomes `null`; the rest of the
/// body stays byte by byte. A body of type JSON that can't be looked into (it does not parse, or
/// has a content coding) is not kept at all when there are pointers: better no replay than a
/// secret in the store. Bodies of other types are not looked into.
///
/// # Example
/// ```
/// use onlyonce_core::StoredResponse;
/// use onlyonce_sealed::Fields;
///
/// let fields = Fields::new(["set-cookie".parse().unwrap()], ["/card/number"]).unwrap();
/// let response = StoredResponse {
///     status: 201,
///     headers: vec![
///         ("set-cookie".parse().unwrap(), "session=1".parse().unwrap()),
///         ("content-type".parse().unwrap(), "application/json".parse().unwrap()),
///     ],
///     body: r#"{"id": 1.10, "card": {"number":"4242", "ok":true}}"#.into(),
///     trailers: vec![],
/// };
/// let scrubbed = fields.scrub(response).unwrap();
/// assert_eq!(scrubbed.headers.len(), 1);
/// assert_eq!(scrubbed.body, r#"{"id": 1.10, "card": {"number":null, "ok":true}}"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    headers: Vec<HeaderName>,
    pointers: Vec<Vec<String>>,
}

/// A text is no JSON pointer that could name a part of a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no JSON pointer (RFC 6901) to a part of a body: write \"/card/number\"")]
pub struct FieldsError(Box<str>);

impl Fields {
    /// These header fields, and what these JSON pointers name.
    ///
    /// # Errors
    /// When a pointer is none.
    pub fn new<'a>(
        headers: impl IntoIterator<Item = HeaderName>,
        pointers: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, FieldsError> {
        let pointers = pointers.into_iter().map(parse).collect::<Result<_, _>>()?;
        let headers = headers.into_iter().collect();
        Ok(Self { headers, pointers })
    }

    /// The response without them; `None` when it must not be kept.
    #[must_use]
    pub fn scrub(&self, mut response: StoredResponse) -> Option<StoredResponse> {
        let stays = |(name, _): &(HeaderName, _)| !self.headers.contains(name);
        let is_json = is_json(&response);
        let coded = header_of(&response, &header::CONTENT_ENCODING)
            .is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        response.headers.retain(stays);
        response.trailers.retain(stays);
        if is_json && !self.pointers.is_empty() && !response.body.is_empty() {
            if coded {
                return None;
            }
            response.body = self.scrub_json(&response.body)?;
        }
        Some(response)
    }

    fn scrub_json(&self, body: &Bytes) -> Option<Bytes> {
        let text = std::str::from_utf8(body).ok()?;
        let whole: &RawValue = serde_json::from_str(text).ok()?;
        let mut found = Vec::new();
        for pointer in &self.pointers {
            find(whole, pointer, &mut found)?;
        }
        // As places in the body: each found text is a part of it.
        let start = text.as_ptr() as usize;
        let mut spans: Vec<(usize, usize)> = found
            .iter()
            .map(|part| (part.as_ptr() as usize - start, part.len()))
            .collect();
        spans.sort_unstable_by_key(|(at, length)| (*at, std::cmp::Reverse(*length)));
        let (mut out, mut done) = (Vec::with_capacity(body.len()), 0);
        for (at, length) in spans {
            // A part of what is gone already.
            if at < done {
                continue;
            }
            out.extend(&body[done..at]);
            out.extend(b"null");
            done = at + length;
        }
        out.extend(&body[done..]);
        Some(out.into())
    }
}

fn header_of<'a>(response: &'a StoredResponse, name: &HeaderName) -> Option<&'a [u8]> {
    let mut fields = response.headers.iter();
    fields
        .find(|(one, _)| one == name)
        .map(|(_, value)| value.as_bytes())
}

fn is_json(response: &StoredResponse) -> bool {
    let Some(kind) = header_of(response, &header::CONTENT_TYPE) else {
        return false;
    };
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    let kind = kind.trim_ascii().to_ascii_lowercase();
    kind == b"application/json" || kind.ends_with(b"+json")
}

fn parse(pointer: &str) -> Result<Vec<String>, FieldsError> {
    let bad = || FieldsError(pointer.into());
    let parts = pointer.strip_prefix('/').ok_or_else(bad)?.split('/');
    let unescaped = parts.map(|part| {
        let rest = part.replace("~0", "").replace("~1", "");
        let fits = !rest.contains('~');
        fits.then(|| part.replace("~1", "/").replace("~0", "~"))
    });
    unescaped.collect::<Option<_>>().ok_or_else(bad)
}

/// The texts of what the pointer names: several where an object has a name twice. `None` when the
/// body can't be read on the way.
fn find<'a>(value: &'a RawValue, pointer: &[String], found: &mut Vec<&'a str>) -> Option<()> {
    let Some((first, rest)) = pointer.split_first() else {
        found.push(value.get());
        return Some(());
    };
    let mut de = serde_json::Deserializer::from_str(value.get());
    let inner = de.deserialize_any(Children(first)).ok()?;
    inner
        .into_iter()
        .try_for_each(|child| find(child, rest, found))
}

/// The members of an object, or elements of an array, that have this name.
struct Children<'n>(&'n str);

impl<'de> Visitor<'de> for Children<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut named = Vec::new();
        while let Some((name, value)) = map.next_entry::<Cow<'_, str>, &RawValue>()? {
            if name == self.0 {
                named.push(value);
            }
        }
        Ok(named)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut named = Vec::new();
        let mut index = 0_usize;
        while let Some(value) = seq.next_element::<&RawValue>()? {
            if self.0 == index.to_string() {
                named.push(value);
            }
            index += 1;
        }
        Ok(named)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }
}
