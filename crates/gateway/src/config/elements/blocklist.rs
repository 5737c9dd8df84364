//! `[blocklist]` and `[allow_list]`: who is refused, and who alone is let in.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use onlyonce_pipeline::Answers;
use onlyonce_pipeline::blocklist::{
    AddressSet, AllowList, AllowListLayer, BlocklistOptions, ProtectedPathError,
};
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

use super::store::StoreUrl;
use crate::config::error::Problem;
use crate::config::report::Report;
use crate::config::routes::Pattern;
use crate::config::scalar::{self, As, Remedy, Scalar, Written};
use crate::config::tree::Path;

/// Who is refused. Entries are added and removed while the gateway runs, with `onlyonce blocklist`
/// or the admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[blocklist]`")]
#[schemars(inline)]
pub struct BlocklistSettings {
    /// Whether requests are held against the blocklist.
    pub enabled: bool,
    /// Where entries are kept: `file:` and a file of this machine, `redis://HOST` or
    /// `postgres://USER:PASSWORD@HOST/DATABASE` where several gateways share them, `memory:` for the
    /// life of the process. Default: on the servers that `url` of `[store]` names; where that is a
    /// folder, `file:./onlyonce-blocklist.json`; in memory where records are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) store: Option<As<BlocklistUrl>>,
    /// How often the store is looked at though it told of no change, at least 100 ms.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub poll: Duration,
    /// How many prefixes there is room for: an address or a network takes one, a range some.
    #[serde(with = "scalar")]
    #[schemars(with = "As<usize>")]
    pub capacity: usize,
}

/// Where the blocklist is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlocklistUrl(StoreUrl);

const BESIDE_A_FOLDER: &str = "./onlyonce-blocklist.json";
const SHORTEST_POLL: Duration = Duration::from_millis(100);

impl Default for BlocklistSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            store: None,
            poll: Duration::from_secs(30),
            capacity: 4_000_000,
        }
    }
}

impl BlocklistSettings {
    pub(in crate::config) fn check(&self, report: &mut Report<'_>) {
        let section = Path::of(&["blocklist"]);
        report.at_least(&section.key("capacity"), self.capacity, 1);
        if self.poll < SHORTEST_POLL {
            report.invalid(
                &section.key("poll"),
                "expected at least \"100ms\"",
                "it is a safety net: changes are heard of without it",
            );
        }
        if !self.enabled {
            let keys = ["store", "poll", "capacity"].map(|key| section.key(key));
            let help = "add `enabled = true` to `[blocklist]`";
            report.useless(&keys, "the blocklist is off", help);
        } else if let Some(As(BlocklistUrl(StoreUrl::File(file)))) = &self.store {
            report.in_a_folder(file, &section.key("store"));
        }
    }

    /// Where entries are kept, beside records in this store.
    #[must_use]
    pub fn url(&self, records: &StoreUrl) -> StoreUrl {
        match (&self.store, records) {
            (Some(As(BlocklistUrl(url))), _) => url.clone(),
            (None, StoreUrl::File(_)) => StoreUrl::File(BESIDE_A_FOLDER.into()),
            (None, records) => records.clone(),
        }
    }

    /// How the blocklist keeps up with its store.
    pub fn options(&self) -> BlocklistOptions {
        BlocklistOptions::new()
            .with_poll(self.poll)
            .with_capacity(self.capacity)
    }
}

impl Scalar for BlocklistUrl {
    fn expected() -> Cow<'static, str> {
        "`memory:`, `redis://` or `postgres://` and a host, or `file:` and a file, such as \
         \"file:./onlyonce-blocklist.json\""
            .into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        if !text.contains(':') && text != "memory" {
            return Err(format!("for a file on this machine write \"file:{text}\"").into());
        }
        if text == "file:" {
            return Err(format!("name the file: \"file:{BESIDE_A_FOLDER}\"").into());
        }
        match StoreUrl::from_text(text)? {
            StoreUrl::File(file) if file.is_dir() => {
                Err("this is a folder: name a file in it, such as blocklist.json".into())
            }
            StoreUrl::File(file) if file.file_name().is_none() => Err("name the file".into()),
            url => Ok(Self(url)),
        }
    }

    fn written(&self) -> Written {
        self.0.written()
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "`memory:`, `file:FILE`, `redis://HOST` or `postgres://HOST/DATABASE`",
            "type": "string",
            "pattern": "^(memory:|file:.+|(redis|valkey)s?(\\+sentinel|\\+cluster)?://.+|postgres(ql)?://.+)$",
            "examples": ["file:./onlyonce-blocklist.json", "redis://127.0.0.1:6379"],
        })
    }
}

