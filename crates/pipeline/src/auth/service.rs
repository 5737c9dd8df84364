//! The service: one request's way through its module.

use std::fmt;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use onlyonce::Principal;
use tower_service::Service;

use super::credential::{Credential, bearer, bearer_or_ticket};
use super::future::ResponseFuture;
use super::layer::{Shared, Told};
use super::module::{Placed, Steps};
use super::roles::Roles;
use super::texts::AuthRejection;
use super::tokens::{TokenError, Tokens};
use crate::PipelineBody;
use crate::context::{Context, Identity};
use crate::path::NormalPath;

/// The service of [`AuthLayer`](super::AuthLayer).
#[derive(Clone)]
pub struct Auth<S> {
    pub(super) inner: S,
    pub(super) shared: Arc<Shared>,
}

/// What is to be found out before a request passes.
pub(super) struct Question {
    tokens: Tokens,
    shown: Result<Credential, TokenError>,
    /// Whether a request passes without an identity.
    optional: bool,
    /// What the identity's role must be allowed to do.
    needs: Option<Needs>,
}

struct Needs {
    roles: Roles,
    method: Method,
    path: Box<str>,
}

impl<S, B, R> Service<Request<B>> for Auth<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
{
    type Response = Response<PipelineBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, Request<B>, S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        remove_forged(request.headers_mut(), &self.shared.removed);
        match self.shared.question(&request) {
            Ok(None) => ResponseFuture::passed(self.inner.call(request)),
            Ok(Some(question)) => {
                // What was made ready is used; the next request makes the clone ready.
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                ResponseFuture::asked(question, request, ready, Arc::clone(&self.shared))
            }
            Err(rejection) => ResponseFuture::refused(self.shared.refuse(rejection, &request)),
        }
    }
}

impl Shared {
    /// What is to be found out of a request; `None`: nothing, it passes.
    fn question<B>(&self, request: &Request<B>) -> Result<Option<Question>, AuthRejection> {
        let target = self.target.as_ref();
        let target = target.and_then(|target| target(request.extensions()));
        let uri: &Uri = target.as_ref().unwrap_or_else(|| request.uri());
        let (method, headers) = (request.method(), request.headers());
        let found = self.modules.find(method, uri.path());
        let Some((placed, path)) = found.map_err(AuthRejection::Path)? else {
            return Ok(None);
        };
        if placed.is_login_exempt(method, &path) || self.exempt.has(method, &path) {
            return Ok(None);
        }
        Ok(Question::of(placed, method, &path, headers, uri))
    }

    pub(super) fn refuse<B>(
        &self,
        rejection: AuthRejection,
        request: &Request<B>,
    ) -> Response<Bytes> {
        let kind = rejection.kind();
        metrics::counter!("onlyonce_auth_refusals_total", "reason" => kind).increment(1);
        if kind == "store" {
            tracing::error!(
                error = &rejection as &dyn std::error::Error,
                "caller not known"
            );
        } else {
            tracing::debug!(reason = %rejection, "request refused");
        }
        let mut response = self.answers.refuse(&rejection.refusal(), request);
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(Arc::new(rejection));
        response
    }
}

