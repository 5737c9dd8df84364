//! The names of all settings, read off the schema, and what a mistyped one may have meant.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::schema::schema;

/// Settings that are documented but not built yet: naming one deserves better than "unknown".
const COMING: [&str; 2] = ["envelope", "access_log"];

/// All settings.
pub(super) struct Catalog {
    pub(super) settings: Vec<Setting>,
}

/// One setting, by its place and by what it takes.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// `None`: at the top level.
    pub(super) section: Option<String>,
    pub(super) key: String,
    /// Whether it can be a text.
    pub(super) takes_text: bool,
    /// Whether it can be a number.
    pub(super) takes_number: bool,
    /// Whether it can be `true` or `false`.
    pub(super) takes_boolean: bool,
    /// Whether it can be a list.
    pub(super) takes_list: bool,
    /// Whether it can be a table.
    pub(super) takes_table: bool,
}

static CATALOG: LazyLock<Catalog> = LazyLock::new(Catalog::of_schema);

impl Catalog {
    /// The catalogue, made once.
    pub(super) fn all() -> &'static Self {
        &CATALOG
    }

    fn of_schema() -> Self {
        let root = schema();
        let mut settings = Vec::new();
        for (name, entry) in properties(&root) {
            // A section is a table of settings and nothing else; `[[route]]` is a list.
            match entry.get("properties") {
                Some(_) => settings.extend(
                    properties(entry).map(|(key, entry)| Setting::new(Some(name), key, entry)),
                ),
                None => settings.push(Setting::new(None, name, entry)),
            }
        }
        Self { settings }
    }

    /// The sections that are tables.
    pub(super) fn sections(&self) -> Vec<&str> {
        let mut sections: Vec<&str> = self
            .settings
            .iter()
            .filter_map(|setting| setting.section.as_deref())
            .collect();
        sections.dedup();
        sections
    }

    /// The setting that the variable `name` sets.
    pub(super) fn by_variable(&self, name: &str) -> Option<&Setting> {
        self.settings
            .iter()
            .find(|setting| setting.variable() == name)
    }

    /// Where a setting called `key` lives.
    pub(super) fn homes(&self, key: &str) -> Vec<&Setting> {
        self.settings
            .iter()
            .filter(|setting| setting.key == key)
            .collect()
    }
}

impl Setting {
    fn new(section: Option<&String>, key: &str, schema: &Map<String, Value>) -> Self {
        let takes = |kind: &str| takes(schema, kind);
        Self {
            section: section.cloned(),
            key: key.to_owned(),
            takes_text: takes("string"),
            takes_number: takes("integer"),
            takes_boolean: takes("boolean"),
            takes_list: takes("array"),
            takes_table: takes("object"),
        }
    }

    /// The variable of the environment that sets it.
    pub(super) fn variable(&self) -> String {
        let key = self.key.to_uppercase();
        match &self.section {
            Some(section) => format!("ONLYONCE_{}__{key}", section.to_uppercase()),
            None => format!("ONLYONCE_{key}"),
        }
    }

    pub(super) fn path(&self) -> Vec<&str> {
        self.section
            .as_deref()
            .into_iter()
            .chain([self.key.as_str()])
            .collect()
    }
}

/// The name in `names` that `typed` was probably meant to be.
pub(super) fn nearest<'n>(
    typed: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let typed = plain(typed);
    names
        .into_iter()
        .map(|name| (distance(&typed, &plain(name)), name))
        .filter(|(distance, name)| *distance <= (name.len().max(typed.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn distance(typed: &str, name: &str) -> usize {
    // A word cut short, or gone on with.
    let prefix =
        typed.len().min(name.len()) >= 3 && (typed.starts_with(name) || name.starts_with(typed));
    if prefix {
        1
    } else {
        strsim::damerau_levenshtein(typed, name)
    }
}

pub(super) fn is_coming(section: &str) -> bool {
    COMING.contains(&section)
}

fn properties(schema: &Map<String, Value>) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, entry)| Some((name, entry.as_object()?)))
}

/// Whether `schema` allows values of this JSON type.
fn takes(schema: &Map<String, Value>, kind: &str) -> bool {
    let here = match schema.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(some)) => some.iter().any(|one| one == kind),
        _ => false,
    };
    let constant = match schema.get("const") {
        Some(Value::Bool(_)) => kind == "boolean",
        Some(Value::String(_)) => kind == "string",
        _ => false,
    };
    let any_of = ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|word| schema.get(word)?.as_array())
        .flatten()
        .filter_map(Value::as_object)
        .any(|choice| takes(choice, kind));
    here || constant || any_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_recognised_and_far_ones_are_not() {
        let names = ["lifetime", "lease", "wait_timeout", "on_unknown"];
        assert_eq!(nearest("lifetme", names), Some("lifetime"));
        assert_eq!(nearest("wait-timeout", names), Some("wait_timeout"));
        assert_eq!(nearest("LEASE", names), Some("lease"));
        assert_eq!(nearest("life", names), Some("lifetime"));
        assert_eq!(nearest("colour", names), None);
    }

    #[test]
    fn the_catalogue_knows_what_settings_take() {
        let catalog = Catalog::all();
        let methods = catalog
            .by_variable("ONLYONCE_IDEMPOTENCY__METHODS")
            .unwrap();
        assert!(methods.takes_list && !methods.takes_text);
        let store = catalog.by_variable("ONLYONCE_IDEMPOTENCY__STORE").unwrap();
        assert!(store.takes_list && store.takes_text && !store.takes_boolean);
        assert!(catalog.by_variable("ONLYONCE_LISTEN").unwrap().takes_text);
        assert!(catalog.by_variable("ONLYONCE_STORE").is_none());
    }
}
