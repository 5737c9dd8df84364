//! Entries as Redis has them: JSON without name and hits, which stand elsewhere.

use onlyonce_pipeline::blocklist::{Entry, EntryId, Unreadable};
use redis::Value;
use serde_json::Value as Json;

pub(super) fn encode(entry: &Entry) -> String {
    let mut json = serde_json::to_value(entry).unwrap_or_default();
    if let Some(fields) = json.as_object_mut() {
        fields.remove("id");
        fields.remove("hits");
    }
    json.to_string()
}

pub(super) fn decode(name: &[u8], body: &[u8]) -> Result<Entry, Unreadable> {
    let shown = String::from_utf8_lossy(name);
    let id = shown.parse::<EntryId>().ok();
    let unreadable = |what: &str| Unreadable {
        id,
        reason: format!("entry `{}`: {what}", shown.escape_debug()),
    };
    let Some(EntryId(number)) = id else {
        return Err(unreadable("its name is no number"));
    };
    let mut json: Json = serde_json::from_slice(body)
        .map_err(|error| unreadable(&format!("this is no JSON: {error}")))?;
    if let Some(fields) = json.as_object_mut() {
        fields.insert("id".to_owned(), number.into());
    }
    serde_json::from_value(json).map_err(|error| unreadable(&error.to_string()))
}

pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        value => std::str::from_utf8(bytes(value)?).ok()?.parse().ok(),
    }
}

pub(super) fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}
