//! The layer: how a service becomes idempotent.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, Uri};
use onlyonce_core::{Key, KeyError, Policy, PolicyError, Profile, Scope, SharedStore};
use tower_layer::Layer;

use super::{Idempotency, Problem};
use crate::Engine;

/// Makes a service's unsafe requests safe to retry.
///
/// See the [module](super) for the whole picture.
///
/// # Example
/// One store, and a stricter policy on one group of routes:
/// ```
/// use axum::{Router, routing::post};
/// use onlyonce::{Engine, IdempotencyLayer, Policy, Profile};
/// use onlyonce_memory::MemoryStore;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::new(MemoryStore::new());
/// let standard = IdempotencyLayer::from_engine(engine.clone());
/// let payments = IdempotencyLayer::from_engine(engine)
///     .with_policy(Policy::new(Profile::Payments))?;
///
/// let app: Router = Router::new()
///     .route("/notes", post(async || "noted").layer(standard))
///     .route("/charges", post(async || "charged").layer(payments));
/// # let _ = app;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct IdempotencyLayer {
    shared: Arc<Shared>,
}

/// Finds whose key a request's key is.
type ScopeFn = dyn Fn(&Parts) -> Option<Scope> + Send + Sync;
/// Finds what a request is really sent to.
type TargetFn = dyn Fn(&Parts) -> Option<Uri> + Send + Sync;
/// Checks a key.
type KeyFn = dyn Fn(&Key) -> Result<(), KeyError> + Send + Sync;
/// Turns a refusal into a response.
type Renderer = dyn Fn(&Problem) -> Response<Bytes> + Send + Sync;

/// What all clones of a layer, and all its services, share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) policy: Arc<Policy>,
    pub(super) scope: Option<Arc<ScopeFn>>,
    pub(super) target: Option<Arc<TargetFn>>,
    pub(super) validate: Option<Arc<KeyFn>>,
    pub(super) renderer: Arc<Renderer>,
}

impl IdempotencyLayer {
    /// A layer on `store`, with the [`Standard`](Profile::Standard) profile.
    #[must_use]
    pub fn new(store: impl Into<SharedStore>) -> Self {
        Self::from_engine(Engine::new(store))
    }

    /// A layer on an engine, which other layers may share.
    #[must_use]
    pub fn from_engine(engine: Engine) -> Self {
        Self {
            shared: Arc::new(Shared {
                engine,
                policy: Arc::new(Policy::new(Profile::Standard)),
                scope: None,
                target: None,
                validate: None,
                renderer: Arc::new(Problem::to_response),
            }),
        }
    }

    /// Follows `policy`, but for requests with a [`RoutePolicy`](super::RoutePolicy) of their
    /// own.
    ///
    /// # Errors
    /// When the policy cannot work ([`Policy::check`]).
    pub fn with_policy(self, policy: Policy) -> Result<Self, PolicyError> {
        policy.check()?;
        Ok(self.with(|shared| shared.policy = Arc::new(policy)))
    }

    /// Finds the scope by `scope` where it gives one; else the policy's rule holds.
    ///
    /// # Example
    /// ```
    /// use onlyonce::{IdempotencyLayer, Scope};
    /// use onlyonce_memory::MemoryStore;
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new()).with_scope(|request| {
    ///     let tenant = request.uri.host()?;
    ///     Some(Scope::custom(tenant))
    /// });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn with_scope(
        self,
        scope: impl Fn(&Parts) -> Option<Scope> + Send + Sync + 'static,
    ) -> Self {
        self.with(|shared| shared.scope = Some(Arc::new(scope)))
    }

    /// Finds by `target` what a request is sent to, where it gives it; else it is the request's
    /// own URI. Its path and query count in the fingerprint.
    ///
    /// For routers that hand on a shortened URI: inside `Router::nest("/v1", …)`, axum shows
    /// `/charges` for `/v1/charges`, and a key used there and in another nest for the same body
    /// would replay the wrong one's response. Put the layer outside the nesting, or:
    ///
    /// # Example
    /// ```
    /// use axum::extract::OriginalUri;
    /// use onlyonce::IdempotencyLayer;
    /// use onlyonce_memory::MemoryStore;
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new()).with_target(|request| {
    ///     let OriginalUri(uri) = request.extensions.get()?;
    ///     Some(uri.clone())
    /// });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn with_target(
        self,
        target: impl Fn(&Parts) -> Option<Uri> + Send + Sync + 'static,
    ) -> Self {
        self.with(|shared| shared.target = Some(Arc::new(target)))
    }

    /// Checks keys by `validate`, after the policy's own rule.
    ///
    /// # Example
    /// ```
    /// use onlyonce::{IdempotencyLayer, KeyError};
    /// use onlyonce_memory::MemoryStore;
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new()).with_validate(|key| {
    ///     if key.as_str().starts_with("ord_") {
    ///         Ok(())
    ///     } else {
    ///         Err(KeyError::Refused("keys begin with ord_".into()))
    ///     }
    /// });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn with_validate(
        self,
        validate: impl Fn(&Key) -> Result<(), KeyError> + Send + Sync + 'static,
    ) -> Self {
        self.with(|shared| shared.validate = Some(Arc::new(validate)))
    }

    /// Renders refusals by `renderer` instead of as `application/problem+json`.
    ///
    /// # Example
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use onlyonce::IdempotencyLayer;
    /// use onlyonce_memory::MemoryStore;
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new()).with_renderer(|problem| {
    ///     let mut response = Response::new(Bytes::from(problem.detail.to_string()));
    ///     *response.status_mut() = problem.status;
    ///     response
    /// });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn with_renderer(
        self,
        renderer: impl Fn(&Problem) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.with(|shared| shared.renderer = Arc::new(renderer))
    }

    /// The engine behind the layer: to shut it down, or to share it.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::make_mut(&mut self.shared));
        self
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Idempotency {
            inner,
            shared: Arc::clone(&self.shared),
        }
    }
}

impl fmt::Debug for IdempotencyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer")
            .field("engine", &self.shared.engine)
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}
