//! From a tree to typed settings: serde, with errors that know the place and keep on going.

use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

use super::tree::{Node, Origin, Path, Value};

/// More errors than this are not looked for.
const MOST_FAULTS: usize = 50;

/// Reads all of `tree`, taking away what can't be read.
///
/// Each value that can't be read makes one fault and is pruned; then the rest is read again, so
/// one run finds all faults. What is returned is without the faulty values.
pub(super) fn decode<T: for<'de> Deserialize<'de> + Default>(tree: &mut Node) -> Decoded<T> {
    let mut faults = Vec::new();
    let mut pruned: Vec<Path> = Vec::new();
    loop {
        let mut fault = match T::deserialize(Reader::root(tree)) {
            Ok(settings) => {
                return Decoded {
                    settings,
                    faults,
                    pruned,
                };
            }
            Err(fault) => fault,
        };
        let path = fault.path.clone().unwrap_or_default();
        // A table that lacks what has just been pruned from it: the same fault once more.
        let echo = pruned.iter().any(|gone| gone.starts_with(&path));
        if !echo {
            fault.origin = tree.origin(&path).cloned();
            fault.found = tree.at(&path).map(|node| node.value.clone());
            faults.push(fault);
        }
        let gone = tree.prune(&path);
        let nothing_left = gone.steps().is_empty();
        pruned.push(gone);
        if nothing_left || faults.len() == MOST_FAULTS {
            return Decoded {
                settings: T::default(),
                faults,
                pruned,
            };
        }
    }
}

/// What [`decode`] read.
pub(super) struct Decoded<T> {
    pub(super) settings: T,
    pub(super) faults: Vec<Fault>,
    /// The paths of what was taken away.
    pub(super) pruned: Vec<Path>,
}

/// Why a value can't be read.
#[derive(Debug)]
pub(super) struct Fault {
    /// Where; set by the innermost reader that the error passes through.
    pub(super) path: Option<Path>,
    pub(super) kind: FaultKind,
    /// Where the value was set; known when it is taken away.
    pub(super) origin: Option<Origin>,
    /// The value itself; likewise.
    pub(super) found: Option<Value>,
}

#[derive(Debug)]
pub(super) enum FaultKind {
    /// There is no such setting.
    UnknownKey(&'static [&'static str]),
    /// What was expected, and maybe the remedy.
    Invalid { label: String, help: Option<String> },
}

impl Fault {
    fn new(kind: FaultKind) -> Self {
        Self {
            path: None,
            kind,
            origin: None,
            found: None,
        }
    }

    fn invalid(unexpected: &Unexpected<'_>, expected: &dyn Expected) -> Self {
        let label = expected_but(unexpected, expected);
        let help = match unexpected {
            Unexpected::Str(text) if label.starts_with("expected a list") => {
                Some(format!("a list stands in brackets: [{text:?}]"))
            }
            _ => None,
        };
        Self::new(FaultKind::Invalid { label, help })
    }

    fn or_at(mut self, path: impl FnOnce() -> Path) -> Self {
        self.path.get_or_insert_with(path);
        self
    }
}

/// "expected …, found …".
pub(super) fn expected_but(unexpected: &Unexpected<'_>, expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    // The standard visitors name Rust's types, which a reader of settings doesn't know.
    let expected = match expected.as_str() {
        "a sequence" => "a list",
        "a boolean" => "`true` or `false`",
        other => other,
    };
    format!("expected {expected}, found {}", found(unexpected))
}

fn found(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(boolean) => format!("`{boolean}`"),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(text) => format!("{text:?}"),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

impl de::Error for Fault {
    /// The first line is what was expected; what follows is the remedy.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        let (label, help) = match message.split_once('\n') {
            Some((label, help)) => (label.to_owned(), Some(help.to_owned())),
            None => (message, None),
        };
        Self::new(FaultKind::Invalid { label, help })
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid(&unexpected, expected)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid(&unexpected, expected)
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(FaultKind::UnknownKey(expected))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FaultKind::UnknownKey(_) => f.write_str("unknown setting"),
            FaultKind::Invalid { label, .. } => f.write_str(label),
        }
    }
}

impl std::error::Error for Fault {}

/// Reads one node.
struct Reader<'t> {
    node: &'t Node,
    path: Path,
}

impl<'t> Reader<'t> {
    fn root(node: &'t Node) -> Self {
        Self {
            node,
            path: Path::default(),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let path = self.path.clone();
        let result = match &self.node.value {
            Value::Table(table) => visitor.visit_map(Entries {
                entries: table.iter(),
                value: None,
                path: self.path,
            }),
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                path: self.path,
            }),
            Value::Text(text) => visitor.visit_str(text),
            Value::Integer(number) => match (u64::try_from(*number), i64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => Err(Fault::invalid(
                    &Unexpected::Other("a number beyond 64 bits"),
                    &visitor,
                )),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Date => Err(Fault::invalid(&Unexpected::Other("a date"), &visitor)),
        };
        result.map_err(|fault| fault.or_at(|| path))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Entries<'t> {
    entries: std::collections::btree_map::Iter<'t, String, Node>,
    value: Option<Reader<'t>>,
    path: Path,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((key, node)) = self.entries.next() else {
            return Ok(None);
        };
        let path = self.path.key(key);
        let name: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        let name = seed
            .deserialize(name)
            .map_err(|fault| fault.or_at(|| path.clone()))?;
        self.value = Some(Reader { node, path });
        Ok(Some(name))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let value = self
            .value
            .take()
            .ok_or_else(|| de::Error::custom("a value is read before its key"))?;
        let path = value.path.clone();
        seed.deserialize(value)
            .map_err(|fault: Fault| fault.or_at(|| path))
    }
}

struct Items<'t> {
    items: std::iter::Enumerate<std::slice::Iter<'t, Node>>,
    path: Path,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        let path = self.path.index(index);
        seed.deserialize(Reader {
            node,
            path: path.clone(),
        })
        .map(Some)
        .map_err(|fault| fault.or_at(|| path))
    }
}
