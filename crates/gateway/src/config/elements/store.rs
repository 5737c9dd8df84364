//! `[store]`: where records live.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use onlyonce_core::StoreError;
use onlyonce_disk::Durability;
use onlyonce_postgres::PostgresStore;
use onlyonce_redis::RedisStore;
use onlyonce_sealed::Compression;
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

use crate::config::error::Problem;
use crate::config::names::nearest;
use crate::config::report::Report;
use crate::config::scalar::{As, Choice, OrOff, Remedy, Scalar, Written};
use crate::config::size::Bytes;
use crate::config::tree::Path;

use super::tls::NO_TILDE;
use super::wrappers::{RawEncryption, ScrubEntry, WrapperSettings};

/// Where records live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[store]`")]
#[schemars(inline)]
pub(in crate::config) struct RawStore {
    /// `file:FOLDER` keeps records on this machine's disk, `memory:` for the life of the process,
    /// `redis://HOST`, `redis+sentinel://HOST,HOST/SERVICE`, `redis+cluster://HOST,HOST` or
    /// `postgres://USER:PASSWORD@HOST/DATABASE` where several gateways share them.
    pub(in crate::config) url: Option<As<StoreUrl>>,
    /// With `file:`: `record` has every claim and every response on the disk before it counts;
    /// `relaxed` writes to the disk every `relaxed_every`, and a crash of the machine can lose
    /// what came since: a request can then be executed twice.
    pub(in crate::config) durability: Option<As<DurabilityName>>,
    /// With `durability = "relaxed"`: the time between two writes to the disk, 1 ms to
    /// 60 s. Default: 100 ms.
    pub(in crate::config) relaxed_every: Option<As<Duration>>,
    /// Room for records. When it is full of live ones, new keyed requests get 503. Default:
    /// 1 GiB with `memory:`, 10 GiB with `file:`. Redis and PostgreSQL have bounds of
    /// their own.
    pub(in crate::config) max_bytes: Option<As<Bytes>>,
    /// Room for copies of completed records in this process: a hot replay then needs no round trip
    /// to the store. What is forgotten elsewhere is gone from it at once, or after 6 s where a
    /// connection died silently. Default: 64 MiB with a store that is shared, else off.
    pub(in crate::config) near_cache: Option<As<OrOff<Bytes>>>,
    /// After so many calls in a row that the store did not answer, keyed requests get 503 at once,
    /// until it answers again. Default: 5 with a store that is shared, else off.
    pub(in crate::config) breaker_failures: Option<As<OrOff<u32>>>,
    /// How long that lasts before the store is tried again with one request. Default: 5 s.
    pub(in crate::config) breaker_open_for: Option<As<Duration>>,
    /// Seals responses before they reach the store:
    /// `{ active = "k2", keys = { k1 = { file = "k1.key" }, k2 = { env = "K2" } } }`. Each key is
    /// 32 bytes in base64, from a file or a variable; `active` seals, all of them open. Read again
    /// on reload. `accept_plain = true` also reads what was stored before.
    pub(in crate::config) encryption: Option<RawEncryption>,
    /// `lz4` compresses responses before they are sealed and stored. Their lengths then tell of
    /// their contents: leave it off where callers can put text of theirs beside a secret.
    pub(in crate::config) compression: Option<As<Compression>>,
    /// What is not stored of responses: header fields by name, and parts of JSON bodies by JSON
    /// pointer, which become `null`. The first client gets them, replays don't.
    pub(in crate::config) scrub: Option<Vec<As<ScrubEntry>>>,
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
    /// What goes around the store.
    pub wrappers: WrapperSettings,
}

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// In this process, as long as it lives.
    Memory,
    /// On disk, in this folder.
    File(PathBuf),
    /// On Redis or Valkey.
    Redis(RemoteUrl),
    /// On PostgreSQL.
    Postgres(RemoteUrl),
}

impl StoreUrl {
    /// What a store on servers of its own is called; `None` for one of this machine's.
    pub(crate) fn server(&self) -> Option<&'static str> {
        match self {
            Self::Memory | Self::File(_) => None,
            Self::Redis(_) => Some("Redis"),
            Self::Postgres(_) => Some("PostgreSQL"),
        }
    }
}

