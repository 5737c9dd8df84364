//! The layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{Schema, SchemaService};
use crate::Answers;

/// Checks bodies against a JSON Schema. See the [module](super).
#[derive(Clone, Debug)]
pub struct SchemaLayer {
    pub(super) rules: Arc<Rules>,
}

#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) schema: Option<Schema>,
    pub(super) answers: Answers,
    pub(super) max_body: usize,
}

/// A route's own schema, in the extensions of a request: instead of that of the [`SchemaLayer`]
/// that it passes.
#[derive(Clone, Debug)]
pub struct RouteSchema(pub(super) Option<Schema>);

impl RouteSchema {
    /// This schema.
    #[must_use]
    pub const fn new(schema: Schema) -> Self {
        Self(Some(schema))
    }

    /// None: bodies pass unread.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }
}

impl SchemaLayer {
    /// The longest body that is read, to begin with: 1 MiB.
    pub const MAX_BODY: usize = 1024 * 1024;

    /// A layer that checks every body against `schema`, but for requests with a [`RouteSchema`]
    /// of their own.
    #[must_use]
    pub fn new(schema: Schema, answers: Answers) -> Self {
        Self::with(Some(schema), answers)
    }

    /// A layer that checks the bodies of requests with a [`RouteSchema`] alone.
    #[must_use]
    pub fn by_route(answers: Answers) -> Self {
        Self::with(None, answers)
    }

    fn with(schema: Option<Schema>, answers: Answers) -> Self {
        Self {
            rules: Arc::new(Rules {
                schema,
                answers,
                max_body: Self::MAX_BODY,
            }),
        }
    }

    /// The longest body that is read, in bytes. Beyond it 413. Default 1 MiB.
    #[must_use]
    pub fn with_max_body(mut self, bytes: usize) -> Self {
        Arc::make_mut(&mut self.rules).max_body = bytes;
        self
    }
}

impl<S> Layer<S> for SchemaLayer {
    type Service = SchemaService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SchemaService {
            inner,
            rules: Arc::clone(&self.rules),
        }
    }
}
