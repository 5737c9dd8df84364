//! What a request shows of its caller.

use std::borrow::Cow;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Uri};

use super::tokens::TokenError;

/// What a request shows of its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    Token(Box<str>),
    Ticket(Box<str>),
}

/// The token in `Authorization: Bearer`.
///
/// Another scheme is none of ours: another layer may know it.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Credential, TokenError> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = lines.next().ok_or(TokenError::Missing)?;
    // Of two, the next reader may take the other one.
    if lines.next().is_some() {
        return Err(TokenError::Misplaced(
            "there are several Authorization headers",
        ));
    }
    let line = line
        .to_str()
        .map_err(|_| TokenError::Malformed("it is not in ASCII"))?;
    let (scheme, token) = line.split_once(' ').unwrap_or((line, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(TokenError::Missing);
    }
    let token = token.trim_matches(' ');
    if token.is_empty() {
        return Err(TokenError::Missing);
    }
    Ok(Credential::Token(token.into()))
}

/// The token in the header, or else the ticket in the query. A token in the query has been in
/// histories and logs, and makes the request void.
pub(super) fn bearer_or_ticket(headers: &HeaderMap, uri: &Uri) -> Result<Credential, TokenError> {
    let mut tickets = Vec::new();
    for pair in uri.query().unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = unescape(value);
        if looks_like_token(&value) {
            return Err(TokenError::Misplaced(
                "a token stands in the query: take a ticket",
            ));
        }
        if unescape(name) == "ticket" {
            tickets.push(value);
        }
    }
    match (bearer(headers), tickets.as_slice()) {
        (Err(TokenError::Missing), [ticket]) => Ok(Credential::Ticket((**ticket).into())),
        (Err(TokenError::Missing), [_, _, ..]) => {
            Err(TokenError::Misplaced("there are several tickets"))
        }
        (shown, _) => shown,
    }
}

/// Whether it begins as a JSON Web Token does, `{"` in base64url, and has its parts.
fn looks_like_token(value: &str) -> bool {
    let value = value.trim_start_matches("Bearer").trim_start();
    value.starts_with("ey") && value.matches('.').count() == 2
}

fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let digits = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let is_hex = |digits: &&str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let escaped = digits
            .filter(is_hex)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|line| (AUTHORIZATION, HeaderValue::from_bytes(line).unwrap()));
        lines
            .collect::<Vec<_>>()
            .into_iter()
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn token(text: &str) -> Option<Credential> {
        Some(Credential::Token(text.into()))
    }

    #[test]
    fn the_token_stands_behind_bearer() {
        assert_eq!(bearer(&headers(&[b"Bearer abc"])).ok(), token("abc"));
        assert_eq!(bearer(&headers(&[b"bEARER  abc "])).ok(), token("abc"));
        for missing in [
            &[][..],
            &[&b"Basic abc"[..]],
            &[b"Bearer"],
            &[b"Bearer "],
            &[b"abc"],
        ] {
            let error = bearer(&headers(missing)).unwrap_err();
            assert!(matches!(error, TokenError::Missing), "{missing:?}");
        }
        let error = bearer(&headers(&[b"Bearer a", b"Bearer b"])).unwrap_err();
        assert!(matches!(error, TokenError::Misplaced(_)));
        let error = bearer(&headers(&[b"Bearer \xe9"])).unwrap_err();
        assert!(matches!(error, TokenError::Malformed(_)));
    }

    #[test]
    fn a_ticket_may_stand_in_the_query_and_a_token_may_not() {
        let of =
            |uri: &str, lines: &[&[u8]]| bearer_or_ticket(&headers(lines), &uri.parse().unwrap());
        let ticket = Some(Credential::Ticket("t1".into()));
        assert_eq!(of("/socket?a=b&ticket=t1", &[]).ok(), ticket);
        assert_eq!(of("/socket?%74icket=%741", &[]).ok(), ticket);
        assert_eq!(of("/socket?ticket=t1", &[b"Bearer abc"]).ok(), token("abc"));
        assert!(matches!(of("/socket?x=1", &[]), Err(TokenError::Missing)));
        for uri in [
            "/socket?token=eyJh.eyJz.c2ln",
            "/socket?ticket=eyJh.eyJz.c2ln",
            "/socket?authorization=Bearer%20eyJh.eyJz.c2ln",
            "/socket?authorization=Bearer+eyJh.eyJz.c2ln",
            "/socket?ticket=t1&ticket=t2",
        ] {
            assert!(
                matches!(of(uri, &[]), Err(TokenError::Misplaced(_))),
                "{uri}"
            );
        }
        let both = of("/socket?token=eyJh.eyJz.c2ln", &[b"Bearer abc"]);
        assert!(matches!(both, Err(TokenError::Misplaced(_))));
    }
}
