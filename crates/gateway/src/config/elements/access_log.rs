//! `[access_log]`: a line and a row for each request.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use onlyonce_access_log_sqlx::PostgresSink;
use onlyonce_pipeline::access_log::{LineFormat, Paths, Redaction, Rules, WriterOptions};
use onlyonce_pipeline::{Code, foreign_pattern};
use onlyonce_postgres::PostgresStore;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::limits::or_off_bytes;
use super::tls::NO_TILDE;
use crate::config::LogFormat;
use crate::config::error::Problem;
use crate::config::report::Report;
use crate::config::scalar::{self, As, OrOff, Remedy, Scalar, Written, or_off};
use crate::config::size::Bytes;
use crate::config::tree::Path;

/// A line for each request, and a row in a database that the console shows. Written in the
/// background: no request ever waits for it. `Authorization`, cookies, idempotency keys and fields
/// with the names of secrets stand as `[redacted]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[access_log]`")]
#[schemars(inline)]
pub struct AccessLogSettings {
    /// Whether requests are logged.
    pub enabled: bool,
    /// Where lines go: `stdout`, `stderr`, or `file:` and a file that they are appended to.
    #[serde(with = "or_off")]
    #[schemars(with = "As<OrOff<LineTarget>>")]
    pub lines: Option<LineTarget>,
    /// `text` in the format of gf's access log, or `json` (a line per request).
    #[serde(with = "scalar")]
    #[schemars(with = "As<LogFormat>")]
    pub format: LogFormat,
    /// Where rows are kept: `sqlite:` and a file, or `postgres://USER:PASSWORD@HOST/DATABASE`
    /// where several gateways share them. Made when it is not there.
    #[serde(with = "or_off")]
    #[schemars(with = "As<OrOff<RowStore>>")]
    pub store: Option<RowStore>,
    /// Rows are kept of requests to these modules (first segments of paths) alone; of all when
    /// the list is empty.
    pub(in crate::config) modules: Vec<As<Name>>,
    /// No rows are kept of answers with these codes.
    pub(in crate::config) skip_codes: Vec<CodeNumber>,
    /// Requests to these paths are not logged at all.
    pub(in crate::config) skip_paths: Vec<As<PathPattern>>,
    /// Bodies of requests to these paths are not recorded: uploads, say.
    pub(in crate::config) skip_bodies: Vec<As<PathPattern>>,
    /// How much of a request's body is recorded, up to 1 MiB.
    #[serde(with = "or_off_bytes")]
    #[schemars(with = "As<OrOff<Bytes>>")]
    pub max_body: Option<u64>,
    /// Names of fields that hold secrets, besides `password`, `token` and such: in headers, the
    /// query, JSON and form bodies. Case, `-` and `_` don't count.
    pub(in crate::config) redact: Vec<As<Name>>,
    /// Names of headers that hold secrets, besides the usual ones.
    pub(in crate::config) redact_headers: Vec<As<HeaderName>>,
    /// Rows of older requests are removed.
    #[serde(with = "or_off")]
    #[schemars(with = "As<OrOff<Duration>>")]
    pub retention: Option<Duration>,
    /// Rows that may wait to be written, up to 100000. More are dropped and counted.
    #[serde(with = "scalar")]
    #[schemars(with = "As<usize>")]
    pub queue: usize,
    /// Rows that are written at once, at most, up to 1000.
    #[serde(with = "scalar")]
    #[schemars(with = "As<usize>")]
    pub batch: usize,
    /// How long a row waits for others to be written with.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub linger: Duration,
}

const FILE: &str = "./onlyonce-access-log.db";
const MOST_BODY: u64 = 1 << 20;
const MOST_QUEUED: usize = 100_000;
const MOST_IN_BATCH: usize = 1000;
const LONGEST_LINGER: Duration = Duration::from_secs(60);
const LEAST_RETENTION: Duration = Duration::from_secs(60);

impl Default for AccessLogSettings {
    fn default() -> Self {
        let writer = WriterOptions::default();
        Self {
            enabled: false,
            lines: Some(LineTarget::Stdout),
            format: LogFormat::Text,
            store: Some(RowStore::Sqlite(FILE.into())),
            modules: Vec::new(),
            skip_codes: Vec::new(),
            skip_paths: Vec::new(),
            skip_bodies: Vec::new(),
            max_body: Some(16 << 10),
            redact: Vec::new(),
            redact_headers: Vec::new(),
            retention: writer.retention,
            queue: writer.queue,
            batch: writer.batch,
            linger: writer.linger,
        }
    }
}

