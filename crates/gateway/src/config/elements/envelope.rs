//! `[envelope]`: one form for every answer.

use std::path::PathBuf;

use onlyonce_pipeline::{Answers, ContentKind, Language, StatusMode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tls::readable;
use super::toggle::Toggle;
use crate::config::report::Report;
use crate::config::scalar::{self, As, Choice};
use crate::config::tree::Path;

/// One form for every answer: code, message, data, timestamp, trace ID. What the layers of the
/// pipeline say themselves always has it; with `enabled`, the gateway's own errors and refusals,
/// and the upstream's 403, 404 and 200 without a body, have it too. An upstream's own bodies
/// pass untouched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[envelope]`")]
#[schemars(inline)]
pub struct EnvelopeSettings {
    /// Whether it is on, where a route doesn't say otherwise.
    pub enabled: bool,
    /// `mapped`: each code with an HTTP status of its own. `always-200`: the code alone tells.
    #[serde(with = "scalar")]
    #[schemars(with = "As<StatusMode>")]
    pub status_mode: StatusMode,
    /// Whether answers show the whole chain of an error. Never where strangers call.
    pub debug: bool,
    /// In which language: `auto` as `Accept-Language` asks, English if it doesn't.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Speech>")]
    pub language: Speech,
    /// Whether the upstream makes envelopes itself, as a `HotGo` application does: the code in its
    /// JSON answers of up to 64 KiB then decides what is recorded, in place of the status.
    pub read_codes: bool,
    /// Template (Jinja's syntax) of the page that tells of an error on routes of `type = "html"`.
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "super::proxy::optional_path"
    )]
    #[schemars(with = "Option<As<PathBuf>>")]
    pub error_page: Option<PathBuf>,
}

/// In which language the gateway answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speech {
    /// As the client asks.
    #[default]
    Auto,
    /// English.
    En,
    /// Simplified Chinese.
    ZhCn,
}

/// What is different on a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table with `type`")]
#[schemars(inline)]
pub(in crate::config) struct RouteEnvelope {
    /// In which form answers come: `json`, `xml`, `html` or `text`.
    #[serde(rename = "type", with = "scalar")]
    #[schemars(with = "As<ContentKind>")]
    pub(in crate::config) kind: ContentKind,
}

impl EnvelopeSettings {
    pub(in crate::config) fn check(&self, report: &mut Report<'_>) {
        let Some(file) = &self.error_page else {
            return;
        };
        let path = Path::of(&["envelope", "error_page"]);
        readable(file, &path, report);
        if let Ok(template) = std::fs::read_to_string(file)
            && let Err(error) = Answers::new().with_error_page(&template)
        {
            report.invalid(&path, error.to_string(), "mend the template");
        }
    }

    /// How answers are made. The error page is read now; where it can't be, `check` has said so,
    /// and the built-in one stands in.
    pub fn answers(&self) -> Answers {
        let answers = Answers::new()
            .with_status_mode(self.status_mode)
            .with_debug(self.debug);
        let answers = match self.language {
            Speech::Auto => answers,
            Speech::En => answers.with_language(Language::En),
            Speech::ZhCn => answers.with_language(Language::ZhCn),
        };
        let template = self.error_page.as_ref();
        match template.and_then(|file| std::fs::read_to_string(file).ok()) {
            Some(template) => answers
                .clone()
                .with_error_page(&template)
                .unwrap_or(answers),
            None => answers,
        }
    }
}

/// What a route says of its envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnvelopeRule {
    /// On or off; `None`: as the section says.
    pub on: Option<bool>,
    /// In which form answers come.
    pub kind: ContentKind,
}

impl EnvelopeRule {
    pub(in crate::config) fn new(toggle: Option<&Toggle<RouteEnvelope>>) -> Self {
        match toggle {
            None => Self::default(),
            Some(Toggle::Off) => Self {
                on: Some(false),
                ..Self::default()
            },
            Some(Toggle::On) => Self {
                on: Some(true),
                ..Self::default()
            },
            Some(Toggle::With(table)) => Self {
                on: Some(true),
                kind: table.kind,
            },
        }
    }

    pub(in crate::config) fn to_raw(self) -> Option<Toggle<RouteEnvelope>> {
        Some(match (self.on?, self.kind) {
            (false, _) => Toggle::Off,
            (true, ContentKind::Json) => Toggle::On,
            (true, kind) => Toggle::With(Box::new(RouteEnvelope { kind })),
        })
    }
}

impl Choice for StatusMode {
    const NAMES: &'static [(&'static str, Self)] =
        &[("mapped", Self::Mapped), ("always-200", Self::Always200)];
}

impl Choice for Speech {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("en", Self::En),
        ("zh-CN", Self::ZhCn),
    ];
}

impl Choice for ContentKind {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("json", Self::Json),
        ("xml", Self::Xml),
        ("html", Self::Html),
        ("text", Self::Text),
    ];
}
