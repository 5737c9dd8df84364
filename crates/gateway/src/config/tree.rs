//! Settings as a tree of values, each of which knows where it was set.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A value and where it was set.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What a setting can hold.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
    Text(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Date,
}

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the file, at these bytes.
    File {
        key: Range<usize>,
        value: Range<usize>,
    },
    /// By this variable of the environment.
    Environment { name: String, value: String },
    /// By this flag.
    Flag { name: &'static str, value: String },
}

/// The way from the root to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Node {
    /// The tree of a parsed file.
    pub(super) fn from_toml(table: &DeTable<'_>, span: Range<usize>) -> Self {
        Self {
            value: Value::from_table(table),
            origin: Origin::File {
                key: span.clone(),
                value: span,
            },
        }
    }

    pub(super) fn empty_table(origin: Origin) -> Self {
        Self {
            value: Value::Table(BTreeMap::new()),
            origin,
        }
    }

    /// The value at `path`, if it is set.
    pub(super) fn at(&self, path: &Path) -> Option<&Self> {
        path.0.iter().try_fold(self, |node, step| node.child(step))
    }

    /// Where the setting at `path` was made; if it wasn't, where the nearest table around it was.
    /// The root is no such place: it would be the whole file.
    pub(super) fn origin(&self, path: &Path) -> Option<&Origin> {
        let mut path = path.clone();
        while !path.steps().is_empty() {
            if let Some(node) = self.at(&path) {
                return Some(&node.origin);
            }
            path = path.parent()?;
        }
        None
    }

    /// Sets the value at `path`, and the tables on the way to it.
    pub(super) fn set(&mut self, path: &[&str], node: Self) {
        let Value::Table(table) = &mut self.value else {
            return;
        };
        match path {
            [] => {}
            [key] => {
                table.insert((*key).to_owned(), node);
            }
            [key, rest @ ..] => table
                .entry((*key).to_owned())
                .or_insert_with(|| Self::empty_table(node.origin.clone()))
                .set(rest, node),
        }
    }

    /// Lays `over` on top: its settings win. Sections are joined key by key; the values of
    /// settings, lists and tables among them, are replaced whole.
    pub(super) fn overlay(&mut self, over: Self) {
        let (Value::Table(under), Value::Table(over)) = (&mut self.value, over.value) else {
            return;
        };
        for (name, section) in over {
            match (
                under.get_mut(&name).map(|node| &mut node.value),
                section.value,
            ) {
                (Some(Value::Table(keys)), Value::Table(more)) => keys.extend(more),
                (_, value) => {
                    let origin = section.origin;
                    under.insert(name, Self { value, origin });
                }
            }
        }
    }

    /// Takes the value at `path` away; an item of a list takes the list with it, so that the
    /// positions of the others stay true. Returns the path of what went.
    pub(super) fn prune(&mut self, path: &Path) -> Path {
        let mut gone = path.clone();
        while let Some((last, parent)) = gone.0.split_last() {
            let parent = Path(parent.to_vec());
            if let (Step::Key(key), Some(node)) = (last, self.at_mut(&parent))
                && let Value::Table(table) = &mut node.value
            {
                table.remove(key);
                break;
            }
            gone = parent;
        }
        gone
    }

    fn at_mut(&mut self, path: &Path) -> Option<&mut Self> {
        path.0
            .iter()
            .try_fold(self, |node, step| match (step, &mut node.value) {
                (Step::Key(key), Value::Table(table)) => table.get_mut(key),
                (Step::Index(index), Value::Array(items)) => items.get_mut(*index),
                _ => None,
            })
    }

    fn child(&self, step: &Step) -> Option<&Self> {
        match (step, &self.value) {
            (Step::Key(key), Value::Table(table)) => table.get(key),
            (Step::Index(index), Value::Array(items)) => items.get(*index),
            _ => None,
        }
    }
}

impl Value {
    /// The value of a parsed text, without places: for variables and flags.
    pub(super) fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Self::Text(number.to_string()), Self::Integer),
            DeValue::Float(number) => Self::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(boolean) => Self::Boolean(*boolean),
            DeValue::Datetime(_) => Self::Date,
            DeValue::Array(items) => Self::Array(
                items
                    .iter()
                    .map(|item| Node {
                        value: Self::from_toml(item.get_ref()),
                        origin: Origin::File {
                            key: item.span(),
                            value: item.span(),
                        },
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Self::from_table(table),
        }
    }

    fn from_table(table: &DeTable<'_>) -> Self {
        let entries = table.iter().map(|(key, value)| {
            let origin = Origin::File {
                key: key.span(),
                value: value.span(),
            };
            let value = Self::from_toml(value.get_ref());
            (key.get_ref().to_string(), Node { value, origin })
        });
        Self::Table(entries.collect())
    }

    /// Gives the whole tree below one origin.
    pub(super) fn owned_by(self, origin: &Origin) -> Node {
        let value = match self {
            Self::Table(table) => Self::Table(
                table
                    .into_iter()
                    .map(|(key, node)| (key, node.value.owned_by(origin)))
                    .collect(),
            ),
            Self::Array(items) => Self::Array(
                items
                    .into_iter()
                    .map(|node| node.value.owned_by(origin))
                    .collect(),
            ),
            scalar => scalar,
        };
        Node {
            value,
            origin: origin.clone(),
        }
    }
}

impl Path {
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(
            keys.iter()
                .map(|key| Step::Key((*key).to_owned()))
                .collect(),
        )
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    pub(super) fn starts_with(&self, start: &Self) -> bool {
        self.0.starts_with(&start.0)
    }

    pub(super) fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }

    fn step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    /// As a person would say it: "`lease` in `[idempotency]`".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (home, rest) = match self.0.as_slice() {
            [Step::Key(section), Step::Index(index), rest @ ..] if section == "route" => {
                (Some(format!("`[[route]]` number {}", index + 1)), rest)
            }
            [
                Step::Key(section),
                Step::Key(list),
                Step::Index(index),
                rest @ ..,
            ] if matches!(rest.first(), Some(Step::Key(_))) => {
                let home = format!("`[[{section}.{list}]]` number {}", index + 1);
                (Some(home), rest)
            }
            [Step::Key(section), rest @ ..] if matches!(rest.first(), Some(Step::Key(_))) => {
                (Some(format!("`[{section}]`")), rest)
            }
            steps => (None, steps),
        };
        let (items, keys): (Vec<_>, Vec<_>) =
            rest.iter().partition(|step| matches!(step, Step::Index(_)));
        if let Some(Step::Index(index)) = items.last() {
            write!(f, "item {} of ", index + 1)?;
        }
        let keys: Vec<&str> = keys
            .into_iter()
            .filter_map(|step| match step {
                Step::Key(key) => Some(key.as_str()),
                Step::Index(_) => None,
            })
            .collect();
        match (keys.is_empty(), home) {
            (true, Some(home)) => f.write_str(&home),
            (false, Some(home)) => write!(f, "`{}` in {home}", keys.join(".")),
            (_, None) => write!(f, "`{}`", keys.join(".")),
        }
    }
}
