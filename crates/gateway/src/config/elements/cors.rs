//! `[cors]`: which pages of other origins may use the service.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::{HeaderName, Method};
use onlyonce_pipeline::cors::{Cors, CorsError, CorsLayer, OriginError, OriginPattern};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::toggle::Toggle;
use crate::config::decode::expected_but;
use crate::config::error::Problem;
use crate::config::report::Report;
use crate::config::scalar::{As, Choice, Remedy, Scalar, Written};
use crate::config::tree::Path;

/// Which pages of other origins may use the service. Off as long as neither `origins` nor
/// `preset` is set: then the upstream sees to it itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[cors]`")]
#[schemars(inline)]
pub struct CorsSettings {
    /// Where settings start from. `hotgo`: as `HotGo` does, any origin may send credentials; every
    /// other setting wins over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) preset: Option<As<CorsPreset>>,
    /// The origins that are let in: each exact (`https://shop.example`) or all below a domain
    /// (`https://*.shop.example`, in short `.shop.example`). `any`: whoever it is, without
    /// credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) origins: Option<Origins>,
    /// Whether browsers send cookies along. Left out: no, but with `hotgo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) credentials: Option<bool>,
    /// The methods that are let in. Left out: GET, HEAD, POST, PUT, PATCH and DELETE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) methods: Option<Vec<As<Method>>>,
    /// The request headers that are let in, besides those of idempotency keys. Left out: `Accept`,
    /// `Authorization` and `Content-Type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) headers: Option<Vec<As<HeaderName>>>,
    /// The response headers that pages can read, besides `Trace-ID`, `Retry-After` and
    /// `Idempotent-Replayed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) expose_headers: Option<Vec<As<HeaderName>>>,
    /// How long browsers may keep the answer to a preflight. Left out: ten minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) max_age: Option<As<Duration>>,
}

/// Where settings start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum CorsPreset {
    HotGo,
}

/// Which origins are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum Origins {
    Any,
    Listed(Vec<As<Origin>>),
}

/// An origin, or all below a domain, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Origin {
    text: Box<str>,
    pattern: OriginPattern,
}

impl CorsSettings {
    pub(in crate::config) fn check(&self, section: &Path, report: &mut Report<'_>) {
        let Some(cors) = self.cors() else {
            if *self != Self::default() && !report.was_faulty(section) {
                report.warn(
                    section,
                    Problem::new("no page of another origin is let in")
                        .label("neither `origins` nor `preset` is set, so the rest has no effect")
                        .help("add for example `origins = [\"https://shop.example\"]`"),
                );
            }
            return;
        };
        if cors.check() == Err(CorsError::AnyOriginWithCredentials) {
            let place = ["credentials", "origins", "preset"]
                .map(|key| section.key(key))
                .into_iter()
                .find(|path| report.is_set(path))
                .unwrap_or_else(|| section.clone());
            report.error(
                &place,
                Problem::new("any origin and credentials exclude each other")
                    .label("any page could act with the cookies of its visitors")
                    .help("list the `origins`, or write `credentials = false`"),
            );
        }
        if self.credentials.unwrap_or(self.preset.is_some()) {
            self.check_wildcards(section, report);
        }
        let open = self.preset.is_some() && self.origins.is_none();
        if open && self.credentials != Some(false) {
            report.warn(
                &section.key("preset"),
                Problem::new("any page can act with the cookies of its visitors")
                    .label("`hotgo` lets every origin in, with credentials")
                    .help("list the `origins`, unless no cookie means anything to the service"),
            );
        }
    }

    /// Where credentials are let in, browsers take `*` for a name that nothing has.
    fn check_wildcards(&self, section: &Path, report: &mut Report<'_>) {
        let names = |list: &Option<Vec<As<HeaderName>>>| -> Vec<String> {
            let list = list.iter().flatten();
            list.map(|As(name)| name.to_string()).collect()
        };
        let methods = self.methods.iter().flatten();
        let methods = methods.map(|As(method)| method.to_string()).collect();
        for (key, list) in [
            ("methods", methods),
            ("headers", names(&self.headers)),
            ("expose_headers", names(&self.expose_headers)),
        ] {
            if let Some(index) = list.iter().position(|name| name == "*") {
                report.invalid(
                    &section.key(key).index(index),
                    "with credentials, browsers take `*` for a name like any other",
                    "list them by name",
                );
            }
        }
    }

    /// The layer that they describe; `None` when there is to be none.
    #[must_use]
    pub fn layer(&self) -> Option<CorsLayer> {
        // What can't be has been refused by `check`.
        CorsLayer::new(&self.cors()?).ok()
    }

