//! `[store]`: where records live.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use onlyonce_disk::Durability;
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

use crate::config::error::Problem;
use crate::config::names::nearest;
use crate::config::report::Report;
use crate::config::scalar::{As, Choice, Remedy, Scalar, Written};
use crate::config::size::Bytes;
use crate::config::tree::Path;

use super::tls::NO_TILDE;

/// Where records live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[store]`")]
#[schemars(inline)]
pub(in crate::config) struct RawStore {
    /// `file:FOLDER` keeps records on this machine's disk, `memory:` for the life of the process.
    pub(in crate::config) url: Option<As<StoreUrl>>,
    /// With `file:`: `record` has every claim and every response on the disk before it counts;
    /// `relaxed` writes to the disk every `relaxed_every`, and a crash of the machine can lose
    /// what came since: a request can then be executed twice.
    pub(in crate::config) durability: Option<As<DurabilityName>>,
    /// With `durability = "relaxed"`: the time between two writes to the disk, 1 ms to
    /// 60 s. Default: 100 ms.
    pub(in crate::config) relaxed_every: Option<As<Duration>>,
    /// Room for records. When it is full of live ones, new keyed requests get 503. Default:
    /// 1 GiB with `memory:`, 10 GiB with `file:`.
    pub(in crate::config) max_bytes: Option<As<Bytes>>,
}

/// Where records live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Which store.
    pub url: StoreUrl,
    /// What a crash of the machine can take. Of no meaning in memory.
    pub durability: Durability,
    /// Room for records, in bytes.
    pub max_bytes: u64,
}

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// In this process, as long as it lives.
    Memory,
    /// On disk, in this folder.
    File(PathBuf),
}

/// [`Durability`] as settings name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum DurabilityName {
    Record,
    Relaxed,
}

impl Choice for DurabilityName {
    const NAMES: &'static [(&'static str, Self)] =
        &[("record", Self::Record), ("relaxed", Self::Relaxed)];
}

const RELAXED_EVERY: Duration = Duration::from_millis(100);
/// Four segments of the log on disk.
const LEAST_BYTES: u64 = 4 << 20;
/// What the disk store takes.
const RELAXED_RANGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

impl RawStore {
    pub(in crate::config) fn resolve(&self, report: &mut Report<'_>) -> StoreSettings {
        let section = Path::of(&["store"]);
        let url = self
            .url
            .clone()
            .map_or_else(|| StoreUrl::File("./onlyonce-data".into()), |As(url)| url);
        let every = self.relaxed_every.map_or(RELAXED_EVERY, |As(every)| every);
        if !RELAXED_RANGE.contains(&every) {
            report.invalid(
                &section.key("relaxed_every"),
                "expected a time from \"1ms\" to \"60s\"",
                "it is what a crash of the machine may take",
            );
        }
        let durability = match self.durability {
            Some(As(DurabilityName::Relaxed)) => Durability::Relaxed { every },
            Some(As(DurabilityName::Record)) | None => Durability::Record,
        };
        let useless = match (&url, durability) {
            (StoreUrl::Memory, _) => Some(("durability", "memory holds nothing across a crash")),
            (_, Durability::Record) => {
                Some(("relaxed_every", "it belongs to `durability = \"relaxed\"`"))
            }
            (_, Durability::Relaxed { .. }) => None,
        };
        if let Some((key, why)) = useless {
            let path = section.key(key);
            if report.is_set(&path) {
                let title = format!("`{key}` has no effect here");
                report.warn(&path, Problem::new(title).label(why));
            }
        }
        let max_bytes = match (self.max_bytes, &url) {
            (Some(As(Bytes(bytes))), _) => bytes,
            (None, StoreUrl::Memory) => 1 << 30,
            (None, StoreUrl::File(_)) => 10 << 30,
        };
        if max_bytes < LEAST_BYTES {
            report.invalid(
                &section.key("max_bytes"),
                "expected at least \"4MiB\"",
                "less would be full after a few responses",
            );
        }
        StoreSettings {
            url,
            durability,
            max_bytes,
        }
    }
}

impl From<&StoreSettings> for RawStore {
    fn from(store: &StoreSettings) -> Self {
        let on_disk = store.url != StoreUrl::Memory;
        let (durability, every) = match store.durability {
            Durability::Record => (DurabilityName::Record, None),
            Durability::Relaxed { every } => (DurabilityName::Relaxed, Some(As(every))),
        };
        Self {
            url: Some(As(store.url.clone())),
            durability: on_disk.then_some(As(durability)),
            relaxed_every: every.filter(|_| on_disk),
            max_bytes: Some(As(Bytes(store.max_bytes))),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::File(folder) => write!(f, "file:{}", folder.display()),
        }
    }
}

impl Scalar for StoreUrl {
    fn expected() -> Cow<'static, str> {
        "`memory:` or `file:` and a folder, such as \"file:./onlyonce-data\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(match nearest(text, ["memory"]) {
                Some(_) => "write \"memory:\", with the colon".into(),
                None => format!("for a folder on this machine write \"file:{text}\"").into(),
            });
        };
        match (scheme, rest) {
            ("memory", "") => Ok(Self::Memory),
            ("memory", _) => {
                Err("nothing follows \"memory:\"; options are keys of `[store]`".into())
            }
            ("file", "") => Err("name the folder: \"file:./onlyonce-data\"".into()),
            ("file", folder) if folder.starts_with("~") => Err(NO_TILDE.into()),
            ("file", folder) if folder.contains(['?', '\0']) => {
                Err("options are keys of `[store]`, such as `durability`".into())
            }
            ("file", folder) => Ok(Self::File(folder_of_url(folder)?.into())),
            ("redis" | "rediss" | "redis+sentinel" | "redis+cluster" | "valkey", _) => {
                Err("this build has no Redis store: use \"file:\" or \"memory:\"".into())
            }
            ("postgres" | "postgresql", _) => {
                Err("this build has no PostgreSQL store: use \"file:\" or \"memory:\"".into())
            }
            _ => Err(Remedy::none()),
        }
    }

    fn written(&self) -> Written {
        Written::Text(self.to_string())
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "`memory:` or `file:FOLDER`",
            "type": "string",
            "pattern": "^(memory:|file:.+)$",
            "examples": ["file:./onlyonce-data", "memory:"],
        })
    }
}

/// `file:./a`, `file:/a` and `file:///a` are all meant by somebody.
fn folder_of_url(rest: &str) -> Result<&str, Remedy> {
    match rest.strip_prefix("//") {
        None => Ok(rest),
        Some(path) if path.starts_with('/') => Ok(path),
        Some(path) => Err(format!(
            "write \"file:/{path}\" for a folder at the root, \"file:./{path}\" for one below \
             the folder the gateway is started in"
        )
        .into()),
    }
}
