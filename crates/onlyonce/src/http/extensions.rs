//! What layers outside tell this one, through the request's extensions.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use onlyonce_core::Policy;

/// The authenticated caller. Set by an authentication layer outside; it becomes the scope.
///
/// # Example
/// ```
/// use onlyonce::Principal;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(Principal::new("account-17"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Principal(Arc<str>);

impl Principal {
    /// The caller with this name. Names must be unique and stable; they never reach the store.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Principal([hidden])")
    }
}

/// The policy of the matched route. Set by a router outside; wins over the layer's own.
///
/// Its policy must have passed [`Policy::check`].
#[derive(Clone, Debug)]
pub struct RoutePolicy(pub(crate) Option<Arc<Policy>>);

impl RoutePolicy {
    /// This route follows `policy`.
    #[must_use]
    pub fn new(policy: impl Into<Arc<Policy>>) -> Self {
        Self(Some(policy.into()))
    }

    /// This route is not protected: all its requests pass untouched.
    #[must_use]
    pub const fn disabled() -> Self {
        Self(None)
    }
}

/// The route's name in metrics, such as `/v1/charges/{id}`.
///
/// Use a pattern, not a path: each distinct label is a time series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteLabel(pub(crate) Arc<str>);

impl RouteLabel {
    /// The route with this name.
    #[must_use]
    pub fn new(label: impl Into<Arc<str>>) -> Self {
        Self(label.into())
    }
}

/// The request's trace ID, shown as `instance` in problem documents. Without one, a random ID
/// is made for the problem and its log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceId(pub(crate) Arc<str>);

impl TraceId {
    /// The trace with this ID: 32 hexadecimal digits.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a response means, where its status does not say it: a service that answers everything
/// with 200 and tells of failures in the body. Set by the layer that knows, in the response's
/// extensions; the policy's `store` judges by it. The response is sent and recorded as it is.
///
/// # Example
/// ```
/// use http::{Response, StatusCode};
/// use onlyonce::EffectiveStatus;
///
/// let mut response = Response::new(r#"{"code":52}"#);
/// response.extensions_mut().insert(EffectiveStatus(StatusCode::INTERNAL_SERVER_ERROR));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectiveStatus(pub StatusCode);
