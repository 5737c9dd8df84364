//! Keeps web pages that an operator happens to visit away from the admin API.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::api::refusal;

/// Every call that changes something must carry this header, with any value. A page of another
/// origin can't send it without asking first, and nobody here says yes.
pub(crate) const ADMIN_HEADER: HeaderName = HeaderName::from_static("onlyonce-admin");
/// Who makes a change, for the audit.
pub(crate) const OPERATOR_HEADER: HeaderName = HeaderName::from_static("onlyonce-operator");

pub(super) async fn refuse_foreign_pages(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let problem = if !is_own_host(headers) {
        // DNS rebinding: a page's own name that points to this machine.
        Some("call the admin API by its IP address or as localhost")
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

fn is_own_host(headers: &HeaderMap) -> bool {
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
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_hosts_of_ours() {
        let host = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, value.parse().unwrap());
            is_own_host(&headers)
        };
        for own in [
            "127.0.0.1:9090",
            "localhost",
            "LOCALHOST:9090",
            "[::1]:9090",
            "10.0.0.7",
        ] {
            assert!(host(own), "{own}");
        }
        for foreign in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
        ] {
            assert!(!host(foreign), "{foreign}");
        }
    }
}
