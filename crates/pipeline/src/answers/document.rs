//! An answer's content, and its plain forms.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::xml;
use crate::Code;

/// An answer's content; its fields stand in the order in which clients see them.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Document<'a> {
    pub(super) code: Code,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Told<'a>>,
    /// Seconds since the Unix epoch.
    pub(super) timestamp: u64,
    #[serde(rename = "traceID", skip_serializing_if = "str::is_empty")]
    pub(super) trace_id: &'a str,
}

/// What is told of an error beside its message.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum Told<'a> {
    /// The chain, a line each.
    Lines(&'a [String]),
    /// What machines may act on.
    Facts(&'a RawValue),
}

impl Document<'_> {
    /// The chain of the error, a line each; empty without debug.
    pub(super) fn lines(&self) -> &[String] {
        match self.error {
            Some(Told::Lines(lines)) => lines,
            _ => &[],
        }
    }

    pub(super) fn json(&self) -> Bytes {
        let json = serde_json::to_vec(self);
        json.expect("strings, numbers and sound JSON serialise")
            .into()
    }

    pub(super) fn xml(&self) -> Bytes {
        let value = serde_json::to_value(self).or_else(|error| {
            // Nested deeper than the parser goes; JSON has no such bound.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "no XML of an answer's data"
            );
            serde_json::to_value(Self {
                data: None,
                ..*self
            })
        });
        xml::document(&value.unwrap_or_default()).into()
    }

    /// The data alone, or the message where there is none.
    pub(super) fn text(&self) -> Bytes {
        if let Some(data) = self.data {
            return match serde_json::from_str(data.get()) {
                Ok(Value::String(text)) => text.into(),
                _ => data.get().to_owned().into(),
            };
        }
        let mut text = self.message.to_owned();
        for line in self.lines() {
            text.push('\n');
            text.push_str(line);
        }
        text.into()
    }
}
