//! From a raw request to one that the layers know: its route, its policy, its caller.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use onlyonce::{Principal, RouteLabel, RoutePolicy};
use onlyonce_pipeline::auth::is_name_of_identity;
use onlyonce_pipeline::cors::requested_method;

use crate::config::RouteTable;
use crate::pipeline::RouteStack;

/// Headers by which an upstream learns of a claim. A client's own are a forgery.
pub(crate) const ATTEMPT: HeaderName = HeaderName::from_static("idempotency-attempt");
pub(crate) const FENCE: HeaderName = HeaderName::from_static("idempotency-fence");

/// What can change while the gateway runs, of how requests are told apart.
pub(crate) struct Routing {
    table: RouteTable,
    principal_header: Option<HeaderName>,
    /// A label for each pattern, made once.
    labels: Vec<(Box<str>, RouteLabel)>,
    elsewhere: RouteLabel,
    /// The layers of each route, in order; the last is for where no route matches.
    stacks: Vec<Option<RouteStack>>,
}

impl Routing {
    pub(crate) fn new(
        table: RouteTable,
        principal_header: Option<HeaderName>,
        stacks: Vec<Option<RouteStack>>,
    ) -> Self {
        let labels = table
            .iter()
            .map(|route| (route.pattern().into(), RouteLabel::new(route.pattern())))
            .collect();
        Self {
            table,
            principal_header,
            labels,
            elsewhere: RouteLabel::new("-"),
            stacks,
        }
    }

    /// Tells the layers behind what they need to know of `request`, and which they are, if there
    /// are more than idempotency.
    pub(crate) fn prepare<B>(&self, request: &mut Request<B>) -> Option<&RouteStack> {
        remove_forged(request.headers_mut());

        // Only a proxy of the operator's own can reach us with this header, or it is not set.
        let principal = self.principal_header.as_ref();
        if let Some(principal) = principal.and_then(|name| principal_in(request.headers(), name)) {
            request.extensions_mut().insert(principal);
        }

        // A preflight asks for the route of the request that is to follow.
        let asked_for = requested_method(request);
        let method = asked_for.as_ref().unwrap_or(request.method());
        let matched = self.table.resolve(method, request.uri().path());
        let stack = match matched.index {
            Some(index) => self.stacks.get(index),
            None => self.stacks.last(),
        };
        let policy = match matched.policy {
            Some(policy) => RoutePolicy::new(Arc::clone(policy)),
            None => RoutePolicy::disabled(),
        };
        let label = match matched.route {
            Some(pattern) => self.label(pattern),
            None => self.elsewhere.clone(),
        };
        request.extensions_mut().insert(policy);
        request.extensions_mut().insert(label);
        stack?.as_ref()
    }

    fn label(&self, pattern: &str) -> RouteLabel {
        let known = self.labels.iter().find(|(text, _)| **text == *pattern);
        known.map_or_else(|| self.elsewhere.clone(), |(_, label)| label.clone())
    }
}

impl fmt::Debug for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routing")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// Takes off what only the gateway may say of a claim, also as a server would read it that takes
/// `_` for `-`.
fn remove_forged(headers: &mut HeaderMap) {
    headers.remove(ATTEMPT);
    headers.remove(FENCE);
    let spelled_otherwise: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_'))
        .filter(|name| {
            let name = name.as_str().replace('_', "-");
            ATTEMPT == *name || FENCE == *name
        })
        .cloned()
        .collect();
    for name in spelled_otherwise {
        headers.remove(name);
    }
}

/// The caller that the header names; an empty one is none.
///
/// No two values may name one caller, whatever their bytes: all who share a name share their
/// responses. Several lines are one list, as RFC 9110 reads them: a client that gets its own line
/// past the proxy in front becomes neither of the two.
fn principal_in(headers: &HeaderMap, name: &HeaderName) -> Option<Principal> {
    let lines: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .filter(|line| !line.is_empty())
        .collect();
    let bytes = lines.join(&b", "[..]);
    if bytes.is_empty() {
        return None;
    }
    Some(match String::from_utf8(bytes) {
        // Only a login makes such a caller. Two, as other bytes may be spelled like it below.
        Ok(text) if is_name_of_identity(&text) => Principal::new(format!("\0\0{text}")),
        Ok(text) => Principal::new(text),
        // No header's value has a NUL, so that no other name is spelled like this.
        Err(error) => {
            let bytes = error.as_bytes();
            Principal::new(format!("\0{}", bytes.escape_ascii()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flag, Settings, Sources};

    fn prepared(fields: &[(&'static str, &[u8])]) -> Request<()> {
        let sources = Sources::none().with_flag(Flag::Upstream, "http://127.0.0.1:1");
        let (settings, _) = Settings::load(&sources).unwrap();
        let routing = Routing::new(
            settings.routes,
            Some(HeaderName::from_static("x-user")),
            Vec::new(),
        );
        let mut request = Request::new(());
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value).unwrap();
            request.headers_mut().append(*name, value);
        }
        routing.prepare(&mut request);
        request
    }

    fn principal(values: &[&[u8]]) -> Option<String> {
        let fields: Vec<_> = values.iter().map(|value| ("x-user", *value)).collect();
        let request = prepared(&fields);
        let principal = request.extensions().get::<Principal>();
        principal.map(|principal| principal.as_str().to_owned())
    }

    #[test]
    fn hazard_31_callers_whose_names_are_not_ascii_are_not_one() {
        assert_eq!(principal(&[b"alice"]).as_deref(), Some("alice"));
        assert_eq!(principal(&["José".as_bytes()]).as_deref(), Some("José"));
        let names: [&[u8]; 4] = ["José".as_bytes(), "Josè".as_bytes(), b"Jos\xe9", b"Jos\xe8"];
        let scopes: std::collections::HashSet<_> = names
            .iter()
            .map(|name| principal(&[name]).unwrap())
            .collect();
        assert_eq!(scopes.len(), names.len());
    }

    #[test]
    fn hazard_48_a_name_slipped_in_beside_the_true_one_is_nobody_s() {
        let slipped = principal(&[b"victim", b"mallory"]).unwrap();
        assert!(slipped != "victim" && slipped != "mallory", "{slipped}");
    }

    #[test]
    fn hazard_48_nobody_takes_the_name_of_a_login() {
        let forged = principal(&[b"5:admin:1:7"]).unwrap();
        assert_ne!(forged, "5:admin:1:7");
        assert_eq!(principal(&[b"5:admin:x"]).as_deref(), Some("5:admin:x"));
        // Nor does another way to spell one make two callers one.
        let odd = [&b"5:admin:4:\xff"[..], br"5:admin:4:\xff"];
        assert_ne!(principal(&odd[..1]), principal(&odd[1..]));
    }

    #[test]
    fn hazard_48_an_empty_name_is_no_name() {
        assert_eq!(principal(&[]), None);
        assert_eq!(principal(&[b""]), None);
        assert_eq!(principal(&[b"", b""]), None);
    }

    #[test]
    fn hazard_52_a_claim_s_fields_cannot_be_forged_in_any_spelling() {
        // A server that speaks CGI or WSGI reads `_` and `-` alike.
        let request = prepared(&[
            ("idempotency-attempt", b"7"),
            ("idempotency_attempt", b"7"),
            ("idempotency-fence", b"7"),
            ("idempotency_fence", b"7"),
            ("idempotency-key", b"a"),
        ]);
        let left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["idempotency-key"]);
    }
}