/// A URL that a store's crate takes. It may hold a password, and shows none.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteUrl {
    text: Box<str>,
    shown: Box<str>,
}

impl RemoteUrl {
    /// The URL itself, secrets and all.
    pub(crate) fn expose(&self) -> &str {
        &self.text
    }

    fn new(
        text: &str,
        check: impl FnOnce(&str) -> Result<(), StoreError>,
        shown: impl FnOnce(&str) -> String,
    ) -> Result<Self, Remedy> {
        match check(text) {
            Ok(()) => Ok(Self {
                text: text.into(),
                shown: shown(text).into(),
            }),
            Err(error) => {
                let said = error.to_string();
                Err(said.strip_prefix("store: open: ").unwrap_or(&said).into())
            }
        }
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
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
    pub(in crate::config) fn url(&self) -> StoreUrl {
        let url = self.url.clone();
        url.map_or_else(|| StoreUrl::File("./onlyonce-data".into()), |As(url)| url)
    }

    pub(in crate::config) fn resolve(&self, report: &mut Report<'_>) -> StoreSettings {
        let section = Path::of(&["store"]);
        let url = self.url();
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
            (StoreUrl::Redis(_), _) => Some(("durability", "Redis has settings of its own")),
            (StoreUrl::Postgres(_), _) => {
                Some(("durability", "PostgreSQL has settings of its own"))
            }
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
            (None, StoreUrl::File(_) | StoreUrl::Redis(_) | StoreUrl::Postgres(_)) => 10 << 30,
        };
        if let (Some(server), path) = (url.server(), section.key("max_bytes"))
            && report.is_set(&path)
        {
            let title = "`max_bytes` has no effect here";
            let label = format!("{server} has bounds of its own");
            report.warn(&path, Problem::new(title).label(label));
        }
        if max_bytes < LEAST_BYTES {
            report.invalid(
                &section.key("max_bytes"),
                "expected at least \"4MiB\"",
                "less would be full after a few responses",
            );
        }
        StoreSettings {
            wrappers: WrapperSettings::resolve(self, url.server().is_some(), report),
            url,
            durability,
            max_bytes,
        }
    }
}

impl From<&StoreSettings> for RawStore {
    fn from(store: &StoreSettings) -> Self {
        let on_disk = matches!(store.url, StoreUrl::File(_));
        let bounded = store.url.server().is_none();
        let (durability, every) = match store.durability {
            Durability::Record => (DurabilityName::Record, None),
            Durability::Relaxed { every } => (DurabilityName::Relaxed, Some(As(every))),
        };
        let mut raw = Self {
            url: Some(As(store.url.clone())),
            durability: on_disk.then_some(As(durability)),
            relaxed_every: every.filter(|_| on_disk),
            max_bytes: bounded.then_some(As(Bytes(store.max_bytes))),
            ..Self::default()
        };
        store.wrappers.put_into(&mut raw);
        raw
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::File(folder) => write!(f, "file:{}", folder.display()),
            Self::Redis(url) | Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl Scalar for StoreUrl {
    fn expected() -> Cow<'static, str> {
        "`memory:`, `redis://` or `postgres://` and a host, or `file:` and a folder, such as \
         \"file:./onlyonce-data\""
            .into()
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
            (scheme, _)
                if ["redis", "valkey"]
                    .iter()
                    .any(|name| scheme.starts_with(name)) =>
            {
                let url = RemoteUrl::new(text, RedisStore::check_url, RedisStore::shown_url);
                url.map(Self::Redis)
            }
            ("postgres" | "postgresql", _) => {
                let url = RemoteUrl::new(text, PostgresStore::check_url, PostgresStore::shown_url);
                url.map(Self::Postgres)
            }
            _ => Err(Remedy::none()),
        }
    }

    fn written(&self) -> Written {
        Written::Text(self.to_string())
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "`memory:`, `file:FOLDER`, `redis://HOST` or `postgres://HOST/DATABASE`",
            "type": "string",
            "pattern": "^(memory:|file:.+|(redis|valkey)s?(\\+sentinel|\\+cluster)?://.+|postgres(ql)?://.+)$",
            "examples": ["file:./onlyonce-data", "memory:", "redis://127.0.0.1:6379"],
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