impl Question {
    /// The question that the module's steps ask; none where nobody would look at the answer.
    fn of(
        placed: &Placed,
        method: &Method,
        path: &NormalPath,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Option<Self> {
        let module = &placed.module;
        let shown = match module.steps {
            Steps::LoginOrTicket => bearer_or_ticket(headers, uri),
            _ => bearer(headers),
        };
        let optional = matches!(module.steps, Steps::Optional);
        if optional && shown.is_err() {
            return None;
        }
        let needs = match &module.steps {
            Steps::Roles(roles) if !placed.is_permission_exempt(method, path) => Some(Needs {
                roles: roles.clone(),
                method: method.clone(),
                path: placed.policy_path(path).into(),
            }),
            _ => None,
        };
        Some(Self {
            tokens: module.tokens.clone(),
            shown,
            optional,
            needs,
        })
    }

    /// The caller, who may do what they ask for; `None`: nobody, and that is good enough.
    pub(super) async fn answer(self) -> Result<Option<Identity>, AuthRejection> {
        let identity = match self.shown {
            Ok(Credential::Token(token)) => self.tokens.verify(&token).await,
            Ok(Credential::Ticket(ticket)) => self.tokens.redeem_ticket(&ticket).await,
            Err(error) => Err(error),
        };
        let identity = match identity {
            Ok(identity) => identity,
            // Who can't be told from nobody is not nobody.
            Err(error @ (TokenError::Store(_) | TokenError::Random)) => return Err(error.into()),
            Err(_) if self.optional => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if let Some(needs) = self.needs {
            let role = identity.role.as_deref();
            let may = |role| needs.roles.allows(role, &needs.path, needs.method.as_str());
            if !role.is_some_and(may) {
                return Err(AuthRejection::NotAllowed);
            }
        }
        Ok(Some(identity))
    }
}

/// Says who calls, to all who come after.
pub(super) fn introduce<B>(identity: Identity, told: &Told, request: &mut Request<B>) {
    let role = identity.role.as_deref();
    for (name, value) in [(&told.user, Some(identity.id.as_str())), (&told.role, role)] {
        if let (Some(name), Some(value)) = (name, value.and_then(header_value)) {
            request.headers_mut().insert(name, value);
        }
    }
    let identity = Arc::new(identity);
    if let Some(context) = Context::of(request.extensions()) {
        context.set_identity(Arc::clone(&identity));
    }
    let extensions = request.extensions_mut();
    extensions.insert(principal(&identity));
    extensions.insert(identity);
}

/// With their lengths, so that no two callers have one name.
fn principal(identity: &Identity) -> Principal {
    let Identity { id, app, .. } = identity;
    Principal::new(format!("{}:{app}:{}:{id}", app.len(), id.len()))
}

/// Whether a [`Principal`] of this name would be one of an identity's: whoever names principals in
/// another way must not give that to anybody.
#[must_use]
pub fn is_name_of_identity(name: &str) -> bool {
    let part = |text: &str| -> Option<usize> { text.split_once(':')?.0.parse().ok() };
    let read = || {
        let app = part(name)?;
        let rest = &name[name.find(':')? + 1..];
        let rest = rest.get(app..)?.strip_prefix(':')?;
        let id = part(rest)?;
        Some(rest.split_once(':')?.1.len() == id)
    };
    read().unwrap_or(false)
}

fn header_value(text: &str) -> Option<HeaderValue> {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            value.push(char::from(byte));
        } else {
            value.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::from_str(&value).ok()
}

/// Takes headers off in every spelling: servers that speak CGI or WSGI read `_` for `-`.
fn remove_forged(headers: &mut HeaderMap, removed: &[HeaderName]) {
    if removed.is_empty() {
        return;
    }
    let is_removed = |name: &HeaderName| {
        let spelled = |byte: u8| if byte == b'_' { b'-' } else { byte };
        removed.iter().any(|other| {
            let (one, other) = (name.as_str(), other.as_str());
            one.len() == other.len()
                && one
                    .bytes()
                    .zip(other.bytes())
                    .all(|(a, b)| spelled(a) == spelled(b))
        })
    };
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_removed(name))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}

impl<S> fmt::Debug for Auth<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_known_by_their_names() {
        for (app, id) in [("admin", "7"), ("a:b", "1:2"), ("büro", "é"), ("x", "")] {
            let name = principal(&Identity::new(id, app));
            assert!(is_name_of_identity(name.as_str()), "{}", name.as_str());
        }
        for name in [
            "",
            "alice",
            "5:admin:1:77",
            "5:admin:1",
            "4:admin:1:7",
            "99:admin:1:7",
            "0::18446744073709551615:",
            ":admin:1:7",
            "2:é:1:7x",
        ] {
            assert!(!is_name_of_identity(name), "{name}");
        }
    }
}
