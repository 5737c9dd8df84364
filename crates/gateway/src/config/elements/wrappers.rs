//! What goes around the store: `near_cache`, the breaker, `encryption`, `compression`, `scrub`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use onlyonce_guard::Breaker;
use onlyonce_sealed::{Compression, Fields, KeyRing, SealingKey};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::config::error::Problem;
use crate::config::names::nearest;
use crate::config::report::Report;
use crate::config::scalar::{As, Choice, OrOff, Remedy, Scalar, Written};
use crate::config::size::Bytes;
use crate::config::tree::Path;

use super::store::RawStore;

/// Keys that seal what is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `active` and `keys`")]
pub(in crate::config) struct RawEncryption {
    /// The name of the key that seals. All keys open.
    pub(in crate::config) active: String,
    /// Reads responses that are not sealed, from before encryption was switched on.
    #[serde(default)]
    pub(in crate::config) accept_plain: bool,
    /// Where each key is: `{ file = "PATH" }` or `{ env = "VARIABLE" }`. A key is 32 bytes in
    /// base64.
    pub(in crate::config) keys: BTreeMap<String, RawKey>,
}

/// Where a key is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table: `{ file = \"PATH\" }` or `{ env = \"VARIABLE\" }`"
)]
pub(in crate::config) struct RawKey {
    /// A file with the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) file: Option<As<PathBuf>>,
    /// A variable of the environment with the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) env: Option<String>,
}

impl JsonSchema for RawEncryption {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Encryption".into()
    }

    /// A value, though it is a table: its keys are no settings of their own.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let place = json_schema!({
            "type": "object",
            "properties": { "file": { "type": "string" }, "env": { "type": "string" } },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
        });
        json_schema!({
            "title": "table of `active`, `keys` and `accept_plain`",
            "type": "object",
            "allOf": [{
                "properties": {
                    "active": { "type": "string" },
                    "accept_plain": { "type": "boolean" },
                    "keys": { "type": "object", "additionalProperties": place },
                },
                "required": ["active", "keys"],
                "additionalProperties": false,
            }],
        })
    }
}

/// What goes around the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrapperSettings {
    /// Room for copies of completed records, in bytes; `None` is off.
    pub near_cache: Option<u64>,
    /// When claims are refused; `None` is never.
    pub breaker: Option<BreakerSettings>,
    /// Seals responses.
    pub encryption: Option<EncryptionSettings>,
    /// Compresses responses.
    pub compression: Compression,
    /// What is not stored of responses.
    pub scrub: Vec<ScrubEntry>,
}

/// When claims are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row.
    pub failures: u32,
    /// How long.
    pub open_for: Duration,
}

/// Seals responses.
#[derive(Clone, Debug)]
pub struct EncryptionSettings {
    raw: RawEncryption,
    /// The keys, as they were when the settings were read.
    pub ring: KeyRing,
}

impl EncryptionSettings {
    /// Whether responses that are not sealed are read.
    #[must_use]
    pub fn accept_plain(&self) -> bool {
        self.raw.accept_plain
    }
}

/// By name and place: keys are not compared.
impl PartialEq for EncryptionSettings {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for EncryptionSettings {}

/// The name of a header field, or a JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubEntry {
    /// A header or trailer field.
    Header(HeaderName),
    /// A part of a JSON body.
    Pointer(Box<str>),
}

impl Scalar for ScrubEntry {
    fn expected() -> Cow<'static, str> {
        "the name of a header, or a JSON pointer such as \"/card/number\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        if text.starts_with('/') {
            return match Fields::new([], [text]) {
                Ok(_) => Ok(Self::Pointer(text.into())),
                Err(error) => Err(error.to_string().into()),
            };
        }
        HeaderName::from_text(text).map(Self::Header)
    }

    fn written(&self) -> Written {
        Written::Text(match self {
            Self::Header(name) => name.to_string(),
            Self::Pointer(pointer) => pointer.to_string(),
        })
    }

    fn schema() -> Schema {
        json_schema!({ "title": "header name or JSON pointer", "type": "string", "minLength": 1 })
    }
}

impl Choice for Compression {
    const NAMES: &'static [(&'static str, Self)] = &[("none", Self::None), ("lz4", Self::Lz4)];
}

const NEAR_CACHE: u64 = 64 << 20;
const LEAST_NEAR_CACHE: u64 = 1 << 20;
const FAILURES: u32 = 5;
const OPEN_FOR: Duration = Duration::from_secs(5);
const LONGEST_OPEN: Duration = Duration::from_secs(600);
/// A key in base64 has 44 characters.
const LONGEST_KEY_FILE: u64 = 1024;

impl WrapperSettings {
    pub(super) fn resolve(raw: &RawStore, remote: bool, report: &mut Report<'_>) -> Self {
        let section = Path::of(&["store"]);
        let near_cache = match &raw.near_cache {
            Some(As(OrOff::On(Bytes(bytes)))) => Some(*bytes),
            Some(As(OrOff::Off)) => None,
            None => remote.then_some(NEAR_CACHE),
        };
        if near_cache.is_some_and(|bytes| bytes < LEAST_NEAR_CACHE) {
            let help = "less holds next to nothing: write \"off\", or leave it out";
            report.invalid(
                &section.key("near_cache"),
                "expected at least \"1MiB\"",
                help,
            );
        }
        if !remote && near_cache.is_some() {
            let title = "`near_cache` brings nothing here";
            let label = "the store is on this machine: it answers without a round trip";
            report.warn(&section.key("near_cache"), Problem::new(title).label(label));
        }
        let failures = match &raw.breaker_failures {
            Some(As(OrOff::On(failures))) => Some(*failures),
            Some(As(OrOff::Off)) => None,
            None => remote.then_some(FAILURES),
        };
        if failures == Some(0) {
            let help = "write \"off\" to let everything through";
            report.invalid(
                &section.key("breaker_failures"),
                "expected at least 1",
                help,
            );
        }
        let open_for = raw.breaker_open_for.map_or(OPEN_FOR, |As(span)| span);
        if open_for.is_zero() || open_for > LONGEST_OPEN {
            let path = section.key("breaker_open_for");
            let help = "it is how long clients are refused before the store is tried again";
            report.invalid(
                &path,
                "expected more than nothing, and at most \"10m\"",
                help,
            );
        }
        Self {
            near_cache,
            breaker: failures.map(|failures| BreakerSettings { failures, open_for }),
            encryption: raw.encryption.as_ref().and_then(|raw| raw.resolve(report)),
            compression: raw.compression.map_or(Compression::None, |As(it)| it),
            scrub: raw
                .scrub
                .iter()
                .flatten()
                .map(|As(it)| it.clone())
                .collect(),
        }
    }

