//! `[filter]`: bodies that fit a JSON Schema.

use std::fmt;
use std::io::Read as _;
use std::path::{Path as FilePath, PathBuf};

use onlyonce_pipeline::Answers;
use onlyonce_pipeline::filter::schema::{Schema, SchemaLayer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::toggle::Toggle;
use crate::config::report::Report;
use crate::config::scalar::As;
use crate::config::size::Bytes;
use crate::config::tree::Path;

/// Bodies are checked before the upstream sees them. One that does not fit is refused with code
/// 51, and its idempotency key is free again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[filter]`")]
#[schemars(inline)]
pub(in crate::config) struct RawFilter {
    /// File with the JSON Schema that bodies must fit. Left out, bodies pass unread. Read again on
    /// reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) schema: Option<As<PathBuf>>,
    /// Longest body that is checked. Beyond it 413.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) max_body: Option<As<Bytes>>,
}

/// Bodies that fit a JSON Schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterSettings {
    /// What bodies must fit; `None`: they pass unread.
    pub schema: Option<SchemaFile>,
    /// Longest body that is checked, in bytes.
    pub max_body: usize,
}

/// A schema, and the file that it was read from.
#[derive(Clone)]
pub struct SchemaFile {
    file: PathBuf,
    text: String,
    schema: Schema,
}

const MOST_BYTES: u64 = 1024 * 1024;

impl RawFilter {
    /// What it means where `base` holds otherwise.
    pub(in crate::config) fn resolve(
        &self,
        base: Option<&FilterSettings>,
        path: &Path,
        report: &mut Report<'_>,
    ) -> FilterSettings {
        let max_body = match (self.max_body, base) {
            (Some(As(bytes)), _) => bytes.as_usize(),
            (None, Some(base)) => base.max_body,
            (None, None) => SchemaLayer::MAX_BODY,
        };
        let schema = match (&self.schema, base) {
            (Some(As(file)), _) => SchemaFile::read(file, &path.key("schema"), report),
            (None, base) => base.and_then(|base| base.schema.clone()),
        };
        FilterSettings { schema, max_body }
    }
}

impl FilterSettings {
    /// The layer that they describe; `None` when there is to be none.
    #[must_use]
    pub fn layer(&self, answers: Answers) -> Option<SchemaLayer> {
        let file = self.schema.as_ref()?;
        Some(SchemaLayer::new(file.schema.clone(), answers).with_max_body(self.max_body))
    }

    pub(in crate::config) fn to_raw(&self) -> RawFilter {
        RawFilter {
            schema: self.schema.as_ref().map(|schema| As(schema.file.clone())),
            max_body: Some(As(Bytes(self.max_body as u64))),
        }
    }
}

impl SchemaFile {
    fn read(file: &FilePath, path: &Path, report: &mut Report<'_>) -> Option<Self> {
        let shown = file.display();
        match Self::open(file) {
            Ok(schema) => Some(schema),
            Err(Fault::Unreadable(error)) => {
                report.invalid(
                    path,
                    format!("can't read {shown}: {error}"),
                    "relative paths count from the folder that the gateway is started in",
                );
                None
            }
            Err(Fault::Schema(error)) => {
                report.invalid(path, format!("{shown}: {error}"), "mend the schema");
                None
            }
        }
    }

    fn open(file: &FilePath) -> Result<Self, Fault> {
        let is_file = std::fs::metadata(file).map(|found| found.is_file());
        // Opening a pipe would wait for its writer.
        if !is_file.map_err(Fault::unreadable)? {
            return Err(Fault::Unreadable("it is no file".to_owned()));
        }
        let mut text = String::new();
        std::fs::File::open(file)
            .and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text))
            .map_err(Fault::unreadable)?;
        if text.len() as u64 > MOST_BYTES {
            return Err(Fault::Unreadable("it is longer than 1 MiB".to_owned()));
        }
        let schema = Schema::parse(text.as_bytes());
        Ok(Self {
            file: file.to_owned(),
            schema: schema.map_err(|error| Fault::Schema(error.to_string()))?,
            text,
        })
    }
}

enum Fault {
    Unreadable(String),
    Schema(String),
}

impl Fault {
    #[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
    fn unreadable(error: std::io::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl PartialEq for SchemaFile {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file && self.text == other.text
    }
}

impl Eq for SchemaFile {}

impl fmt::Debug for SchemaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchemaFile({})", self.file.display())
    }
}

/// What a route says of its bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FilterRule {
    /// As the section says.
    #[default]
    AsElsewhere,
    /// They pass unread.
    Off,
    /// Settings of its own.
    Own(FilterSettings),
}

impl FilterRule {
    pub(in crate::config) fn new(
        toggle: Option<&Toggle<RawFilter>>,
        base: &FilterSettings,
        path: &Path,
        report: &mut Report<'_>,
    ) -> Self {
        match toggle {
            None => Self::AsElsewhere,
            Some(Toggle::Off) => Self::Off,
            Some(Toggle::On) => {
                if base.schema.is_none() && !report.was_faulty(&Path::of(&["filter"])) {
                    let help = "name a file: `filter = { schema = \"charge.schema.json\" }`";
                    report.invalid(path, "`[filter]` has no `schema` to check by", help);
                }
                Self::AsElsewhere
            }
            Some(Toggle::With(own)) => {
                let own = own.resolve(Some(base), path, report);
                if own.schema.is_none()
                    && !report.was_faulty(path)
                    && !report.is_set(&path.key("schema"))
                {
                    let help = "name a file: `filter = { schema = \"charge.schema.json\" }`";
                    report.invalid(path, "there is no `schema` to check by", help);
                }
                Self::Own(own)
            }
        }
    }

    pub(in crate::config) fn to_raw(&self) -> Option<Toggle<RawFilter>> {
        match self {
            Self::AsElsewhere => None,
            Self::Off => Some(Toggle::Off),
            Self::Own(own) => Some(Toggle::With(Box::new(own.to_raw()))),
        }
    }

    /// The layer on this route, where the section says `base`; `None` when there is to be none.
    #[must_use]
    pub fn layer(&self, base: &FilterSettings, answers: Answers) -> Option<SchemaLayer> {
        match self {
            Self::AsElsewhere => base.layer(answers),
            Self::Off => None,
            Self::Own(own) => own.layer(answers),
        }
    }
}
