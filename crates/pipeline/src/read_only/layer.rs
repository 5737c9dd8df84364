//! The layer.

use std::sync::Arc;

use http::Method;
use tower_layer::Layer;

use super::exempt::Exemptions;
use super::{ExemptError, ReadOnly, ReadOnlyService};
use crate::Answers;

/// Which methods are refused in read-only mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// Every method that is not safe by its definition: all but GET, HEAD, OPTIONS and TRACE.
    #[default]
    Unsafe,
    /// POST alone, as HotGo does. PUT, PATCH and DELETE pass: right only where no route has them.
    PostAlone,
}

impl Refused {
    fn includes(self, method: &Method) -> bool {
        match self {
            Self::Unsafe => !method.is_safe(),
            Self::PostAlone => *method == Method::POST,
        }
    }
}

/// Refuses changes while its switch is on. See the [module](super).
#[derive(Clone, Debug)]
pub struct ReadOnlyLayer {
    switch: ReadOnly,
    rules: Arc<Rules>,
}

#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) answers: Answers,
    refused: Refused,
    exempt: Exemptions,
}

impl ReadOnlyLayer {
    /// A layer that refuses every unsafe method while `switch` is on.
    #[must_use]
    pub fn new(switch: ReadOnly, answers: Answers) -> Self {
        Self {
            switch,
            rules: Arc::new(Rules {
                answers,
                refused: Refused::default(),
                exempt: Exemptions::default(),
            }),
        }
    }

    /// Refuses these methods; by default every unsafe one.
    #[must_use]
    pub fn with_refused(mut self, refused: Refused) -> Self {
        Arc::make_mut(&mut self.rules).refused = refused;
        self
    }

    /// Leaves the routes open that match one of these patterns, such as `/login` or
    /// `/sessions/{id}` (the syntax is axum's).
    ///
    /// Letter case and a slash at the end count. A path that servers could read in two ways, such
    /// as `/login/../orders`, matches none.
    ///
    /// # Errors
    /// When a pattern is malformed, or conflicts with another.
    pub fn with_exempt<'a>(
        mut self,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ExemptError> {
        let rules = Arc::make_mut(&mut self.rules);
        for pattern in patterns {
            rules.exempt.insert(pattern)?;
        }
        Ok(self)
    }
}

impl Rules {
    /// Whether a request may pass in read-only mode.
    pub(super) fn allow(&self, method: &Method, path: &str, exempt: bool) -> bool {
        let is_exempt = || exempt || self.exempt.hold(path);
        !self.refused.includes(method) || (super::exempt::is_plain(path) && is_exempt())
    }
}

impl<S> Layer<S> for ReadOnlyLayer {
    type Service = ReadOnlyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ReadOnlyService {
            inner,
            switch: self.switch.clone(),
            rules: Arc::clone(&self.rules),
        }
    }
}
