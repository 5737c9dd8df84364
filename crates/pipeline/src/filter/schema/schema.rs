//! A JSON Schema, made ready.

use std::fmt;
use std::sync::Arc;

use jsonschema::Validator;
use serde_json::Value;

use crate::filter::json;
use crate::{Code, Refusal, Text};

/// A JSON Schema, compiled once; cheap to clone.
///
/// Drafts 4, 6, 7, 2019-09 and 2020-12, as `$schema` says; 2020-12 where it says nothing.
/// `format` is checked. References lead within the schema: nothing is fetched.
///
/// # Example
/// ```
/// use onlyonce_pipeline::filter::schema::Schema;
///
/// let schema = Schema::parse(br#"{"type": "object", "required": ["amount"]}"#)?;
/// let error = Schema::parse(br#"{"type": "objekt"}"#).unwrap_err();
/// assert!(error.to_string().starts_with("not a JSON Schema: at /type: "));
/// # let _ = schema;
/// # Ok::<(), onlyonce_pipeline::filter::schema::SchemaError>(())
/// ```
#[derive(Clone)]
pub struct Schema(Arc<Validator>);

/// Why a text is no schema.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// It is not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It breaks the rules for schemas, or refers to what it does not hold.
    #[error("not a JSON Schema: at {place}: {source}")]
    Schema {
        /// Where in the schema, as a JSON Pointer.
        place: String,
        /// What is wrong there.
        source: Box<jsonschema::ValidationError<'static>>,
    },
}

impl Schema {
    /// Reads and compiles a schema.
    ///
    /// # Errors
    /// When it is not JSON, not a schema, has a format that nobody knows, or refers to another
    /// document.
    pub fn parse(text: &[u8]) -> Result<Self, SchemaError> {
        Self::new(&json::from_slice(text)?)
    }

    /// Compiles a schema.
    ///
    /// # Errors
    /// When it is not a schema, has a format that nobody knows, or refers to another document.
    pub fn new(schema: &Value) -> Result<Self, SchemaError> {
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .offline()
            .build(schema)
            .map_err(|error| SchemaError::Schema {
                place: place(error.instance_path().as_str()).to_owned(),
                source: Box::new(error),
            })?;
        Ok(Self(Arc::new(validator)))
    }

    /// The first rule that `value` breaks. Values are not shown: they may be secrets.
    pub(super) fn check(&self, value: &Value) -> Result<(), Refusal> {
        self.0.validate(value).map_err(|error| {
            let place = place(error.instance_path().as_str());
            let rule = error.kind().keyword();
            Refusal::new(Code::VALIDATION_FAILED).with_text(Text::both(
                format!("{place}: {}", error.masked()),
                format!("{place}：不符合规则 {rule}"),
            ))
        })
    }
}

/// A JSON Pointer for people: the root's is empty.
fn place(pointer: &str) -> &str {
    if pointer.is_empty() { "/" } else { pointer }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}
