//! Headers by which a client tells some frameworks to take another path or method than the one
//! that was decided on.

use http::{HeaderMap, HeaderName};
use onlyonce_pipeline::read_only::ReadOnly;
use tower::ServiceExt as _;

use super::boxed::{Stack, boxed};

/// The headers, as they are written with `-`.
pub(crate) const OVERRIDES: [&str; 5] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Takes them off where something is decided by path or method.
#[derive(Clone, Debug)]
pub(super) struct Overrides {
    pub(super) always: bool,
    /// As long as this is on.
    pub(super) while_on: Option<ReadOnly>,
}

impl Overrides {
    /// Has `stack` never see them.
    pub(super) fn before<B: Send + 'static>(&self, stack: Stack<B>) -> Stack<B> {
        let Self { always, while_on } = self.clone();
        if !always && while_on.is_none() {
            return stack;
        }
        boxed(stack.map_request(move |mut request: http::Request<B>| {
            if always || while_on.as_ref().is_some_and(ReadOnly::is_on) {
                take_off(request.headers_mut());
            }
            request
        }))
    }
}

/// Also as a server would read them that takes `_` for `-`.
fn take_off(headers: &mut HeaderMap) {
    let is_override = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with('x') && OVERRIDES.contains(&&*name.replace('_', "-"))
    };
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|it| is_override(it))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_54_no_spelling_of_an_override_is_left() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-original-url",
            "x_original_url",
            "X-HTTP-Method-Override",
            "x-http_method-override",
            "x-rewrite-url",
            "x-request-id",
        ] {
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                "1".parse().unwrap(),
            );
        }
        take_off(&mut headers);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-request-id"]);
    }
}