    /// As the scrub of the store wants them; `None` when there is nothing to take out.
    pub(crate) fn fields(&self) -> Option<Fields> {
        let headers = self.scrub.iter().filter_map(|entry| match entry {
            ScrubEntry::Header(name) => Some(name.clone()),
            ScrubEntry::Pointer(_) => None,
        });
        let pointers = self.scrub.iter().filter_map(|entry| match entry {
            ScrubEntry::Header(_) => None,
            ScrubEntry::Pointer(pointer) => Some(pointer.as_ref()),
        });
        let fields = (!self.scrub.is_empty()).then(|| Fields::new(headers, pointers));
        // Each has been parsed before.
        fields.and_then(Result::ok)
    }

    pub(super) fn put_into(&self, raw: &mut RawStore) {
        raw.near_cache = Some(As(self.near_cache.map(Bytes).into()));
        raw.breaker_failures = Some(As(self.breaker.map(|breaker| breaker.failures).into()));
        raw.breaker_open_for = self.breaker.map(|breaker| As(breaker.open_for));
        raw.encryption = self.encryption.as_ref().map(|it| it.raw.clone());
        raw.compression = Some(As(self.compression));
        raw.scrub = Some(self.scrub.iter().cloned().map(As).collect());
    }
}

impl BreakerSettings {
    /// As the guard wants it.
    pub fn breaker(&self) -> Breaker {
        Breaker::new()
            .failures(self.failures)
            .open_for(self.open_for)
    }
}

impl RawEncryption {
    fn resolve(&self, report: &mut Report<'_>) -> Option<EncryptionSettings> {
        let section = Path::of(&["store", "encryption"]);
        let keys = section.key("keys");
        if !self.keys.contains_key(&self.active) {
            let help = match nearest(&self.active, self.keys.keys().map(String::as_str)) {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => format!("add `{} = {{ file = \"PATH\" }}` to `keys`", self.active),
            };
            report.invalid(
                &section.key("active"),
                "no key in `keys` has this name",
                &help,
            );
            return None;
        }
        let mut read = BTreeMap::new();
        for (name, raw) in &self.keys {
            if let Some(key) = raw.read(&keys.key(name), report) {
                read.insert(name.as_str(), key);
            }
        }
        let mut ring = KeyRing::new(&self.active, read.remove(self.active.as_str())?);
        for (name, key) in read {
            ring = ring.and_then(|ring| ring.with_key(name, key));
        }
        match ring {
            Ok(ring) => Some(EncryptionSettings {
                raw: self.clone(),
                ring,
            }),
            Err(error) => {
                report.invalid(&keys, error.to_string(), "rename the key");
                None
            }
        }
    }
}

impl RawKey {
    fn read(&self, path: &Path, report: &mut Report<'_>) -> Option<SealingKey> {
        let help = "make one with `openssl rand -base64 32`";
        let (text, path) = match (&self.file, &self.env) {
            (Some(As(file)), None) => {
                let path = path.key("file");
                match read_file(file) {
                    Ok((text, mode)) => {
                        if mode & 0o077 != 0 {
                            let label =
                                format!("{}: its mode is {:o}", file.display(), mode & 0o777);
                            let problem = Problem::new("others can read the file of a key");
                            let problem = problem.label(label).help("`chmod 600` it");
                            report.warn(&path, problem);
                        }
                        (text, path)
                    }
                    Err(error) => {
                        let label = format!("can't read {}: {error}", file.display());
                        report.invalid(&path, label, help);
                        return None;
                    }
                }
            }
            (None, Some(variable)) => {
                let path = path.key("env");
                match std::env::var(variable) {
                    Ok(text) => (zeroize::Zeroizing::new(text), path),
                    Err(error) => {
                        let label = format!("can't read {variable}: {error}");
                        let help = "set it where the gateway is started; `openssl rand -base64 32` \
                                    makes a key";
                        report.invalid(&path, label, help);
                        return None;
                    }
                }
            }
            _ => {
                let label = "expected either `file` or `env`";
                report.invalid(path, label, "a key is in one place");
                return None;
            }
        };
        match SealingKey::from_base64(&text) {
            Ok(key) => Some(key),
            Err(_) => {
                let label = "what is there is no key: 32 bytes in base64 (44 characters)";
                report.invalid(&path, label, help);
                None
            }
        }
    }
}

/// The file's text, and its mode.
fn read_file(file: &std::path::Path) -> std::io::Result<(zeroize::Zeroizing<String>, u32)> {
    use std::os::unix::fs::PermissionsExt as _;
    let found = std::fs::metadata(file)?;
    if found.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    let opened = std::fs::File::open(file)?;
    opened.take(LONGEST_KEY_FILE).read_to_string(&mut text)?;
    Ok((text, found.permissions().mode()))
}
