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
#[error("the template for error pages, line {}: {source}", .source.line().unwrap_or(1))]
pub struct TemplateError {
    source: minijinja::Error,
}

/// The template by which errors become pages.
#[derive(Clone)]
pub(super) struct Page(Arc<Environment<'static>>);

const NAME: &str = "error.html";

impl Page {
    pub(super) fn new(template: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        // By the name's ending it would be so anyway; this must not hang on a name.
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment
            .add_template_owned(NAME, template.to_owned())
            .map_err(|source| TemplateError { source })?;
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