    fn cors(&self) -> Option<Cors> {
        let mut cors = match (self.preset, &self.origins) {
            (None, None) => return None,
            (Some(As(CorsPreset::HotGo)), _) => Cors::hotgo(),
            (None, Some(_)) => Cors::new(),
        };
        cors = match &self.origins {
            None => cors,
            Some(Origins::Any) => cors.with_any_origin(),
            Some(Origins::Listed(list)) => {
                cors.with_origin_patterns(list.iter().map(|As(origin)| origin.pattern.clone()))
            }
        };
        if let Some(credentials) = self.credentials {
            cors = cors.with_credentials(credentials);
        }
        if let Some(methods) = &self.methods {
            cors = cors.with_methods(methods.iter().map(|As(method)| method.clone()));
        }
        if let Some(headers) = &self.headers {
            cors = cors.with_headers(headers.iter().map(|As(name)| name.clone()));
        }
        if let Some(headers) = &self.expose_headers {
            cors = cors.with_exposed(headers.iter().map(|As(name)| name.clone()));
        }
        if let Some(As(max_age)) = self.max_age {
            cors = cors.with_max_age(max_age);
        }
        Some(cors)
    }

    /// These, where something is said; else those of `base`. A `preset` starts anew.
    fn over(&self, base: &Self) -> Self {
        if self.preset.is_some() {
            return self.clone();
        }
        let this = self.clone();
        Self {
            preset: base.preset,
            origins: this.origins.or_else(|| base.origins.clone()),
            credentials: this.credentials.or(base.credentials),
            methods: this.methods.or_else(|| base.methods.clone()),
            headers: this.headers.or_else(|| base.headers.clone()),
            expose_headers: this.expose_headers.or_else(|| base.expose_headers.clone()),
            max_age: this.max_age.or(base.max_age),
        }
    }
}

/// What a route says of pages of other origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsRule(Option<Toggle<CorsSettings>>);

impl CorsRule {
    pub(in crate::config) fn new(
        toggle: Option<&Toggle<CorsSettings>>,
        base: &CorsSettings,
        path: &Path,
        report: &mut Report<'_>,
    ) -> Self {
        match toggle {
            Some(Toggle::With(own)) => own.over(base).check(path, report),
            Some(Toggle::On) if base.cors().is_none() => report.invalid(
                path,
                "`[cors]` lets no origin in",
                "set `origins` in `[cors]`, or here: `cors = { origins = […] }`",
            ),
            _ => {}
        }
        Self(toggle.cloned())
    }

    pub(in crate::config) fn to_raw(&self) -> Option<Toggle<CorsSettings>> {
        self.0.clone()
    }

    /// The layer on this route, where the section says `base`; `None` when there is to be none.
    #[must_use]
    pub fn layer(&self, base: &CorsSettings) -> Option<CorsLayer> {
        match &self.0 {
            None | Some(Toggle::On) => base.layer(),
            Some(Toggle::Off) => None,
            Some(Toggle::With(own)) => own.over(base).layer(),
        }
    }
}

impl Choice for CorsPreset {
    const NAMES: &'static [(&'static str, Self)] = &[("hotgo", Self::HotGo)];
}

impl Scalar for Origin {
    fn expected() -> Cow<'static, str> {
        "an origin such as \"https://shop.example\" or \"https://*.shop.example\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        if text == "*" {
            return Err("to let any origin in, write `origins = \"any\"`".into());
        }
        match text.parse() {
            Ok(pattern) => Ok(Self {
                text: text.into(),
                pattern,
            }),
            Err(error) => Err(OriginError::problem(&error).into()),
        }
    }

    fn written(&self) -> Written {
        Written::Text(self.text.to_string())
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "origin",
            "type": "string",
            "pattern": "^([a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]+|\\.[^/?#]+)$",
            "examples": ["https://shop.example", "https://*.shop.example"],
        })
    }
}

impl<'de> Deserialize<'de> for Origins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyOrList;

        impl<'de> Visitor<'de> for AnyOrList {
            type Value = Origins;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of origins such as [\"https://shop.example\"], or \"any\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Origins, E> {
                match text {
                    "any" => Ok(Origins::Any),
                    "*" => Err(E::custom(format!(
                        "{}\nto let any origin in, write `origins = \"any\"`",
                        expected_but(&Unexpected::Str(text), &self)
                    ))),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Origins, A::Error> {
                let mut origins = Vec::new();
                while let Some(origin) = list.next_element()? {
                    origins.push(origin);
                }
                Ok(Origins::Listed(origins))
            }
        }

        deserializer.deserialize_any(AnyOrList)
    }
}

impl Serialize for Origins {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::Listed(origins) => origins.serialize(serializer),
        }
    }
}

impl JsonSchema for Origins {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Origins".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "list of origins, or `any`",
            "anyOf": [
                { "type": "array", "items": Origin::schema() },
                { "type": "string", "const": "any" },
            ],
        })
    }
}
