//! Fields that belong to one connection and not to the message (RFC 9110, section 7.6.1).

use http::header::{
    CONNECTION, CONTENT_LENGTH, Entry, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Takes off what a request's connection owns, and what its `Connection` names, before anybody
/// adds anything: afterwards nothing in the request can have a field of ours removed.
///
/// What is left of it: `TE: trailers`, and `Connection: upgrade` with an `Upgrade` that may be
/// passed on. An offer of HTTP/2 or TLS is for the next server alone and is dropped.
pub fn normalize(headers: &mut HeaderMap, version: Version) {
    let connection = headers.get_all(CONNECTION).iter();
    let upgrade = version == Version::HTTP_11
        && connection
            .flat_map(tokens)
            .any(|token| token.eq_ignore_ascii_case("upgrade"));
    let protocol = match headers.entry(UPGRADE) {
        Entry::Occupied(entry) if upgrade => {
            // Several lines are a list in order of preference; ours carries the first.
            Some(entry.get().clone()).filter(may_pass)
        }
        _ => None,
    };
    let trailers = headers
        .get_all(TE)
        .iter()
        .flat_map(tokens)
        .any(|token| token.eq_ignore_ascii_case("trailers"));
    strip(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Has the target name the host where it does, in absolute form and in HTTP/2 (RFC 9112, section
/// 3.2.2), so that nobody believes another.
pub(crate) fn name_host(headers: &mut HeaderMap, target: &Uri) {
    if let Some(authority) = target.authority()
        && let Ok(host) = HeaderValue::from_str(without_user(authority.as_str()))
    {
        headers.insert(HOST, host);
    }
}

fn without_user(authority: &str) -> &str {
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

/// Takes off every field that belongs to the connection.
///
/// `Host`, `Content-Length` and the body's framing stay even if `Connection` names them.
pub fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(tokens)
            .filter_map(|token| token.parse().ok())
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        HTTP2_SETTINGS,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Whether none of the offered protocols would let requests past this proxy unseen.
fn may_pass(protocols: &HeaderValue) -> bool {
    let mut offered = tokens(protocols).peekable();
    offered.peek().is_some()
        && offered.all(|protocol| {
            let name = protocol.split('/').next().unwrap_or_default();
            !["h2c", "h2", "http", "tls"]
                .iter()
                .any(|refused| name.eq_ignore_ascii_case(refused))
        })
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    // A value with bytes outside ASCII names no field.
    let text = value.to_str().unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn hazard_52_what_connection_names_goes_before_anything_is_added() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-forwarded-for"),
            ("connection", "host, content-length"),
            ("x-secret", "1"),
            ("x-secret", "2"),
            ("x-forwarded-for", "1.2.3.4"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers, deflate"),
            ("upgrade", "websocket"),
            ("host", "a"),
            ("content-length", "0"),
            ("x-kept", "1"),
        ]);
        normalize(&mut headers, Version::HTTP_11);
        let expected = map(&[
            ("te", "trailers"),
            ("host", "a"),
            ("content-length", "0"),
            ("x-kept", "1"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn an_upgrade_stays_only_when_it_is_meant_and_may_pass() {
        let kept = |version, connection, upgrade| {
            let mut headers = map(&[("connection", connection), ("upgrade", upgrade)]);
            normalize(&mut headers, version);
            headers.contains_key(UPGRADE)
        };
        assert!(kept(Version::HTTP_11, "keep-alive, Upgrade", "websocket"));
        assert!(!kept(Version::HTTP_10, "upgrade", "websocket"));
        assert!(!kept(Version::HTTP_11, "close", "websocket"));
        for hidden in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.2", ""] {
            assert!(!kept(Version::HTTP_11, "upgrade", hidden), "{hidden}");
        }
    }
}
