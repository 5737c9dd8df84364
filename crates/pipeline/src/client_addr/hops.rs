//! What proxies wrote down, read from the one nearest to us outwards.
//!
//! All is read from the right: what the nearest proxy added never depends on what a client wrote
//! to the left of it, such as a quote that is not closed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// An address, or `None` where something else stands.
type Hop = Option<IpAddr>;

/// The hops of `Forwarded` (RFC 7239), nearest first.
pub(super) fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = Hop> {
    lines_from_the_last(headers, FORWARDED)
        .flat_map(|line| elements_from_the_right(line.as_bytes()))
        .map(|element| node_of(element?).as_deref().and_then(address))
}

/// The hops of `X-Forwarded-For`, nearest first.
pub(super) fn x_forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Hop> {
    lines_from_the_last(headers, X_FORWARDED_FOR)
        .flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let entry = str::from_utf8(entry).ok()?;
            let bare = || entry.parse().ok().map(IpAddr::V6);
            address(entry).or_else(bare).map(|hop| hop.to_canonical())
        })
}

/// What `X-Real-IP` says: of two lines one may be the client's own, so neither counts.
pub(super) fn x_real_ip(headers: &HeaderMap) -> impl Iterator<Item = Hop> {
    let mut lines = headers.get_all(X_REAL_IP).iter();
    let only = lines.next().filter(|_| lines.next().is_none());
    only.map(|line| {
        let text = str::from_utf8(line.as_bytes()).ok()?.trim();
        let address: IpAddr = text.parse().ok()?;
        Some(address.to_canonical())
    })
    .into_iter()
}

fn lines_from_the_last(
    headers: &HeaderMap,
    name: HeaderName,
) -> impl Iterator<Item = &HeaderValue> {
    headers.get_all(name).iter().rev()
}

/// The elements of a list between commas that stand outside quotes; `None`, and the end, where
/// quotes do not match.
fn elements_from_the_right(line: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = Some(line);
    let elements = std::iter::from_fn(move || {
        let line = rest.take()?;
        Some(match last_comma(line) {
            Ok(Some(comma)) => {
                rest = Some(&line[..comma]);
                Some(&line[comma + 1..])
            }
            Ok(None) => Some(line),
            Err(Unmatched) => None,
        })
    });
    // RFC 9110, section 5.6.1: empty elements of a list count for nothing.
    elements.filter(|element| element.is_none_or(|element| !element.trim_ascii().is_empty()))
}

/// A closing quote without an opening one.
struct Unmatched;

fn last_comma(line: &[u8]) -> Result<Option<usize>, Unmatched> {
    let mut end = line.len();
    while let Some(at) = end.checked_sub(1) {
        end = match line[at] {
            b',' => return Ok(Some(at)),
            b'"' => opening_quote(&line[..at]).ok_or(Unmatched)?,
            _ => at,
        };
    }
    Ok(None)
}

/// The last quote in `before` that no backslash escapes.
fn opening_quote(before: &[u8]) -> Option<usize> {
    let mut end = before.len();
    loop {
        let quote = before[..end].iter().rposition(|&byte| byte == b'"')?;
        let backslashes = before[..quote].iter().rev();
        let backslashes = backslashes.take_while(|&&byte| byte == b'\\').count();
        if backslashes % 2 == 0 {
            return Some(quote);
        }
        end = quote;
    }
}

/// The value of the one `for` in an element of `Forwarded`; `None` if there is not exactly one,
/// or the element is malformed.
fn node_of(element: &[u8]) -> Option<String> {
    let mut found = None;
    let mut rest = element.trim_ascii();
    loop {
        let equals = rest.iter().position(|&byte| byte == b'=')?;
        let name = &rest[..equals];
        let (value, after) = value(&rest[equals + 1..])?;
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
        rest = match after.trim_ascii_start().split_first() {
            None => return found,
            Some((b';', after)) => after.trim_ascii_start(),
            Some(_) => return None,
        };
        if rest.is_empty() {
            return found;
        }
    }
}

