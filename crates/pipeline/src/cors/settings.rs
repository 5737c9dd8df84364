//! What pages of other origins may do.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, ORIGIN, RETRY_AFTER, USER_AGENT};
use http::{HeaderName, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, Any};

use super::{OriginError, OriginPattern};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const X_IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("x-idempotency-key");
const TRACE_ID: HeaderName = HeaderName::from_static("trace-id");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What pages of other origins may do: the settings of [`CorsLayer`](super::CorsLayer).
///
/// To begin with, no origin may do anything. The headers of idempotency are always let through:
/// `Idempotency-Key` and `X-Idempotency-Key` may be sent, `Trace-ID`, `Retry-After` and
/// `Idempotent-Replayed` may be read.
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// use onlyonce_pipeline::cors::{Cors, CorsLayer};
///
/// let cors = Cors::new()
///     .with_origins(["https://shop.example", "https://*.shop.example"])?
///     .with_credentials(true)
///     .with_max_age(Duration::from_secs(3600));
/// let layer = CorsLayer::new(&cors)?;
/// # let _ = layer;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    origins: Origins,
    credentials: bool,
    methods: Vec<Method>,
    headers: Vec<HeaderName>,
    requested_headers: bool,
    exposed: Vec<HeaderName>,
    max_age: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origins {
    Listed(Arc<[OriginPattern]>),
    /// `*`: whoever it is.
    Any,
    /// The request's own, whatever it is.
    Echo,
}

/// Why settings cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CorsError {
    /// Any page of anybody could act with the cookies of its visitors. Browsers refuse `*` with
    /// credentials for that reason.
    #[error(
        "any origin and credentials exclude each other; list the origins, or do without credentials"
    )]
    AnyOriginWithCredentials,
    /// Not a pattern of origins.
    #[error(transparent)]
    Origin(#[from] OriginError),
}

impl Cors {
    /// No origin may do anything; `with_origins` and `with_any_origin` change that.
    ///
    /// Methods GET, HEAD, POST, PUT, PATCH and DELETE; headers `Accept`, `Authorization` and
    /// `Content-Type`; answers to preflights hold for ten minutes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            origins: Origins::Listed(Arc::new([])),
            credentials: false,
            methods: vec![
                Method::GET,
                Method::HEAD,
                Method::POST,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
            ],
            headers: vec![ACCEPT, AUTHORIZATION, CONTENT_TYPE],
            requested_headers: false,
            exposed: Vec::new(),
            max_age: Duration::from_secs(600),
        }
    }

    /// As `CORSDefault` of gf does, which HotGo uses: **any** origin, with credentials.
    ///
    /// Every page of anybody can act with the cookies of its visitors. It serves services that
    /// take no cookies, only tokens that a page of another origin cannot have.
    #[must_use]
    pub fn hotgo() -> Self {
        Self {
            origins: Origins::Echo,
            credentials: true,
            methods: vec![
                Method::GET,
                Method::PUT,
                Method::POST,
                Method::DELETE,
                Method::PATCH,
                Method::HEAD,
                Method::CONNECT,
                Method::OPTIONS,
                Method::TRACE,
            ],
            headers: vec![
                ORIGIN,
                CONTENT_TYPE,
                ACCEPT,
                USER_AGENT,
                COOKIE,
                AUTHORIZATION,
                HeaderName::from_static("x-auth-token"),
                HeaderName::from_static("x-requested-with"),
            ],
            requested_headers: true,
            exposed: Vec::new(),
            max_age: Duration::from_secs(3_628_800),
        }
    }

    /// Allows these origins, and no others; see [`OriginPattern`] for how they are written.
    ///
    /// # Errors
    /// When one of them is not an origin, with what to write instead.
    pub fn with_origins<'a>(
        self,
        origins: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, CorsError> {
        let patterns: Result<Vec<OriginPattern>, OriginError> =
            origins.into_iter().map(str::parse).collect();
        Ok(self.with_origin_patterns(patterns?))
    }

    /// Allows these origins, and no others.
    #[must_use]
    pub fn with_origin_patterns(
        mut self,
        origins: impl IntoIterator<Item = OriginPattern>,
    ) -> Self {
        self.origins = Origins::Listed(origins.into_iter().collect());
        self
    }

    /// Allows any origin. Not together with credentials.
    #[must_use]
    pub fn with_any_origin(mut self) -> Self {
        self.origins = Origins::Any;
        self
    }

    /// Whether browsers send cookies along and let pages read the answer all the same. Default
    /// no.
    #[must_use]
    pub const fn with_credentials(mut self, credentials: bool) -> Self {
        self.credentials = credentials;
        self
    }

    /// Allows these methods, and no others.
    #[must_use]
    pub fn with_methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Allows these request headers and those of idempotency keys, and no others.
    #[must_use]
    pub fn with_headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.headers = headers.into_iter().collect();
        self.requested_headers = false;
        self
    }

    /// Allows whatever request headers a preflight asks for, too.
    #[must_use]
    pub const fn with_requested_headers(mut self) -> Self {
        self.requested_headers = true;
        self
    }

    /// Lets pages read these response headers, too.
    #[must_use]
    pub fn with_exposed(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.exposed = headers.into_iter().collect();
        self
    }

    /// How long a browser may keep the answer to a preflight; in whole seconds. Browsers cap it
    /// (at two hours, for one).
    #[must_use]
    pub const fn with_max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Whether the settings can work.
    ///
    /// # Errors
    /// When they cannot: any origin together with credentials.
    pub fn check(&self) -> Result<(), CorsError> {
        if self.credentials && self.origins == Origins::Any {
            return Err(CorsError::AnyOriginWithCredentials);
        }
        Ok(())
    }

    /// The headers that are allowed besides those asked for, where these are.
    pub(super) fn headers_besides_requested(&self) -> Option<Vec<HeaderName>> {
        self.requested_headers.then(|| self.allowed_headers())
    }

    pub(super) fn to_tower_http(&self) -> Result<tower_http::cors::CorsLayer, CorsError> {
        // What it would panic on otherwise.
        self.check()?;
        let origins = match &self.origins {
            Origins::Any => AllowOrigin::from(Any),
            Origins::Echo => AllowOrigin::mirror_request(),
            Origins::Listed(patterns) => {
                let patterns = Arc::clone(patterns);
                AllowOrigin::predicate(move |origin, _| {
                    let origin = str::from_utf8(origin.as_bytes()).unwrap_or_default();
                    patterns.iter().any(|pattern| pattern.matches(origin))
                })
            }
        };
        let headers = if self.requested_headers {
            AllowHeaders::mirror_request()
        } else {
            AllowHeaders::list(self.allowed_headers())
        };
        Ok(tower_http::cors::CorsLayer::new()
            .allow_origin(origins)
            .allow_credentials(self.credentials)
            .allow_methods(self.methods.clone())
            .allow_headers(headers)
            .expose_headers(with(
                &self.exposed,
                [TRACE_ID, RETRY_AFTER, IDEMPOTENT_REPLAYED],
            ))
            .max_age(self.max_age))
    }

    fn allowed_headers(&self) -> Vec<HeaderName> {
        with(&self.headers, [IDEMPOTENCY_KEY, X_IDEMPOTENCY_KEY])
    }
}

impl Default for Cors {
    fn default() -> Self {
        Self::new()
    }
}

/// `names` and then `more`, each once.
fn with<const N: usize>(names: &[HeaderName], more: [HeaderName; N]) -> Vec<HeaderName> {
    let mut all: Vec<HeaderName> = Vec::with_capacity(names.len() + N);
    for name in names.iter().cloned().chain(more) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}
