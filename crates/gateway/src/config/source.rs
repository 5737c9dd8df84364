//! Where settings come from: a file, the environment, flags.

use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::path::{Path as FilePath, PathBuf};

use super::error::{Problem, SourceFile};
use super::tree::{Node, Origin, Value};

/// The file that is read when it exists and no other is named.
pub const DEFAULT_FILE: &str = "onlyonce.toml";

const MOST_BYTES: u64 = 1024 * 1024;

/// Where settings come from. Flags win over the environment, it over the file, the file over a
/// profile, and a profile over the defaults.
///
/// # Example
/// ```
/// use onlyonce_gateway::config::{Flag, Settings, Sources};
///
/// let sources = Sources::none()
///     .with_flag(Flag::Upstream, "http://127.0.0.1:3000")
///     .with_variable("ONLYONCE_STORE__URL", "memory:");
/// let (settings, _warnings) = Settings::load(&sources).unwrap();
/// assert_eq!(settings.listen.port(), 8080);
/// ```
#[derive(Clone, Default)]
pub struct Sources {
    file: FileChoice,
    pub(super) variables: Vec<(String, OsString)>,
    flags: Vec<(Flag, String)>,
}

#[derive(Clone, Default)]
enum FileChoice {
    #[default]
    None,
    /// It may be missing.
    IfThere(PathBuf),
    Named(PathBuf),
    Text {
        name: String,
        text: Vec<u8>,
    },
}

/// A flag that makes a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flag {
    /// `--listen`
    Listen,
    /// `--upstream`; each use adds one.
    Upstream,
    /// `--admin-listen`
    AdminListen,
    /// `--store`
    Store,
    /// `--profile`
    Profile,
    /// `--log-format`
    LogFormat,
    /// `--log-level`
    LogLevel,
}

impl Flag {
    /// How it is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listen => "--listen",
            Self::Upstream => "--upstream",
            Self::AdminListen => "--admin-listen",
            Self::Store => "--store",
            Self::Profile => "--profile",
            Self::LogFormat => "--log-format",
            Self::LogLevel => "--log-level",
        }
    }

    const fn path(self) -> &'static [&'static str] {
        match self {
            Self::Listen => &["listen"],
            Self::Upstream => &["upstream"],
            Self::AdminListen => &["admin", "listen"],
            Self::Store => &["store", "url"],
            Self::Profile => &["idempotency", "profile"],
            Self::LogFormat => &["log", "format"],
            Self::LogLevel => &["log", "level"],
        }
    }
}

impl Sources {
    /// Nothing but defaults.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What this process was given: the file `config`, else the one named by `ONLYONCE_CONFIG`,
    /// else `onlyonce.toml` in the current folder if it is there; and all other variables that
    /// begin with `ONLYONCE_`.
    #[must_use]
    pub fn of_process(config: Option<PathBuf>) -> Self {
        let variables: Vec<(String, OsString)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with("ONLYONCE_"))
            .collect();
        let by_variable = variables
            .iter()
            .find(|(name, _)| name == super::env::CONFIG)
            .map(|(_, value)| PathBuf::from(value));
        let file = match config.or(by_variable) {
            Some(file) => FileChoice::Named(file),
            None => FileChoice::IfThere(DEFAULT_FILE.into()),
        };
        Self {
            file,
            variables,
            flags: Vec::new(),
        }
    }

    /// Adds a file, which must be there.
    #[must_use]
    pub fn with_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = FileChoice::Named(file.into());
        self
    }

    /// Adds what would stand in a file, called `name` in messages.
    #[must_use]
    pub fn with_text(mut self, name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        self.file = FileChoice::Text {
            name: name.into(),
            text: text.into(),
        };
        self
    }

    /// Adds a variable of the environment.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Adds a flag.
    #[must_use]
    pub fn with_flag(mut self, flag: Flag, value: impl Into<String>) -> Self {
        self.flags.push((flag, value.into()));
        self
    }

    /// The file's content, if there is a file.
    pub(super) fn read_file(&self) -> Result<Option<SourceFile>, Box<Problem>> {
        match &self.file {
            FileChoice::None => Ok(None),
            FileChoice::Named(file) => read(file).map(Some),
            FileChoice::Text { name, text } => of_bytes(name, text.clone()).map(Some),
            FileChoice::IfThere(file) => {
                // A dangling link or a forbidden folder is not "no file".
                let missing = file
                    .symlink_metadata()
                    .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
                if missing {
                    Ok(None)
                } else {
                    read(file).map(Some)
                }
            }
        }
    }

    /// The settings made by flags.
    pub(super) fn flags(&self) -> Node {
        let mut tree = Node::empty_table(Origin::Flag {
            name: "",
            value: String::new(),
        });
        let mut upstreams: Vec<Node> = Vec::new();
        for (flag, value) in &self.flags {
            let origin = Origin::Flag {
                name: flag.name(),
                value: value.clone(),
            };
            let node = Node {
                value: Value::Text(value.clone()),
                origin: origin.clone(),
            };
            if *flag == Flag::Upstream {
                upstreams.push(node);
                let value = Value::Array(upstreams.clone());
                tree.set(flag.path(), Node { value, origin });
            } else {
                tree.set(flag.path(), node);
            }
        }
        tree
    }
}

impl fmt::Debug for Sources {
    /// Names variables without their values: there may be secrets among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&String> = self.variables.iter().map(|(name, _)| name).collect();
        let flags: Vec<&str> = self.flags.iter().map(|(flag, _)| flag.name()).collect();
        let file = match &self.file {
            FileChoice::None => None,
            FileChoice::IfThere(file) | FileChoice::Named(file) => Some(file.display().to_string()),
            FileChoice::Text { name, .. } => Some(name.clone()),
        };
        f.debug_struct("Sources")
            .field("file", &file)
            .field("variables", &variables)
            .field("flags", &flags)
            .finish()
    }
}

fn read(file: &FilePath) -> Result<SourceFile, Box<Problem>> {
    let name = file.display().to_string();
    let mut bytes = Vec::new();
    let read = std::fs::File::open(file)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => of_bytes(&name, bytes),
        Err(error) => {
            let remedy = match error.kind() {
                std::io::ErrorKind::NotFound => "`onlyonce init` writes one to start from",
                std::io::ErrorKind::PermissionDenied => "let the gateway's user read it",
                _ => NAME_ONE,
            };
            Err(unreadable(&name, error.to_string(), remedy))
        }
    }
}

fn of_bytes(name: &str, bytes: Vec<u8>) -> Result<SourceFile, Box<Problem>> {
    if bytes.len() as u64 > MOST_BYTES {
        return Err(unreadable(name, "it is longer than 1 MiB", NAME_ONE));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let why = format!("line {line} is not UTF-8");
        unreadable(name, why, "save it with the encoding UTF-8")
    })?;
    // A byte order mark is no part of the text, and would shift the first line.
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    Ok(SourceFile {
        name: name.to_owned(),
        text,
    })
}

const NAME_ONE: &str = "name a file of settings with `--config`";

fn unreadable(name: &str, why: impl Into<String>, remedy: &str) -> Box<Problem> {
    let problem = Problem::new("can't read the settings")
        .of_file(name)
        .label(why)
        .help(remedy);
    Box::new(problem)
}
