//! Where a request came from, told to the upstream.

use std::fmt::Write;
use std::net::IpAddr;

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::front::Peer;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const XHOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Sets `Forwarded` and `X-Forwarded-*`; `trust` adds to what is there instead of replacing it.
pub(crate) fn put_on(headers: &mut HeaderMap, peer: Option<&Peer>, trust: bool) {
    if !trust {
        take_off(headers);
    }
    let Some(peer) = peer else {
        return;
    };
    let ip = peer.addr.ip().to_canonical();
    let proto = if peer.tls { "https" } else { "http" };
    let host = headers.get(HOST).cloned();

    append(headers, FOR, &ip.to_string());
    let mut element = String::with_capacity(64);
    // Writing to a String does not fail.
    let _ = match ip {
        IpAddr::V4(ip) => write!(element, "for={ip};proto={proto}"),
        IpAddr::V6(ip) => write!(element, "for=\"[{ip}]\";proto={proto}"),
    };
    // Quotes and backslashes never pass for a host at the front; HTTP/2's are checked here.
    let text = host.as_ref().and_then(|host| host.to_str().ok());
    if let Some(text) = text.filter(|text| !text.contains(['"', '\\'])) {
        let _ = write!(element, ";host=\"{text}\"");
    }
    append(headers, FORWARDED, &element);
    headers
        .entry(PROTO)
        .or_insert(HeaderValue::from_static(proto));
    if let Some(host) = host {
        headers.entry(XHOST).or_insert(host);
    }
}

/// Removes what only a proxy may say, also as a server would read it that takes `_` for `-`.
fn take_off(headers: &mut HeaderMap) {
    let spoofed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            let name = if name.contains('_') {
                &*name.replace('_', "-")
            } else {
                name
            };
            name.starts_with("x-forwarded-") || name == FORWARDED || name == REAL_IP
        })
        .cloned()
        .collect();
    for name in spoofed {
        headers.remove(name);
    }
}

/// Adds an element to the end of a list, all of it in one line.
fn append(headers: &mut HeaderMap, name: HeaderName, element: &str) {
    let mut list = Vec::new();
    for line in headers.get_all(&name) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&list) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(addr: &str) -> Peer {
        Peer {
            addr: addr.parse().unwrap(),
            local: "127.0.0.1:80".parse().unwrap(),
            tls: false,
        }
    }

    fn spoof() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in [
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-port",
            "x_forwarded_for",
            "x-real-ip",
            "forwarded",
        ] {
            headers.append(name, HeaderValue::from_static("spoofed"));
        }
        headers.insert(HOST, HeaderValue::from_static("api.test"));
        headers
    }

    #[test]
    fn what_a_client_says_of_itself_is_replaced() {
        let mut headers = spoof();
        put_on(&mut headers, Some(&peer("192.0.2.1:4711")), false);
        assert!(
            headers.values().all(|value| value != "spoofed"),
            "{headers:?}"
        );
        assert_eq!(headers[FOR], "192.0.2.1");
        assert_eq!(headers[PROTO], "http");
        assert_eq!(headers[XHOST], "api.test");
        assert_eq!(
            headers[FORWARDED],
            r#"for=192.0.2.1;proto=http;host="api.test""#
        );
    }

    #[test]
    fn what_a_trusted_proxy_says_is_added_to() {
        let mut headers = spoof();
        put_on(&mut headers, Some(&peer("[2001:db8::1]:1")), true);
        assert_eq!(headers[FOR], "spoofed, 2001:db8::1");
        assert_eq!(headers[PROTO], "spoofed");
        let expected = r#"spoofed, for="[2001:db8::1]";proto=http;host="api.test""#;
        assert_eq!(headers[FORWARDED], expected);
    }

    #[test]
    fn an_ipv4_client_on_an_ipv6_socket_is_an_ipv4_client() {
        let mut headers = HeaderMap::new();
        put_on(&mut headers, Some(&peer("[::ffff:192.0.2.1]:1")), false);
        assert_eq!(headers[FOR], "192.0.2.1");
    }
}
