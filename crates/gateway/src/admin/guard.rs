//! Keeps web pages that an operator happens to visit away from the admin API.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::api::refusal;

/// Every call that changes something must carry this header, with any value. A page of another
/// origin can't send it without asking first, and nobody here says yes.
pub(crate) const ADMIN_HEADER: HeaderName = HeaderName::from_static("onlyonce-admin");
/// Who makes a change, for the audit.
pub(crate) const OPERATOR_HEADER: HeaderName = HeaderName::from_static("onlyonce-operator");

/// The names by which the admin listener is called, besides its address and `localhost`.
pub(crate) type Hosts = Arc<[Box<str>]>;

pub(super) async fn refuse_foreign_pages(
    State(hosts): State<Hosts>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let problem = if !is_own_host(headers, &hosts) {
        // DNS rebinding: a page's own name that points to this machine.
        Some(
            "call the admin API by its IP address or as localhost, or write its name into `hosts` \
             of [admin]",
        )
    } else if request.method() != Method::GET && !headers.contains_key(ADMIN_HEADER) {
        Some("send the header `Onlyonce-Admin: 1` with calls that change something")
    } else {
        None
    };
    match problem {
        Some(detail) => refusal(StatusCode::FORBIDDEN, detail).into_response(),
        None => next.run(request).await,
    }
}

fn is_own_host(headers: &HeaderMap, hosts: &[Box<str>]) -> bool {
    let Some(host) = headers.get(header::HOST) else {
        // HTTP/2 without a Host field, or HTTP/1.0: no browser.
        return true;
    };
    let Ok(authority) = host
        .to_str()
        .unwrap_or_default()
        .parse::<http::uri::Authority>()
    else {
        return false;
    };
    let name = authority.host().trim_matches(['[', ']']);
    let is_named = |own: &str| name.eq_ignore_ascii_case(own);
    is_named("localhost")
        || name.parse::<std::net::IpAddr>().is_ok()
        || hosts.iter().any(|own| is_named(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_names_of_ours_are_our_hosts() {
        let host = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, value.parse().unwrap());
            is_own_host(&headers, &["gateway.internal".into()])
        };
        for own in [
            "127.0.0.1:9090",
            "localhost",
            "LOCALHOST:9090",
            "[::1]:9090",
            "10.0.0.7",
            "gateway.internal:9090",
            "Gateway.Internal",
        ] {
            assert!(host(own), "{own}");
        }
        for foreign in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "gateway.internal.evil.example",
            "gateway",
            "user@gateway.internal.evil.example",
            "",
        ] {
            assert!(!host(foreign), "{foreign}");
        }
    }
}
