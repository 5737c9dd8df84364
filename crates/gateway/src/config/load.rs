//! From the sources to settings.

use std::fmt;
use std::net::SocketAddr;

use toml::de::DeTable;

use super::decode::{Decoded, Fault, FaultKind, decode};
use super::elements::idempotency::RawIdempotency;
use super::elements::store::StoreUrl;
use super::env;
use super::error::{ConfigErrors, Problem, SourceFile, Warning};
use super::mask;
use super::names::{Catalog, is_coming, nearest};
use super::print::Printer;
use super::raw::Raw;
use super::report::{Report, Spot, at_origin};
use super::settings::Settings;
use super::source::Sources;
use super::tree::{Node, Origin, Path, Step, Value};

/// Settings that know where each of them came from.
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What works but is probably not meant.
    pub warnings: Vec<Warning>,
    file: Option<SourceFile>,
    tree: Node,
    given: RawIdempotency,
}

impl Loaded {
    /// As [`Settings::load`].
    ///
    /// # Errors
    /// Everything that is wrong, with its place and the remedy.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let (read, mut problems) = Read::all(sources)?;
        let mut report = Report::new(read.file.as_ref(), &read.tree, &read.pruned);
        let given = read.raw.idempotency.clone();
        let settings = Settings::resolve(read.raw, &mut report);
        let warnings = std::mem::take(&mut report.warnings);
        problems.append(&mut report.problems);
        if !problems.is_empty() {
            return Err(ConfigErrors::new(problems));
        }
        Ok(Self {
            settings,
            warnings,
            file: read.file,
            tree: read.tree,
            given,
        })
    }

    /// All settings in force, as TOML, each with where it came from. Secrets are hidden.
    #[must_use]
    pub fn print(&self) -> String {
        let raw = self.settings.to_raw(&self.given);
        Printer {
            file: self.file.as_ref(),
            tree: &self.tree,
            given: &self.given,
        }
        .print(&raw)
    }
}

