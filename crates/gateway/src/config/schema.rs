//! The JSON Schema of the settings, for editors; everything else that lists settings reads it.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::elements::idempotency::RawIdempotency;
use super::raw::Raw;
use super::report::Report;
use super::settings::Settings;
use super::tree::{Node, Origin};

/// The JSON Schema (draft 7) of `onlyonce.toml`, as it stands in `docs/onlyonce.schema.json`.
#[must_use]
pub fn schema_json() -> String {
    let mut text = format!("{:#}", Value::Object(with_defaults()));
    text.push('\n');
    text
}

/// The schema without defaults, which is all that reading settings needs.
pub(super) fn schema() -> Map<String, Value> {
    let generator = SchemaSettings::draft07()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let mut schema = generator.into_root_schema_for::<Raw>().to_value();
    tidy(&mut schema);
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

/// The schema with the defaults of all settings that have one.
pub(super) fn with_defaults() -> Map<String, Value> {
    let mut schema = schema();
    let defaults = serde_json::to_value(defaults()).unwrap_or_default();
    put_defaults(&mut schema, &defaults);
    schema
}

/// What is in force when nothing is set.
pub(super) fn defaults() -> Raw {
    let nothing = Node::empty_table(Origin::File {
        key: 0..0,
        value: 0..0,
    });
    // All it reports is that there is no upstream.
    let mut report = Report::new(None, &nothing, &[]);
    Settings::resolve(Raw::default(), &mut report).to_raw(&RawIdempotency::default())
}

fn put_defaults(schema: &mut Map<String, Value>, defaults: &Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, entry) in properties {
        let (Some(entry), Some(default)) = (entry.as_object_mut(), defaults.get(name)) else {
            continue;
        };
        if entry.contains_key("properties") {
            put_defaults(entry, default);
        } else if !default.is_null() && name != "upstream" {
            entry.insert("default".to_owned(), default.clone());
        }
    }
}

/// Takes out what TOML has no use for (`null`) or nobody reads, and joins wrapped lines.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(entry) => {
            entry.remove("default");
            if entry.get("format").is_some_and(Value::is_string) {
                entry.remove("format");
            }
            if let Some(Value::Array(kinds)) = entry.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = kinds.as_slice() {
                    let only = only.clone();
                    entry.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(values)) = entry.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if let Some(Value::Array(choices)) = entry.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
                let titled = entry.get("description").cloned();
                lift_only_choice(entry, titled);
            }
            if let Some(Value::String(text)) = entry.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            entry.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

/// `anyOf` with a single choice is that choice.
fn lift_only_choice(entry: &mut Map<String, Value>, description: Option<Value>) {
    let Some(Value::Array(choices)) = entry.get("anyOf") else {
        return;
    };
    if let [Value::Object(only)] = choices.as_slice() {
        let mut only = only.clone();
        if let Some(description) = description {
            only.insert("description".to_owned(), description);
        }
        *entry = only;
    }
}
