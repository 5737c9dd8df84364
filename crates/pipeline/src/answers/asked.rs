//! What a request says about how it is to be answered.

use std::fmt;
use std::sync::Arc;

use http::Request;
use matchit::{InsertError, Router};
use onlyonce::TraceId;

use crate::context::Context;
use crate::{ContentKind, Language};

/// What a request says about how it is to be answered.
#[derive(Clone, Debug)]
pub struct Asked {
    pub(super) language: Language,
    pub(super) kind: ContentKind,
    trace_id: Option<TraceId>,
}

impl Asked {
    pub(super) fn new<B>(request: &Request<B>, language: Language, kinds: &Kinds) -> Self {
        let trace_id = match Context::of(request.extensions()) {
            Some(context) => Some(context.trace_id()),
            None => request.extensions().get::<TraceId>(),
        };
        Self {
            language,
            kind: kinds.of(request.uri().path()),
            trace_id: trace_id.cloned(),
        }
    }

    /// Which request it is in logs; empty where nobody has said so.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.trace_id
            .as_ref()
            .map(TraceId::as_str)
            .unwrap_or_default()
    }

    /// For a request whose trace ID is found out later.
    #[must_use]
    pub fn with_trace_id(mut self, trace_id: &TraceId) -> Self {
        self.trace_id = Some(trace_id.clone());
        self
    }

    /// In which language.
    #[must_use]
    pub const fn language(&self) -> Language {
        self.language
    }

    /// In which form, by the route.
    #[must_use]
    pub const fn kind(&self) -> ContentKind {
        self.kind
    }
}

/// A route's pattern that can't be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("route pattern {pattern:?}: {source}")]
pub struct RoutePatternError {
    pattern: Box<str>,
    source: InsertError,
}

/// Which route answers in which form.
#[derive(Clone, Default)]
pub(super) struct Kinds(Arc<Router<ContentKind>>);

impl Kinds {
    pub(super) fn insert(
        &mut self,
        pattern: &str,
        kind: ContentKind,
    ) -> Result<(), RoutePatternError> {
        let inserted = Arc::make_mut(&mut self.0).insert(pattern, kind);
        inserted.map_err(|source| RoutePatternError {
            pattern: pattern.into(),
            source,
        })
    }

    fn of(&self, path: &str) -> ContentKind {
        self.0
            .at(path)
            .map_or_else(|_| ContentKind::default(), |found| *found.value)
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kinds")
    }
}
