//! `[read_only]`: a system that can be looked at, and not changed.

use onlyonce_pipeline::Answers;
use onlyonce_pipeline::read_only::{ReadOnly, ReadOnlyLayer, Refused};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::report::Report;
use crate::config::routes::Pattern;
use crate::config::scalar::{self, As, Choice};
use crate::config::tree::Path;

/// A system that can be looked at, and not changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[read_only]`")]
#[schemars(inline)]
pub struct ReadOnlySettings {
    /// Whether read-only mode is on at the start.
    pub enabled: bool,
    /// Whether it can be switched while the gateway runs, with `POST /-/read-only` on the admin
    /// listener. With `enabled` it always can.
    pub switchable: bool,
    /// Which methods are refused: every `unsafe` one, or `post` alone as `HotGo` does.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Refused>")]
    pub methods: Refused,
    /// The routes that stay open, such as a login. Other spellings of a path than the plain one
    /// are not exempt.
    pub(in crate::config) exempt: Vec<As<Pattern>>,
}

impl ReadOnlySettings {
    pub(in crate::config) fn check(&self, report: &mut Report<'_>) {
        let list = Path::of(&["read_only", "exempt"]);
        for (index, As(pattern)) in self.exempt.iter().enumerate() {
            let before = self.exempt[..index].iter().map(|As(pattern)| pattern);
            if let Err(conflict) = exempting(before.chain([pattern])) {
                report.invalid(
                    &list.index(index),
                    format!("it conflicts with one before it: {conflict}"),
                    "call parameters of overlapping patterns alike, or join them with {*rest}",
                );
                return;
            }
        }
        if !self.is_there() {
            let keys = ["methods", "exempt"].map(|key| Path::of(&["read_only", key]));
            let help = "add `enabled = true`, or `switchable = true` to turn it on later";
            report.useless(&keys, "read-only mode is off", help);
        }
    }

    /// Whether the layer has anything to do, now or later.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        self.enabled || self.switchable
    }

    /// The layer that they describe, under `switch`; on an `exempt` route everything stays open.
    #[must_use]
    pub fn layer(&self, switch: &ReadOnly, answers: Answers, exempt: bool) -> ReadOnlyLayer {
        let layer = ReadOnlyLayer::new(switch.clone(), answers).with_refused(self.methods);
        let patterns = if exempt {
            vec!["/".to_owned(), "/{*rest}".to_owned()]
        } else {
            // Conflicts have been refused by `check`.
            exempting(self.exempt.iter().map(|As(pattern)| pattern)).unwrap_or_default()
        };
        let exempted = layer
            .clone()
            .with_exempt(patterns.iter().map(String::as_str));
        // Nothing is exempt where it can't be said what.
        exempted.unwrap_or(layer)
    }
}

/// The patterns as the layer wants them: all spellings, each once.
fn exempting<'p>(patterns: impl Iterator<Item = &'p Pattern>) -> Result<Vec<String>, String> {
    let mut spellings: Vec<String> = Vec::new();
    for spelling in patterns.flat_map(Pattern::spellings) {
        if !spellings.contains(&spelling) {
            spellings.push(spelling);
        }
    }
    let layer = ReadOnlyLayer::new(ReadOnly::off(), Answers::new());
    match layer.with_exempt(spellings.iter().map(String::as_str)) {
        Ok(_) => Ok(spellings),
        Err(error) => Err(error.to_string()),
    }
}

impl Choice for Refused {
    const NAMES: &'static [(&'static str, Self)] =
        &[("unsafe", Self::Unsafe), ("post", Self::PostAlone)];
}
