//! The values of `[idempotency]`, as settings write them.

mod fingerprint;
mod key_rule;
mod statuses;

use std::borrow::Cow;

use http::{HeaderName, Method, StatusCode};
use onlyonce_core::{Anonymous, Concurrent, OnStoreFailure, OnUnknown, Profile, ScopeRule, Syntax};
use schemars::{Schema, json_schema};

use crate::config::scalar::{Choice, Remedy, Scalar, Written};

pub(super) use fingerprint::FingerprintValue;
pub(super) use key_rule::KeyRuleValue;
pub(super) use statuses::StatusSetValue;

impl Choice for Profile {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("standard", Self::Standard),
        ("ietf", Self::Ietf),
        ("stripe", Self::Stripe),
        ("fiber", Self::Fiber),
        ("redis-gin", Self::RedisGin),
        ("payments", Self::Payments),
    ];
}

impl Choice for Syntax {
    const NAMES: &'static [(&'static str, Self)] =
        &[("lenient", Self::Lenient), ("strict", Self::Strict)];
}

impl Choice for Anonymous {
    const NAMES: &'static [(&'static str, Self)] =
        &[("share", Self::Share), ("refuse", Self::Refuse)];
}

impl Choice for Concurrent {
    const NAMES: &'static [(&'static str, Self)] =
        &[("reject", Self::Reject), ("wait", Self::Wait)];
}

impl Choice for OnUnknown {
    const NAMES: &'static [(&'static str, Self)] = &[("hold", Self::Hold), ("retry", Self::Retry)];
}

impl Choice for OnStoreFailure {
    const NAMES: &'static [(&'static str, Self)] =
        &[("reject", Self::Reject), ("bypass", Self::Bypass)];
}

impl Scalar for HeaderName {
    fn expected() -> Cow<'static, str> {
        "the name of a header".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        Self::from_bytes(text.as_bytes()).map_err(|_| {
            "header names are made of letters, digits and -, such as \"Idempotency-Key\"".into()
        })
    }

    fn written(&self) -> Written {
        Written::Text(self.as_str().to_owned())
    }

    fn schema() -> Schema {
        json_schema!({ "title": "header name", "type": "string", "minLength": 1 })
    }
}

impl Scalar for Method {
    fn expected() -> Cow<'static, str> {
        "a method such as \"POST\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        // Methods count by case, and nobody means `post`.
        if text.chars().any(|c| c.is_ascii_lowercase()) {
            return Err(format!(
                "methods are written in capitals: \"{}\"",
                text.to_uppercase()
            )
            .into());
        }
        Self::from_bytes(text.as_bytes()).map_err(|_| Remedy::none())
    }

    fn written(&self) -> Written {
        Written::Text(self.to_string())
    }

    fn schema() -> Schema {
        json_schema!({ "title": "method", "type": "string", "pattern": "^[^a-z]+$" })
    }
}

impl Scalar for StatusCode {
    fn expected() -> Cow<'static, str> {
        "a status such as 409".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        match text.parse::<Self>() {
            Ok(_) => Err("write the number without quotes".into()),
            Err(_) => Err(Remedy::none()),
        }
    }

    fn from_integer(number: u64) -> Result<Self, Remedy> {
        u16::try_from(number)
            .ok()
            .and_then(|number| Self::from_u16(number).ok())
            .ok_or_else(Remedy::none)
    }

    fn written(&self) -> Written {
        Written::Integer(self.as_u16().into())
    }

    fn schema() -> Schema {
        json_schema!({ "title": "status", "type": "integer", "minimum": 100, "maximum": 999 })
    }
}

impl Scalar for ScopeRule {
    fn expected() -> Cow<'static, str> {
        "\"principal\", \"header:NAME\" or \"none\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        match (text, text.split_once(':')) {
            ("principal", _) => Ok(Self::Principal),
            ("none", _) => Ok(Self::Shared),
            (_, Some(("header", name))) => HeaderName::from_text(name.trim()).map(Self::Header),
            ("header", _) => Err("name the header: \"header:X-Tenant\"".into()),
            _ => Err(Remedy::none()),
        }
    }

    fn written(&self) -> Written {
        Written::Text(match self {
            Self::Header(name) => format!("header:{name}"),
            Self::Shared => "none".to_owned(),
            _ => "principal".to_owned(),
        })
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "`principal`, `header:NAME` or `none`",
            "type": "string",
            "pattern": "^(principal|none|header:.+)$",
        })
    }
}

/// `docs_url`, which ends up in a `Link` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct DocsUrl(pub(in crate::config) Box<str>);

impl Scalar for DocsUrl {
    fn expected() -> Cow<'static, str> {
        "a URL such as \"https://docs.example.com/idempotency\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        if text.contains('#') {
            return Err("leave the part from # on out: the kind of problem goes there".into());
        }
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | '\\');
        if !text.contains(':') || !text.chars().all(fits) {
            return Err(Remedy::none());
        }
        Ok(Self(text.into()))
    }

    fn written(&self) -> Written {
        Written::Text(self.0.to_string())
    }

    fn schema() -> Schema {
        json_schema!({ "title": "URL", "type": "string", "pattern": "^[^#]+:[^#]+$" })
    }
}
