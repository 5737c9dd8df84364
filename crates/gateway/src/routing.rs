//! From a raw request to one that the layers know: its route, its policy, its caller.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderName, Request};
use onlyonce::{Principal, RouteLabel, RoutePolicy};

use crate::config::RouteTable;

/// Headers by which an upstream learns of a claim. A client's own are a forgery.
pub(crate) const ATTEMPT: HeaderName = HeaderName::from_static("idempotency-attempt");
pub(crate) const FENCE: HeaderName = HeaderName::from_static("idempotency-fence");

/// What can change while the gateway runs, of how requests are told apart.
#[derive(Debug)]
pub(crate) struct Routing {
    table: RouteTable,
    principal_header: Option<HeaderName>,
    /// A label for each pattern, made once.
    labels: Vec<(Box<str>, RouteLabel)>,
    elsewhere: RouteLabel,
}

impl Routing {
    pub(crate) fn new(table: RouteTable, principal_header: Option<HeaderName>) -> Self {
        let labels = table
            .iter()
            .map(|route| (route.pattern().into(), RouteLabel::new(route.pattern())))
            .collect();
        Self {
            table,
            principal_header,
            labels,
            elsewhere: RouteLabel::new("-"),
        }
    }

    /// Tells the layers behind what they need to know of `request`.
    fn prepare<B>(&self, request: &mut Request<B>) {
        let headers = request.headers_mut();
        headers.remove(ATTEMPT);
        headers.remove(FENCE);

        // Only a proxy of the operator's own can reach us with this header, or it is not set.
        let principal = self.principal_header.as_ref().and_then(|name| {
            let value = request.headers().get(name)?.to_str().ok()?;
            Some(Principal::new(value))
        });
        if let Some(principal) = principal {
            request.extensions_mut().insert(principal);
        }

        let matched = self.table.resolve(request.method(), request.uri().path());
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
    }

    fn label(&self, pattern: &str) -> RouteLabel {
        let known = self.labels.iter().find(|(text, _)| **text == *pattern);
        known.map_or_else(|| self.elsewhere.clone(), |(_, label)| label.clone())
    }
}

/// Prepares each request by the routing of the moment.
pub(crate) fn prepare<B>(
    routing: Arc<ArcSwap<Routing>>,
) -> impl Fn(Request<B>) -> Request<B> + Clone + Send + 'static {
    move |mut request| {
        routing.load().prepare(&mut request);
        request
    }
}
