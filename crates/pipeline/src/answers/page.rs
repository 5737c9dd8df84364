//! Errors as HTML pages.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use minijinja::{AutoEscape, Environment, Value, context};

use super::document::Document;
use crate::Language;

/// A template for error pages that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the template for error pages, line {line}: {reason}")]
pub struct TemplateError {
    line: usize,
    reason: String,
    source: Option<minijinja::Error>,
}

/// The template by which errors become pages.
#[derive(Clone)]
pub(super) struct Page(Arc<Environment<'static>>);

const NAME: &str = "error.html";

/// What a template can show, as [`Page::render`] gives it.
const VARIABLES: [&str; 7] = [
    "code",
    "message",
    "status",
    "error",
    "timestamp",
    "traceID",
    "language",
];

impl Page {
    pub(super) fn new(template: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        // By the name's ending it would be so anyway; this must not hang on a name.
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment
            .add_template_owned(NAME, template.to_owned())
            .map_err(TemplateError::syntax)?;
        if let Some(unknown) = unknown_variable(&environment) {
            return Err(TemplateError::unknown(&unknown, template));
        }
        Ok(Self(Arc::new(environment)))
    }

    pub(super) fn render(
        &self,
        document: &Document<'_>,
        status: StatusCode,
        language: Language,
    ) -> Bytes {
        let values = context! {
            code => document.code.number(),
            message => document.message,
            status => status.as_u16(),
            error => Value::from(document.lines().to_vec()),
            timestamp => document.timestamp,
            traceID => document.trace_id,
            language => language.tag(),
        };
        let page = self
            .0
            .get_template(NAME)
            .and_then(|template| template.render(values));
        page.unwrap_or_else(|error| {
            // The template is the application's: what it does wrong must not cost the answer.
            tracing::error!(error = &error as &dyn std::error::Error, "error page");
            format!(
                "<!DOCTYPE html><title>{0}</title><h1>{0}</h1>",
                status.as_u16()
            )
        })
        .into()
    }
}

/// A name that would show as nothing.
fn unknown_variable(environment: &Environment<'_>) -> Option<String> {
    let template = environment.get_template(NAME).ok()?;
    let mut unknown: Vec<String> = template
        .undeclared_variables(false)
        .into_iter()
        .filter(|name| !VARIABLES.contains(&name.as_str()))
        .filter(|name| !environment.globals().any(|(global, _)| global == name))
        .collect();
    unknown.sort();
    unknown.into_iter().next()
}

impl TemplateError {
    fn syntax(source: minijinja::Error) -> Self {
        // Its own text has a file's name that nobody gave.
        let reason = match source.detail() {
            Some(detail) => format!("{}: {detail}", source.kind()),
            None => source.kind().to_string(),
        };
        Self {
            line: source.line().unwrap_or(1),
            reason,
            source: Some(source),
        }
    }

    fn unknown(name: &str, template: &str) -> Self {
        let line = template.lines().position(|line| line.contains(name));
        Self {
            line: line.map_or(1, |index| index + 1),
            reason: format!("there is no `{name}`, but {}", VARIABLES.join(", ")),
            source: None,
        }
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new(include_str!("error.html")).expect("our own template is sound")
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Page")
    }
}