/// Paths that few addresses reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[allow_list]`")]
#[schemars(inline)]
pub struct AllowListSettings {
    /// The paths that only the listed addresses reach; all others get 403. Other spellings of such
    /// a path are protected, too.
    pub(in crate::config) paths: Vec<As<Pattern>>,
    /// Who reaches them: addresses, networks (`10.0.0.0/8`), ranges (`10.0.0.5-90`) or `*`. An empty
    /// list lets nobody in.
    pub(in crate::config) addresses: Vec<As<Addresses>>,
}

/// Addresses, as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Addresses {
    text: Box<str>,
    set: AddressSet,
}

impl AllowListSettings {
    pub(in crate::config) fn check(&self, report: &mut Report<'_>) {
        let section = Path::of(&["allow_list"]);
        for (index, As(pattern)) in self.paths.iter().enumerate() {
            if let Err(error) = layer(AllowList::default(), [pattern], Answers::new()) {
                let path = section.key("paths").index(index);
                let help = "write it as \"/reports\", \"/reports/{id}\" or \"/reports/{*rest}\"";
                report.invalid(&path, error.to_string(), help);
            }
        }
        if self.paths.is_empty() && !self.addresses.is_empty() {
            let path = section.key("addresses");
            let problem = Problem::new("the allow list protects nothing")
                .label("there are addresses, but no `paths`")
                .help("add for example `paths = [\"/internal/{*rest}\"]` to `[allow_list]`");
            report.warn(&path, problem);
        }
        if !self.paths.is_empty() && self.addresses.is_empty() {
            let path = section.key("paths");
            // A mistyped address has been reported already.
            if !report.was_faulty(&section.key("addresses")) {
                let problem = Problem::new("the allow list lets nobody in")
                    .label("there are `paths`, but no addresses")
                    .help("add for example `addresses = [\"10.0.0.0/8\"]` to `[allow_list]`");
                report.warn(&path, problem);
            }
        }
    }

    /// Whether the layer has anything to do.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !self.paths.is_empty()
    }

    /// The layer that they describe; `None` where nothing is protected.
    #[must_use]
    pub fn layer(&self, answers: Answers) -> Option<AllowListLayer> {
        if !self.is_there() {
            return None;
        }
        let sets = self
            .addresses
            .iter()
            .map(|As(addresses)| addresses.set.clone());
        let paths = self.paths.iter().map(|As(pattern)| pattern);
        // Bad patterns have been refused by `check`: this is what is left of a bad one.
        let everything = ["/{*everything}"];
        layer(sets.clone().collect(), paths, answers.clone())
            .or_else(|_| AllowListLayer::new(sets.collect(), everything, answers))
            .ok()
    }
}

fn layer<'p>(
    list: AllowList,
    paths: impl IntoIterator<Item = &'p Pattern>,
    answers: Answers,
) -> Result<AllowListLayer, ProtectedPathError> {
    AllowListLayer::new(list, paths.into_iter().map(ToString::to_string), answers)
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Scalar for Addresses {
    fn expected() -> Cow<'static, str> {
        "addresses such as \"10.0.0.5\", \"10.0.0.0/8\", \"10.0.0.5-90\" or \"*\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        match text.parse() {
            Ok(set) => Ok(Self {
                text: text.into(),
                set,
            }),
            Err(error) => Err(error.to_string().into()),
        }
    }

    fn written(&self) -> Written {
        Written::Text(self.to_string())
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "address",
            "type": "string",
            "minLength": 1,
            "examples": ["10.0.0.5", "10.0.0.0/8", "10.0.0.5-90", "2001:db8::/32", "*"],
        })
    }
}