/// A token or a quoted string at the start of `text`, and what follows it.
fn value(text: &[u8]) -> Option<(String, &[u8])> {
    let Some((b'"', mut rest)) = text.split_first() else {
        // Addresses with a port or in brackets should stand in quotes; not all proxies do it.
        let plain = |&byte: &u8| is_token(byte) || b":[]".contains(&byte);
        let end = text.iter().take_while(|byte| plain(byte)).count();
        let value = str::from_utf8(&text[..end]).ok()?;
        return (end > 0).then(|| (value.to_owned(), &text[end..]));
    };
    let mut value = Vec::new();
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some((String::from_utf8(value).ok()?, rest)),
            b'\\' => {
                let (&escaped, after) = rest.split_first()?;
                rest = after;
                value.push(escaped);
            }
            byte => value.push(byte),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `IPv4[:port]` or `[IPv6][:port]`. `unknown` and obfuscated names are no addresses.
fn address(node: &str) -> Hop {
    let (host, port) = match node.strip_prefix('[') {
        Some(v6) => {
            let (v6, port) = v6.split_once(']')?;
            (IpAddr::V6(v6.parse::<Ipv6Addr>().ok()?), port)
        }
        None => {
            let end = node.find(':').unwrap_or(node.len());
            let (v4, port) = node.split_at(end);
            (IpAddr::V4(v4.parse::<Ipv4Addr>().ok()?), port)
        }
    };
    let sound = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(port) => is_port(port),
    };
    sound.then(|| host.to_canonical())
}