impl fmt::Debug for Loaded {
    /// Leaves out the file and all that was read from it: there may be secrets in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("settings", &self.settings)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// Where the admin listener of a gateway with these settings is; `None` when it is off.
///
/// Looks at nothing else, so that operators' commands work without an upstream.
///
/// # Errors
/// When the file can't be read, or a source has a fault in it.
pub fn admin_listen(sources: &Sources) -> Result<Option<SocketAddr>, ConfigErrors> {
    let (read, problems) = Read::all(sources)?;
    if !problems.is_empty() {
        return Err(ConfigErrors::new(problems));
    }
    Ok(read.raw.admin.listen)
}

/// Where the records of a gateway with these settings are.
///
/// Looks at nothing else, so that a store can be prepared before there is an upstream.
///
/// # Errors
/// When the file can't be read, or a source has a fault in it.
pub fn store_url(sources: &Sources) -> Result<StoreUrl, ConfigErrors> {
    let (read, problems) = Read::all(sources)?;
    if !problems.is_empty() {
        return Err(ConfigErrors::new(problems));
    }
    Ok(read.raw.store.url())
}

/// What the sources say together, each value of the right kind.
struct Read {
    raw: Raw,
    file: Option<SourceFile>,
    tree: Node,
    pruned: Vec<Path>,
}

impl Read {
    fn all(sources: &Sources) -> Result<(Self, Vec<Problem>), ConfigErrors> {
        let catalog = Catalog::all();
        let file = sources.read_file()?;
        let (variables, mut problems) = env::settings(sources, catalog);
        let mut tree = match &file {
            Some(file) => match parse(file) {
                Ok(tree) => tree,
                Err(mut faults) => {
                    faults.append(&mut problems);
                    return Err(ConfigErrors::new(faults));
                }
            },
            None => Node::empty_table(Origin::File {
                key: 0..0,
                value: 0..0,
            }),
        };
        let mut pruned = Vec::new();
        let mut read_layer = |layer: &mut Node| {
            let Decoded {
                settings,
                faults,
                pruned: gone,
            } = decode::<Raw>(layer);
            pruned.extend(gone);
            let found = faults
                .into_iter()
                .map(|fault| problem_of(fault, file.as_ref(), catalog));
            problems.extend(found);
            settings
        };
        read_layer(&mut tree);
        for mut layer in [variables, sources.flags()] {
            read_layer(&mut layer);
            tree.overlay(layer);
        }
        let raw = read_layer(&mut tree);
        let read = Self {
            raw,
            file,
            tree,
            pruned,
        };
        Ok((read, problems))
    }
}

fn parse(file: &SourceFile) -> Result<Node, Vec<Problem>> {
    const MOST: usize = 10;
    let (table, errors) = DeTable::parse_recoverable(&file.text);
    if errors.is_empty() {
        return Ok(Node::from_toml(table.get_ref(), table.span()));
    }
    let problems = errors.into_iter().take(MOST).map(|error| {
        let problem = Problem::new("this is no valid TOML")
            .label(error.message())
            .maybe_help(syntax_help(error.message()));
        match error.span() {
            Some(span) => problem.in_file(file, &span),
            None => problem.of_file(&file.name),
        }
    });
    Err(problems.collect())
}

/// The remedy for what people get wrong most in TOML.
fn syntax_help(message: &str) -> Option<String> {
    let help = if message.contains("must be quoted")
        || message.starts_with("invalid integer")
        || message.starts_with("invalid float")
        || message.starts_with("invalid boolean")
    {
        "texts stand in double quotes, also durations and addresses: \"10s\""
    } else if message.starts_with("duplicate key") {
        "it was given before: remove one of the two"
    } else {
        return None;
    };
    Some(help.to_owned())
}

fn problem_of(fault: Fault, file: Option<&SourceFile>, catalog: &Catalog) -> Problem {
    let path = fault.path.unwrap_or_default();
    let (problem, spot) = match fault.kind {
        FaultKind::UnknownKey(expected) => {
            let is_table = matches!(fault.found, Some(Value::Table(_)));
            let problem = unknown_key(&path, expected, is_table, catalog);
            (problem, Spot::Key)
        }
        FaultKind::Invalid { label, help } => {
            let help = help.or_else(|| shape_help(&path, &label));
            let problem = Problem::new(format!("invalid value for {path}"))
                .label(without_secret(&path, label))
                .maybe_help(help);
            (problem, Spot::Value)
        }
    };
    match fault.origin {
        Some(origin) => at_origin(problem, file, &origin, spot),
        None => problem,
    }
}

/// How a setting is written that was given in another form than it has.
fn shape_help(path: &Path, label: &str) -> Option<String> {
    let [.., Step::Key(key)] = path.steps() else {
        return None;
    };
    let help = match (key.as_str(), label) {
        ("route", "expected a list, found a table") => "each begins with `[[route]]`",
        ("module", "expected a list, found a table") => "each begins with `[[auth.module]]`",
        (_, label) if !label.starts_with("expected `true`, `false` or a table") => return None,
        ("envelope", _) => "another form is `envelope = { type = \"xml\" }`",
        ("cors", _) => "write for example `cors = { origins = [\"https://shop.example\"] }`",
        ("filter", _) => "a schema is named as in `filter = { schema = \"charge.schema.json\" }`",
        _ => return None,
    };
    Some(help.to_owned())
}

fn unknown_key(path: &Path, expected: &[&str], is_table: bool, catalog: &Catalog) -> Problem {
    let Some(Step::Key(key)) = path.steps().last() else {
        return Problem::new("unknown setting");
    };
    let at_top = path.steps().len() == 1;
    if at_top && is_coming(key) {
        return Problem::new(format!("`[{key}]` is not in this build"))
            .label("it is planned, and does nothing yet")
            .help("remove the section");
    }
    let problem = Problem::new(match (at_top, is_table) {
        (true, true) => format!("unknown section `[{key}]`"),
        _ => format!("unknown setting {path}"),
    });
    let homes = catalog.homes(key);
    match (homes.as_slice(), nearest(key, expected.iter().copied())) {
        ([home], _) => match &home.section {
            Some(section) => problem.label(format!("it belongs in `[{section}]`")),
            None => problem
                .label("it belongs at the top of the file")
                .help(format!("put `{key}` above the first `[section]`")),
        },
        (_, Some(name)) => problem.label(format!("did you mean `{name}`?")),
        (_, None) => {
            let elsewhere = catalog.settings.iter().filter_map(|setting| {
                let section = setting.section.as_deref()?;
                Some((section, setting.key.as_str()))
            });
            let meant = nearest(key, elsewhere.clone().map(|(_, key)| key))
                .and_then(|name| elsewhere.clone().find(|(_, key)| *key == name));
            if let (true, Some((section, name))) = (at_top, meant) {
                return problem.label(format!("did you mean `{name}` in `[{section}]`?"));
            }
            let names: Vec<String> = expected.iter().map(|name| format!("`{name}`")).collect();
            problem
                .label("no such setting")
                .help(format!("there are {}", names.join(", ")))
        }
    }
}

/// What was found in place of a secret may be one.
fn without_secret(path: &Path, label: String) -> String {
    let is_secret = path
        .steps()
        .iter()
        .any(|step| matches!(step, Step::Key(key) if mask::is_secret(key)));
    match label.split_once(", found ") {
        Some((expected, _)) if is_secret => expected.to_owned(),
        _ => label,
    }
}