impl AccessLogSettings {
    pub(in crate::config) fn check(&self, report: &mut Report<'_>) {
        let section = Path::of(&["access_log"]);
        for (key, value, most, help) in [
            (
                "queue",
                self.queue,
                MOST_QUEUED,
                "each row that waits takes memory",
            ),
            (
                "batch",
                self.batch,
                MOST_IN_BATCH,
                "a database takes no longer statement",
            ),
        ] {
            let path = section.key(key);
            report.at_least(&path, value, 1);
            if value > most {
                report.invalid(
                    &path,
                    format!("expected at most {most}, found {value}"),
                    help,
                );
            }
        }
        if self.linger > LONGEST_LINGER {
            let help = "rows wait in memory so long, and are lost if the process is killed";
            report.invalid(&section.key("linger"), "expected at most \"60s\"", help);
        }
        if self.retention.is_some_and(|age| age < LEAST_RETENTION) {
            let help = "write \"off\" to keep rows for ever";
            report.invalid(&section.key("retention"), "expected at least \"1m\"", help);
        }
        if self.max_body.is_some_and(|bytes| bytes > MOST_BODY) {
            let help = "every row that waits may hold as much";
            report.invalid(&section.key("max_body"), "expected at most \"1MiB\"", help);
        }
        for (key, patterns) in [
            ("skip_paths", &self.skip_paths),
            ("skip_bodies", &self.skip_bodies),
        ] {
            // One by one they are sound; together two may say the same.
            if let Err(error) = paths(patterns) {
                report.invalid(
                    &section.key(key),
                    error.to_string(),
                    "leave one of them out",
                );
            }
        }
        if !self.enabled {
            let keys = [
                "lines",
                "format",
                "store",
                "modules",
                "skip_codes",
                "skip_paths",
                "skip_bodies",
                "max_body",
                "redact",
                "redact_headers",
                "retention",
                "queue",
                "batch",
                "linger",
            ];
            let keys = keys.map(|key| section.key(key));
            let help = "add `enabled = true` to `[access_log]`";
            report.useless(&keys, "the access log is off", help);
            return;
        }
        if let Some(LineTarget::File(file)) = &self.lines {
            report.in_a_folder(file, &section.key("lines"));
        }
        if let Some(RowStore::Sqlite(file)) = &self.store {
            report.in_a_folder(file, &section.key("store"));
        }
        if self.lines.is_none() && self.store.is_none() {
            let problem = Problem::new("the access log goes nowhere")
                .label("it is on, but `lines` and `store` are off")
                .help("say where it goes, or set `enabled = false`");
            report.warn(&section.key("enabled"), problem);
        }
    }

    /// What is logged of which requests. `key_headers` carry idempotency keys.
    #[must_use]
    pub fn rules(&self, key_headers: &[HeaderName]) -> Rules {
        let names = self.redact.iter().map(|As(Name(name))| name);
        let headers = self.redact_headers.iter().map(|As(name)| name.clone());
        let redaction = Redaction::new()
            .with_fields(names)
            .with_headers(headers.chain(key_headers.iter().cloned()));
        let codes = self
            .skip_codes
            .iter()
            .map(|CodeNumber(code)| Code::new(*code));
        let max_body = self.max_body.unwrap_or(0).min(MOST_BODY);
        Rules::new()
            .with_enabled(self.enabled)
            .with_modules(self.modules.iter().map(|As(Name(name))| name.clone()))
            .with_skip_codes(codes)
            // `check` has told of lists that can't be.
            .with_skip_paths(paths(&self.skip_paths).unwrap_or_default())
            .with_skip_bodies(paths(&self.skip_bodies).unwrap_or_default())
            .with_max_body(usize::try_from(max_body).unwrap_or(0))
            .with_redaction(redaction)
    }

    /// As the writer of rows wants them.
    #[must_use]
    pub fn writer_options(&self) -> WriterOptions {
        WriterOptions {
            queue: self.queue,
            batch: self.batch,
            linger: self.linger,
            retention: self.retention,
            ..WriterOptions::default()
        }
    }

    /// How lines look.
    #[must_use]
    pub const fn line_format(&self) -> LineFormat {
        match self.format {
            LogFormat::Text => LineFormat::Text,
            LogFormat::Json => LineFormat::Json,
        }
    }
}

fn paths(patterns: &[As<PathPattern>]) -> Result<Paths, onlyonce_pipeline::access_log::PathsError> {
    Paths::new(
        patterns
            .iter()
            .map(|As(PathPattern(pattern))| pattern.clone()),
    )
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The end of a file.
    File(PathBuf),
}

