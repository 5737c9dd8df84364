//! The layer: how a service gets to know its callers.

use std::fmt;
use std::sync::Arc;

use http::{HeaderName, Uri};
use tower_layer::Layer;

use super::Auth;
use super::module::{Module, ModuleError, Modules};
use super::routes::{RouteList, RoutePattern};
use crate::Answers;

/// Lets requests pass by the rules of their [`Module`].
///
/// See the [module](super) for the whole picture.
#[derive(Clone)]
pub struct AuthLayer {
    shared: Arc<Shared>,
}

/// Finds what a request is really sent to.
type TargetFn = dyn Fn(&http::Extensions) -> Option<Uri> + Send + Sync;

#[derive(Clone)]
pub(super) struct Shared {
    pub(super) modules: Arc<Modules>,
    /// What passes without a login, beside what modules say.
    pub(super) exempt: RouteList,
    pub(super) answers: Answers,
    pub(super) removed: Arc<[HeaderName]>,
    pub(super) told: Told,
    pub(super) target: Option<Arc<TargetFn>>,
}

/// By which headers services behind learn who calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) user: Option<HeaderName>,
    pub(super) role: Option<HeaderName>,
}

impl AuthLayer {
    /// A layer with these modules. Requests outside of all of them pass.
    ///
    /// # Errors
    /// When two modules have the same name or prefix.
    pub fn new(modules: impl IntoIterator<Item = Module>) -> Result<Self, ModuleError> {
        let modules = Modules::new(modules.into_iter().collect())?;
        Ok(Self {
            shared: Arc::new(Shared {
                modules: Arc::new(modules),
                exempt: RouteList::default(),
                answers: Answers::default(),
                removed: Arc::from([]),
                told: Told::default(),
                target: None,
            }),
        })
    }

    /// Shows refusals in this way.
    #[must_use]
    pub fn with_answers(self, answers: Answers) -> Self {
        self.with(|shared| shared.answers = answers)
    }

    /// Lets this route pass without a login, and without an identity, whichever module it is of.
    ///
    /// For a router outside that has a layer of its own for each of its routes: this layer is
    /// asked only about requests that the router took for this route, and lets those pass whose
    /// path is the route's without a second reading.
    #[must_use]
    pub fn with_exempt_route(self, route: &RoutePattern) -> Self {
        self.with(|shared| shared.exempt.add(route))
    }

    /// Takes these headers off all requests, also where they are written with `_` for `-`: those
    /// by which a proxy tells an application who the caller is. A client's own are a forgery.
    #[must_use]
    pub fn with_removed_headers(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with(|shared| {
            let known = shared.removed.iter().cloned();
            shared.removed = known.chain(names).collect();
        })
    }

    /// Tells services behind who calls: the user's ID and role in these headers, with bytes other
    /// than visible ASCII, and `%`, percent-encoded. A client's own are taken off, in every
    /// spelling, also where nobody is logged in.
    #[must_use]
    pub fn with_identity_headers(self, user: Option<HeaderName>, role: Option<HeaderName>) -> Self {
        self.with(|shared| {
            let forged = user.iter().chain(&role).cloned();
            shared.removed = shared.removed.iter().cloned().chain(forged).collect();
            shared.told = Told { user, role };
        })
    }

    /// Finds by `target` what a request is sent to, where it gives it; else it is the request's
    /// own URI.
    ///
    /// For routers that hand on a shortened URI: inside `Router::nest("/admin", …)`, axum shows
    /// `/users` for `/admin/users`, which is in no module and passes. Put the layer outside the
    /// nesting, or:
    ///
    /// # Example
    /// ```
    /// use axum::extract::OriginalUri;
    /// use onlyonce_pipeline::auth::AuthLayer;
    ///
    /// let layer = AuthLayer::new([])?.with_target(|extensions| {
    ///     let OriginalUri(uri) = extensions.get()?;
    ///     Some(uri.clone())
    /// });
    /// # let _ = layer;
    /// # Ok::<_, onlyonce_pipeline::auth::ModuleError>(())
    /// ```
    #[must_use]
    pub fn with_target(
        self,
        target: impl Fn(&http::Extensions) -> Option<Uri> + Send + Sync + 'static,
    ) -> Self {
        self.with(|shared| shared.target = Some(Arc::new(target)))
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::make_mut(&mut self.shared));
        self
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Auth {
            inner,
            shared: Arc::clone(&self.shared),
        }
    }
}

impl fmt::Debug for AuthLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayer")
            .field("modules", &self.shared.modules)
            .finish_non_exhaustive()
    }
}
