//! `[log]`: what the gateway says of itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::scalar::{self, As, Choice};

/// What the gateway writes to standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[log]`")]
#[schemars(inline)]
pub struct LogSettings {
    /// `text` for people, `json` (a line per event) for machines.
    #[serde(with = "scalar")]
    #[schemars(with = "As<LogFormat>")]
    pub format: LogFormat,
    /// The least important events that are written.
    #[serde(with = "scalar")]
    #[schemars(with = "As<LogLevel>")]
    pub level: LogLevel,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// How important an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something may need attention.
    Warn,
    /// What happens in the course of things.
    #[default]
    Info,
    /// For finding faults.
    Debug,
    /// Everything.
    Trace,
}

impl Choice for LogFormat {
    const NAMES: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Choice for LogLevel {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl LogFormat {
    /// Their names in settings.
    pub const NAMES: [&'static str; 2] = ["text", "json"];
}

impl LogLevel {
    /// Their names in settings.
    pub const NAMES: [&'static str; 5] = ["error", "warn", "info", "debug", "trace"];

    /// Its name in settings, which is also a directive of `tracing_subscriber::EnvFilter`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        scalar::name(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_are_read() {
        let read = <LogFormat as Choice>::NAMES.iter().map(|(name, _)| *name);
        assert!(read.eq(LogFormat::NAMES));
        let read = <LogLevel as Choice>::NAMES.iter().map(|(name, _)| *name);
        assert!(read.eq(LogLevel::NAMES));
    }
}
