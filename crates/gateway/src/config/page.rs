//! `docs/settings.md`, made from the schema so that it can't fall behind.

use std::fmt::Write as _;

use onlyonce_core::{Policy, Profile};
use serde_json::{Map, Value};

use super::elements::auth::RawAuth;
use super::elements::idempotency::{OF_PROFILES, RawIdempotency};
use super::elements::route::RawRoute;
use super::scalar::name;
use super::schema::{defaults, with_defaults};

const INTRODUCTION: &str = include_str!("page.md");

/// Where there is more to read of a section.
const GUIDES: [(&str, &str); 14] = [
    ("admin", "operations.md#listeners"),
    ("store", "operations.md#which-store"),
    ("idempotency", "behaviour.md"),
    ("context", "pipeline/README.md#context"),
    ("client_address", "pipeline/client-address.md"),
    ("cors", "pipeline/cors.md"),
    ("blocklist", "pipeline/blocklist.md"),
    ("allow_list", "pipeline/blocklist.md"),
    ("read_only", "pipeline/read-only.md"),
    ("auth", "pipeline/auth.md"),
    ("filter", "pipeline/filter.md"),
    ("envelope", "pipeline/envelope.md"),
    ("access_log", "pipeline/access-log.md"),
    ("limits", "operations.md"),
];

/// The page that explains all settings, as it stands in `docs/settings.md`.
#[must_use]
pub fn settings_page() -> String {
    let schema = with_defaults();
    let order = in_order();
    let mut out = INTRODUCTION.to_owned();
    let (sections, plain): (Vec<_>, Vec<_>) = properties(&schema, &order)
        .into_iter()
        .partition(|(name, entry)| entry.contains_key("properties") || *name == "route");
    index(&mut out, &sections);
    out.push_str("\n## The top of the file\n");
    table(&mut out, plain);
    for (section, entry) in sections {
        let heading = in_brackets(section);
        let _ = write!(out, "\n## `{heading}`\n\n{}", text(entry, "description"));
        let guide = GUIDES.iter().find(|(name, _)| *name == section);
        if let Some((_, guide)) = guide {
            let _ = write!(out, " [More]({guide}).");
        }
        out.push('\n');
        let item = entry.get("items").and_then(Value::as_object);
        let order = first_table(order.get(section));
        let settings = properties(item.unwrap_or(entry), &order);
        table(&mut out, settings.clone());
        for (key, entry) in settings {
            let item = entry.get("items").and_then(Value::as_object);
            if let Some(item) = item.filter(|item| item.contains_key("properties")) {
                let order = first_table(order.get(key));
                let _ = write!(
                    out,
                    "\n### `[[{section}.{key}]]`\n\n{}\n",
                    text(item, "description")
                );
                table(&mut out, properties(item, &order));
            }
        }
        if section == "idempotency" {
            profiles(&mut out);
        }
    }
    out
}

/// All sections, to go to.
fn index(out: &mut String, sections: &[(&str, &Map<String, Value>)]) {
    out.push_str("\n**Sections**: [the top of the file](#the-top-of-the-file)");
    for (section, _) in sections {
        let _ = write!(out, ",\n[`{}`](#{section})", in_brackets(section));
    }
    out.push_str(".\n");
}

fn in_brackets(section: &str) -> String {
    match section {
        "route" => "[[route]]".to_owned(),
        section => format!("[{section}]"),
    }
}

/// The table, or the first of a list of them.
fn first_table(value: Option<&toml::Value>) -> toml::Table {
    match value {
        Some(toml::Value::Table(keys)) => keys.clone(),
        Some(toml::Value::Array(items)) => first_table(items.first()),
        _ => toml::Table::new(),
    }
}

/// Everything that can be set, in the order in which it is best read. JSON's maps have none.
fn in_order() -> toml::Table {
    let mut raw = defaults();
    raw.route = vec![RawRoute::example()];
    raw.auth = RawAuth::example();
    toml::Table::try_from(raw).unwrap_or_default()
}

fn table(out: &mut String, keys: Vec<(&str, &Map<String, Value>)>) {
    out.push_str("\n| setting | takes | default | meaning |\n|---|---|---|---|\n");
    for (key, entry) in keys {
        let default = entry.get("default").map_or("-".to_owned(), written);
        let takes = match text(entry, "title") {
            "" => plain_kind(entry),
            title => title.to_owned(),
        };
        let _ = writeln!(
            out,
            "| `{key}` | {} | {} | {} |",
            cell(&takes),
            cell(&default),
            cell(text(entry, "description"))
        );
    }
}

/// The settings in which profiles differ, side by side.
fn profiles(out: &mut String) {
    out.push_str("\n### Profiles\n\nA setting that is named wins over its profile's.\n\n|");
    for profile in Profile::ALL {
        let _ = write!(out, " | `{}`", name(profile));
    }
    out.push_str(" |\n|---");
    out.push_str(&"|---".repeat(Profile::ALL.len()));
    out.push_str("|\n");
    let columns = Profile::ALL.map(|profile| {
        let raw = RawIdempotency::of_policy(&Policy::new(profile));
        serde_json::to_value(raw).unwrap_or_default()
    });
    for key in OF_PROFILES {
        let _ = write!(out, "| `{key}`");
        for column in &columns {
            let value = column.get(*key).map_or_else(String::new, written);
            let _ = write!(out, " | {}", cell(&value));
        }
        out.push_str(" |\n");
    }
}

/// The settings of a section, in `order`; those without a default come last.
fn properties<'s>(
    schema: &'s Map<String, Value>,
    order: &toml::Table,
) -> Vec<(&'s str, &'s Map<String, Value>)> {
    let position = |name: &str| {
        let position = order.keys().position(|key| key == name);
        position.unwrap_or(order.len())
    };
    let mut all: Vec<_> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, entry)| Some((name.as_str(), entry.as_object()?)))
        .collect();
    all.sort_by_key(|(name, _)| position(name));
    all
}

fn text<'s>(entry: &'s Map<String, Value>, word: &str) -> &'s str {
    entry.get(word).and_then(Value::as_str).unwrap_or_default()
}

/// What a setting without a title takes.
fn plain_kind(entry: &Map<String, Value>) -> String {
    match text(entry, "type") {
        "boolean" => "`true` or `false`".to_owned(),
        "integer" => "number".to_owned(),
        "array" => {
            let item = entry.get("items").and_then(Value::as_object);
            let item = item.map_or("value", |item| match text(item, "title") {
                "" if text(item, "type") == "object" => "table",
                "" => "text",
                title => title,
            });
            let plural = if item.ends_with('s') { "es" } else { "s" };
            format!("list of {item}{plural}")
        }
        "string" => "text".to_owned(),
        other => other.to_owned(),
    }
}

/// A value as settings write it.
fn written(value: &Value) -> String {
    match toml::Value::try_from(value) {
        Ok(value) => format!("`{value}`"),
        Err(_) => String::new(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