/// A number, or a name in its place, which begins with `_`.
fn is_port(port: &str) -> bool {
    match port.strip_prefix('_') {
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
        Some(name) => {
            let part_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && name.bytes().all(part_of_name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|line| HeaderValue::from_str(line).unwrap());
        lines
            .map(|line| (HeaderName::from_static(name), line))
            .collect()
    }

    fn shown(hops: impl Iterator<Item = Hop>) -> Vec<String> {
        let shown = |hop: Hop| hop.map_or("-".to_owned(), |address| address.to_string());
        hops.map(shown).collect()
    }

    fn of_forwarded(lines: &[&str]) -> Vec<String> {
        shown(forwarded(&headers("forwarded", lines)))
    }

    fn of_x_forwarded_for(lines: &[&str]) -> Vec<String> {
        shown(x_forwarded_for(&headers("x-forwarded-for", lines)))
    }

    fn of_x_real_ip(lines: &[&str]) -> Vec<String> {
        shown(x_real_ip(&headers("x-real-ip", lines)))
    }

    #[test]
    fn forwarded_as_rfc_7239_shows_it() {
        assert_eq!(of_forwarded(&["for=192.0.2.43"]), ["192.0.2.43"]);
        assert_eq!(
            of_forwarded(&[r#"For="[2001:db8:cafe::17]:4711""#]),
            ["2001:db8:cafe::17"]
        );
        assert_eq!(
            of_forwarded(&["for=192.0.2.60;proto=http;by=203.0.113.43"]),
            ["192.0.2.60"]
        );
        assert_eq!(
            of_forwarded(&[r#"for=192.0.2.43, for="[2001:db8:cafe::17]", for=unknown"#]),
            ["-", "2001:db8:cafe::17", "192.0.2.43"]
        );
        assert_eq!(of_forwarded(&[r#"for="_gazonk""#]), ["-"]);
        assert_eq!(of_forwarded(&["for=_hidden, for=_SEVKISEK"]), ["-", "-"]);
        assert_eq!(of_forwarded(&[r#"for="192.0.2.43:47011""#]), ["192.0.2.43"]);
        assert_eq!(
            of_forwarded(&[r#"for="192.0.2.43:_port1""#]),
            ["192.0.2.43"]
        );
    }

    #[test]
    fn several_lines_are_one_list_in_order() {
        let lines = ["for=192.0.2.1, for=192.0.2.2", "for=192.0.2.3"];
        assert_eq!(
            of_forwarded(&lines),
            ["192.0.2.3", "192.0.2.2", "192.0.2.1"]
        );
        let lines = ["192.0.2.1, 192.0.2.2", "192.0.2.3"];
        assert_eq!(
            of_x_forwarded_for(&lines),
            ["192.0.2.3", "192.0.2.2", "192.0.2.1"]
        );
    }

    #[test]
    fn what_stands_within_quotes_divides_nothing() {
        assert_eq!(
            of_forwarded(&[r#"for=192.0.2.1;by="a,b;for=192.0.2.9", for=192.0.2.2"#]),
            ["192.0.2.2", "192.0.2.1"]
        );
        assert_eq!(
            of_forwarded(&[r#"for=192.0.2.1;host="a\",for=192.0.2.9", for=192.0.2.2"#]),
            ["192.0.2.2", "192.0.2.1"]
        );
        assert_eq!(
            of_forwarded(&[r#"for=192.0.2.1;host="a\\", for=192.0.2.2"#]),
            ["192.0.2.2", "192.0.2.1"]
        );
        assert_eq!(of_forwarded(&[r#"for="\1\9\2.0.2.1""#]), ["192.0.2.1"]);
    }

    #[test]
    fn a_quote_that_a_client_left_open_does_not_swallow_what_its_proxy_added() {
        assert_eq!(
            of_forwarded(&[r#"for="192.0.2.9, for=192.0.2.1"#])[0],
            "192.0.2.1"
        );
        assert_eq!(of_forwarded(&[r#"for=""#, "for=192.0.2.1"])[0], "192.0.2.1");
        assert_eq!(
            of_forwarded(&[r#"for="192.0.2.9, for="[2001:db8::1]""#])[0],
            "2001:db8::1"
        );
        assert_eq!(
            of_forwarded(&[r#"for=192.0.2.9;x="\, for="[2001:db8::1]:80""#])[0],
            "2001:db8::1"
        );
    }

    #[test]
    fn malformed_elements_are_no_addresses() {
        for element in [
            "192.0.2.1",
            "for=",
            "for",
            "=192.0.2.1",
            "for=192.0.2.1;for=192.0.2.2",
            "for=192.0.2.1 for=192.0.2.2",
            "for=192.0.2.1;;by=x",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "by=192.0.2.1",
            r#"for="192.0.2.1"x"#,
            r#"for=192.0.2.1""#,
            r#"for="192.0.2.1\""#,
            "for=192.0.2",
            "for=192.0.2.256",
            "for=010.0.0.1",
            "for=0x0a.0.0.1",
            "for=192.0.2.1:",
            "for=192.0.2.1:123456",
            "for=192.0.2.1:8o",
            "for=192.0.2.1:_",
            r#"for="2001:db8::1""#,
            r#"for="[2001:db8::1""#,
            r#"for="[2001:db8::1]80""#,
            r#"for="[fe80::1%eth0]""#,
            r#"for="[192.0.2.1]""#,
            "for=localhost",
        ] {
            assert_eq!(of_forwarded(&[element]), ["-"], "{element}");
        }
    }

    #[test]
    fn forms_of_x_forwarded_for() {
        for (entry, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("  192.0.2.1\t", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
            ("unknown", "-"),
            ("\"192.0.2.1\"", "-"),
            ("192.0.2.1 192.0.2.2", "-"),
            ("192.0.2.1;192.0.2.2", "-"),
            ("192.0.2.01", "-"),
            ("2001:db8::1:4711:x", "-"),
        ] {
            assert_eq!(of_x_forwarded_for(&[entry]), [address], "{entry}");
        }
    }

    #[test]
    fn empty_elements_count_for_nothing() {
        assert_eq!(of_x_forwarded_for(&["192.0.2.1, ,", ""]), ["192.0.2.1"]);
        assert_eq!(of_forwarded(&["for=192.0.2.1, ,", ""]), ["192.0.2.1"]);
    }

    #[test]
    fn bytes_beyond_ascii_are_no_address() {
        let line = HeaderValue::from_bytes(b"192.0.2.1, \xff\xfe").unwrap();
        let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, line)]);
        assert_eq!(shown(x_forwarded_for(&headers)), ["-", "192.0.2.1"]);
        let line = HeaderValue::from_bytes(b"for=192.0.2.1, for=\"\xff\"").unwrap();
        let headers = HeaderMap::from_iter([(FORWARDED, line)]);
        assert_eq!(shown(forwarded(&headers)), ["-", "192.0.2.1"]);
    }

    #[test]
    fn x_real_ip_is_one_address_in_one_line() {
        assert_eq!(of_x_real_ip(&[" 192.0.2.1 "]), ["192.0.2.1"]);
        assert_eq!(of_x_real_ip(&["2001:db8::1"]), ["2001:db8::1"]);
        assert_eq!(of_x_real_ip(&["::ffff:192.0.2.1"]), ["192.0.2.1"]);
        assert_eq!(of_x_real_ip(&["192.0.2.1, 192.0.2.2"]), ["-"]);
        assert_eq!(of_x_real_ip(&["192.0.2.1:80"]), ["-"]);
        assert!(of_x_real_ip(&["192.0.2.1", "192.0.2.2"]).is_empty());
        assert!(of_x_real_ip(&[]).is_empty());
    }
}
