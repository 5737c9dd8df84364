//! `print-config`: all settings in force, each with where it came from.

use std::fmt::Write as _;

use super::elements::idempotency::{OF_PROFILES, RawIdempotency};
use super::error::SourceFile;
use super::raw::Raw;
use super::scalar::{As, name};
use super::tree::{Node, Origin, Path};

/// Knows where settings were made.
pub(super) struct Printer<'l> {
    pub(super) file: Option<&'l SourceFile>,
    pub(super) tree: &'l Node,
    /// `[idempotency]` as it was given, not as it came out.
    pub(super) given: &'l RawIdempotency,
}

/// Where comments begin, if the setting before them is not longer.
const COMMENT_COLUMN: usize = 44;

impl Printer<'_> {
    /// TOML that gives the same settings again (but for a hidden secret).
    pub(super) fn print(&self, raw: &Raw) -> String {
        let mut out = String::new();
        // What was typed can always be written: there is no map with keys of another kind in it.
        let all = toml::Table::try_from(raw).unwrap_or_default();
        let root = Path::default();
        for (key, value) in all.iter().filter(|(_, value)| !is_section(value)) {
            self.line(&mut out, key, value, &root.key(key));
        }
        for (section, value) in &all {
            match value {
                toml::Value::Table(keys) if !keys.is_empty() => {
                    let _ = writeln!(out, "\n[{section}]");
                    for (key, value) in keys {
                        self.line(&mut out, key, value, &root.key(section).key(key));
                    }
                }
                _ => {}
            }
        }
        let routes = all.get("route").and_then(toml::Value::as_array);
        for (index, route) in routes.into_iter().flatten().enumerate() {
            let path = root.key("route").index(index);
            let _ = writeln!(out, "\n[[route]]");
            let changes = raw
                .route
                .get(index)
                .and_then(|route| route.idempotency.as_ref());
            self.route(&mut out, route, changes.is_none(), &path);
        }
        out
    }

    fn route(&self, out: &mut String, route: &toml::Value, inherits: bool, path: &Path) {
        let keys = route.as_table().into_iter().flatten();
        let (tables, plain): (Vec<_>, Vec<_>) = keys.partition(|(_, value)| value.is_table());
        for (key, value) in plain {
            self.line(out, key, value, &path.key(key));
        }
        if inherits {
            out.push_str("# idempotency as in [idempotency]\n");
        }
        for (name, table) in tables {
            let _ = writeln!(out, "[route.{name}]");
            for (key, value) in table.as_table().into_iter().flatten() {
                self.line(out, key, value, &path.key(name).key(key));
            }
        }
    }

    fn line(&self, out: &mut String, key: &str, value: &toml::Value, path: &Path) {
        let setting = format!("{key} = {value}");
        let origin = self.origin(key, path);
        let _ = writeln!(out, "{setting:<COMMENT_COLUMN$} # {origin}");
    }

    fn origin(&self, key: &str, path: &Path) -> String {
        if let Some(node) = self.tree.at(path) {
            return self.made(&node.origin);
        }
        let base = Path::of(&["idempotency"]);
        let of_profile = OF_PROFILES.contains(&key);
        if path.parent().as_ref() == Some(&base) {
            let profile = self
                .given
                .profile
                .map(|As(profile)| profile)
                .unwrap_or_default();
            return match of_profile {
                true => format!("profile {}", name(profile)),
                false => "default".to_owned(),
            };
        }
        // A setting that a route did not make: its profile's, or that of `[idempotency]`.
        let section = path.parent().unwrap_or_default();
        if path.starts_with(&Path::of(&["route"])) {
            let profile = self.tree.at(&section.key("profile"));
            return match profile.map(|node| &node.value) {
                Some(super::tree::Value::Text(profile)) if of_profile => {
                    format!("profile {profile}")
                }
                _ => self.origin(key, &base.key(key)),
            };
        }
        "default".to_owned()
    }

    fn made(&self, origin: &Origin) -> String {
        match (origin, self.file) {
            (Origin::File { key, .. }, Some(file)) => {
                let line = file.text[..key.start].matches('\n').count() + 1;
                // A line break in a file's name would end the comment.
                format!("{}:{line}", file.name.escape_debug())
            }
            (Origin::File { .. }, None) => "default".to_owned(),
            (Origin::Environment { name, .. }, _) => format!("environment {name}"),
            (Origin::Flag { name, .. }, _) => format!("flag {name}"),
        }
    }
}

fn is_section(value: &toml::Value) -> bool {
    match value {
        toml::Value::Table(_) => true,
        toml::Value::Array(items) => items.first().is_some_and(toml::Value::is_table),
        _ => false,
    }
}
