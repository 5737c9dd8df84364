//! The layer.

use std::sync::Arc;

use http::HeaderName;
use tower_layer::Layer;

use super::inner::Inner;
use super::{Cors, CorsError, CorsService};

/// Answers preflights, and says which pages may read what. See the [module](super).
#[derive(Clone, Debug)]
pub struct CorsLayer {
    pub(super) rules: Arc<Rules>,
}

/// Settings, made ready.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) tower_http: tower_http::cors::CorsLayer,
    /// What is allowed besides the headers that a preflight asks for; none where those are not.
    pub(super) besides_requested: Option<Vec<HeaderName>>,
}

impl CorsLayer {
    /// A layer with these settings.
    ///
    /// # Errors
    /// When they cannot work ([`Cors::check`]).
    pub fn new(settings: &Cors) -> Result<Self, CorsError> {
        let rules = Rules {
            tower_http: settings.to_tower_http()?,
            besides_requested: settings.headers_besides_requested(),
        };
        Ok(Self {
            rules: Arc::new(rules),
        })
    }
}

impl<S> Layer<S> for CorsLayer {
    type Service = CorsService<S>;

    fn layer(&self, inner: S) -> CorsService<S> {
        CorsService {
            cors: self.rules.tower_http.layer(Inner(inner)),
            rules: Arc::clone(&self.rules),
        }
    }
}

/// A route's own rules, in the extensions of a request: instead of those of the [`CorsLayer`]
/// that it passes.
///
/// For a preflight, take those of the route that the request to come is for; its method is
/// [`requested_method`](super::requested_method).
#[derive(Clone, Debug)]
pub struct RouteCors(pub(super) Option<CorsLayer>);

impl RouteCors {
    /// These rules.
    #[must_use]
    pub const fn new(rules: CorsLayer) -> Self {
        Self(Some(rules))
    }

    /// None: the service inside sees to it itself.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }
}