impl Scalar for LineTarget {
    fn expected() -> Cow<'static, str> {
        "\"stdout\", \"stderr\", or `file:` and a file, such as \"file:./access.log\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            _ => match text.strip_prefix("file:") {
                Some(file) => file_of(file).map(Self::File),
                None if text.contains('/') || text.contains('.') => {
                    Err(format!("for a file write \"file:{text}\"").into())
                }
                None => Err(Remedy::none()),
            },
        }
    }

    fn written(&self) -> Written {
        Written::Text(match self {
            Self::Stdout => "stdout".to_owned(),
            Self::Stderr => "stderr".to_owned(),
            Self::File(file) => format!("file:{}", file.display()),
        })
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "`stdout`, `stderr` or `file:FILE`",
            "type": "string",
            "pattern": "^(stdout|stderr|file:.+)$",
        })
    }
}

/// Where rows are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowStore {
    /// In a file of SQLite's.
    Sqlite(PathBuf),
    /// On PostgreSQL.
    Postgres(RowUrl),
}

/// The URL of a PostgreSQL database. It may hold a password, and shows none.
#[derive(Clone, PartialEq, Eq)]
pub struct RowUrl {
    text: Box<str>,
    shown: Box<str>,
}

impl RowUrl {
    /// The URL itself, secrets and all.
    pub(crate) fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for RowUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Scalar for RowStore {
    fn expected() -> Cow<'static, str> {
        "`sqlite:` and a file, such as \"sqlite:./onlyonce-access-log.db\", or `postgres://` and a host".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        match text.split_once(':') {
            Some(("sqlite", file)) => file_of(file).map(Self::Sqlite),
            Some(("postgres" | "postgresql", _)) => match PostgresSink::check_url(text) {
                Ok(()) => Ok(Self::Postgres(RowUrl {
                    text: text.into(),
                    shown: PostgresStore::shown_url(text).into(),
                })),
                Err(error) => Err(cause(&error).into()),
            },
            None => Err(format!("for a file write \"sqlite:{text}\"").into()),
            Some(_) => Err(Remedy::none()),
        }
    }

    fn written(&self) -> Written {
        Written::Text(match self {
            Self::Sqlite(file) => format!("sqlite:{}", file.display()),
            Self::Postgres(url) => url.shown.to_string(),
        })
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "`sqlite:FILE` or `postgres://HOST/DATABASE`",
            "type": "string",
            "pattern": "^(sqlite:.+|postgres(ql)?://.+)$",
        })
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().unwrap_or(error).to_string()
}

fn file_of(text: &str) -> Result<PathBuf, Remedy> {
    if text.starts_with('~') {
        return Err(NO_TILDE.into());
    }
    // `sqlite:///a` and `file:///a` are meant by somebody, too.
    let file = match text.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(path) => {
            let help = format!(
                "write \"/{path}\" for a path from the root, \"./{path}\" for one from here"
            );
            return Err(help.into());
        }
        None => text,
    };
    match file {
        "" => Err("name the file".into()),
        file if file.contains(['?', '\0']) => Err("options are keys of `[access_log]`".into()),
        file => Ok(file.into()),
    }
}

/// A name of a field or module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Name(String);

impl Scalar for Name {
    fn expected() -> Cow<'static, str> {
        "a name such as \"admin\" or \"card_number\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        let is_plain = |c: char| c.is_alphanumeric() || "-_.~".contains(c);
        if text.is_empty() || !text.chars().all(is_plain) {
            return Err("one name, without slashes and spaces".into());
        }
        Ok(Self(text.to_owned()))
    }

    fn written(&self) -> Written {
        Written::Text(self.0.clone())
    }

    fn schema() -> Schema {
        json_schema!({ "title": "name", "type": "string", "minLength": 1 })
    }
}

/// A pattern of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct PathPattern(String);

impl Scalar for PathPattern {
    fn expected() -> Cow<'static, str> {
        "a pattern of paths such as \"/upload/{*rest}\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        if !text.starts_with('/') {
            return Err("it begins with a slash".into());
        }
        if let Some(remedy) = foreign_pattern(text) {
            return Err(remedy.into());
        }
        match Paths::new([text]) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => {
                Err("`{name}` stands for one part between slashes, `{*rest}` at the end for all that follows".into())
            }
        }
    }

    fn written(&self) -> Written {
        Written::Text(self.0.clone())
    }

    fn schema() -> Schema {
        json_schema!({ "title": "path pattern", "type": "string", "pattern": "^/" })
    }
}

/// A code, which may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(in crate::config) struct CodeNumber(i32);

impl<'de> Deserialize<'de> for CodeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CodeVisitor;

        impl Visitor<'_> for CodeVisitor {
            type Value = CodeNumber;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a code such as 61 or -1")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<CodeNumber, E> {
                let code = i32::try_from(number);
                code.map(CodeNumber)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<CodeNumber, E> {
                let code = i32::try_from(number);
                code.map(CodeNumber)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }
        }

        deserializer.deserialize_any(CodeVisitor)
    }
}

impl JsonSchema for CodeNumber {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "title": "code", "type": "integer" })
    }
}
