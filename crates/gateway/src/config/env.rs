//! Settings from the environment: `ONLYONCE_SECTION__KEY`.

use toml::de::DeValue;

use super::error::Problem;
use super::names::{Catalog, Setting, nearest};
use super::source::Sources;
use super::tree::{Node, Origin, Value};

/// Names the file of settings.
pub(super) const CONFIG: &str = "ONLYONCE_CONFIG";

/// The address of a running gateway's admin listener, for `onlyonce keys` and `health`.
pub const ADMIN_URL: &str = "ONLYONCE_ADMIN_URL";

const PREFIX: &str = "ONLYONCE_";

/// The settings that variables make, and what is wrong with the others.
pub(super) fn settings(sources: &Sources, catalog: &Catalog) -> (Node, Vec<Problem>) {
    let mut tree = Node::empty_table(Origin::Environment {
        name: String::new(),
        value: String::new(),
    });
    let mut problems = Vec::new();
    for (name, value) in &sources.variables {
        if name == CONFIG || name == ADMIN_URL {
            continue;
        }
        let Some(setting) = catalog.by_variable(name) else {
            let shown = value.to_string_lossy();
            if !is_from_kubernetes(name, &shown) {
                problems.push(unknown(name, catalog));
            }
            continue;
        };
        let Some(text) = value.to_str() else {
            let title = format!("the value of {name} is not UTF-8");
            problems.push(Problem::new(title).help("set it to plain text"));
            continue;
        };
        let origin = Origin::Environment {
            name: name.clone(),
            value: text.to_owned(),
        };
        tree.set(&setting.path(), value_of(text, setting).owned_by(&origin));
    }
    (tree, problems)
}

/// What `text` means to `setting`: TOML when it is TOML of a kind that the setting takes, a list
/// when it takes one, else the text itself.
fn value_of(text: &str, setting: &Setting) -> Value {
    let parsed = DeValue::parse(text.trim())
        .ok()
        .map(|value| Value::from_toml(value.get_ref()));
    let takes = |value: &Value| match value {
        Value::Text(_) => setting.takes_text,
        Value::Integer(_) => setting.takes_number,
        Value::Boolean(_) => setting.takes_boolean,
        Value::Array(_) => setting.takes_list,
        Value::Table(_) => setting.takes_table,
        Value::Float(_) | Value::Date => false,
    };
    let is_list = setting.takes_list && (text.contains(',') || !setting.takes_text);
    match parsed {
        Some(value) if takes(&value) => value,
        _ if is_list => Value::Array(
            text.split(',')
                .map(|item| Node {
                    value: Value::Text(item.trim().to_owned()),
                    origin: Origin::Environment {
                        name: String::new(),
                        value: String::new(),
                    },
                })
                .collect(),
        ),
        // A wrong kind is told from a wrong text by what was typed.
        Some(value) if !setting.takes_text => value,
        _ => Value::Text(text.to_owned()),
    }
}

fn unknown(name: &str, catalog: &Catalog) -> Problem {
    let problem = Problem::new(format!("{name} is no setting"));
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let section = catalog
        .sections()
        .into_iter()
        .find(|section| section.eq_ignore_ascii_case(rest));
    if let Some(section) = section {
        let prefix = format!("{PREFIX}{}__", section.to_uppercase());
        return problem
            .label(format!("`[{section}]` is a section"))
            .help(format!(
                "set its keys one by one: {prefix} and the key's name"
            ));
    }
    let variables: Vec<String> = catalog.settings.iter().map(Setting::variable).collect();
    let names = variables
        .iter()
        .filter_map(|name| name.strip_prefix(PREFIX));
    match nearest(rest, names) {
        Some(name) => problem.label(format!("did you mean {PREFIX}{name}?")),
        None => problem
            .label(format!("variables that begin with {PREFIX} make settings"))
            .help("unset it, or see docs/settings.md for all names"),
    }
}

/// In a pod, a service named `onlyonce` brings variables such as `ONLYONCE_SERVICE_HOST` and
/// `ONLYONCE_PORT=tcp://…` with it, which nobody typed.
fn is_from_kubernetes(name: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    let of_port = ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
        name.split_once("_PORT_").is_some_and(|(_, rest)| {
            rest.split_once(protocol).is_some_and(|(number, field)| {
                number.bytes().all(|byte| byte.is_ascii_digit())
                    && matches!(field, "" | "_PROTO" | "_PORT" | "_ADDR")
            })
        })
    });
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && is_url)
        || of_port
}
