//! What the log must not hold.

use std::borrow::Cow;
use std::collections::HashSet;

use http::{HeaderMap, HeaderName, header};
use serde_json::Value;

use super::escape::text_of;
use super::names::{self, folded};

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

const HEADERS: [HeaderName; 6] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("x-idempotency-key"),
];

/// How often a value may have been encoded, one over the other.
const ENCODED: usize = 3;

/// Which headers and fields are kept out of lines and rows.
///
/// Always: `Authorization`, `Proxy-Authorization`, `Cookie`, `Set-Cookie`, `Idempotency-Key` and
/// `X-Idempotency-Key`, and fields with the usual names of secrets (`password`, `token`,
/// `api_key` and such, also as words of longer names: `newPassword`, `X-Vault-Token`). Names are
/// compared without case, `-` and `_`, in headers, the query, JSON and form bodies, at any depth,
/// and in JSON, forms and URLs that stand in values of those.
///
/// # Example
/// ```
/// use onlyonce_pipeline::access_log::Redaction;
///
/// let redaction = Redaction::new().with_fields(["card_number"]);
/// assert_eq!(redaction.query("cardNumber=4242&amount=5"), "cardNumber=[redacted]&amount=5");
/// ```
#[derive(Clone, Debug)]
pub struct Redaction {
    headers: HashSet<HeaderName>,
    fields: HashSet<String>,
}

impl Redaction {
    /// What is always kept out.
    #[must_use]
    pub fn new() -> Self {
        Self {
            headers: HEADERS.into_iter().collect(),
            fields: names::usual().collect(),
        }
    }

    /// Keeps out fields with these names, too.
    #[must_use]
    pub fn with_fields(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let names = names.into_iter().map(|name| folded(name.as_ref()));
        self.fields.extend(names.filter(|name| !name.is_empty()));
        self
    }

    /// Keeps out headers with these names, too: those that carry idempotency keys, say.
    #[must_use]
    pub fn with_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.headers.extend(names);
        self
    }

    /// A query or a form without its secrets; all else stands as it was sent.
    #[must_use]
    pub fn query(&self, query: &str) -> String {
        let mut shown = String::with_capacity(query.len());
        // Some servers separate by `;`, too: what is a value here may be a name there.
        for piece in query.split_inclusive(['&', ';']) {
            let pair = piece.trim_end_matches(['&', ';']);
            let kept = match pair.split_once('=') {
                Some((name, value))
                    if !value.is_empty()
                        && (self.is_secret(last_name(name)) || self.hides_secret(value)) =>
                {
                    &pair[..=name.len()]
                }
                None if self.hides_secret(pair) => "",
                _ => {
                    shown.push_str(piece);
                    continue;
                }
            };
            shown.push_str(kept);
            shown.push_str(REDACTED);
            shown.push_str(&piece[pair.len()..]);
        }
        shown
    }

    /// A URL, such as a referrer's, without the secrets in its query and fragment, and without
    /// user and password.
    pub(super) fn url(&self, url: &str) -> String {
        let (rest, fragment) = split(url, '#');
        let (rest, query) = split(rest, '?');
        let authority_at = rest.find("//").map_or(0, |at| at + 2);
        let authority_end = rest[authority_at..]
            .find('/')
            .map_or(rest.len(), |at| authority_at + at);
        let mut shown = String::with_capacity(url.len());
        match rest[authority_at..authority_end].rfind('@') {
            Some(at) if authority_at > 0 => {
                shown.push_str(&rest[..authority_at]);
                shown.push_str(REDACTED);
                shown.push_str(&rest[authority_at + at..]);
            }
            _ => shown.push_str(rest),
        }
        for (sign, part) in [('?', query), ('#', fragment)] {
            if let Some(part) = part {
                shown.push(sign);
                shown.push_str(&self.query(part));
            }
        }
        shown
    }

    /// The header fields in their order.
    pub(super) fn headers(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let shown = |(name, value): (&HeaderName, &http::HeaderValue)| {
            let secret = value.is_sensitive()
                || self.headers.contains(name)
                || self.names_secret(name.as_str());
            let text = text_of(value.as_bytes());
            let value = match *name {
                _ if secret => REDACTED.to_owned(),
                header::REFERER => self.url(&text),
                _ if self.hides_secret(&text) => REDACTED.to_owned(),
                _ => text,
            };
            (name.as_str().to_owned(), value)
        };
        headers.iter().map(shown).collect()
    }

    /// A body, as far as it can be shown: JSON and text without their secrets. What secrets
    /// can't be found in (XML, several parts, half a JSON text, bytes) is only named.
    pub(super) fn body(&self, body: &[u8], total: u64, content_type: &str) -> String {
        let whole = body.len() as u64 == total;
        let unshown = |what: &str| format!("[{what}, {total} bytes]");
        let Some(text) = readable(body, whole) else {
            return unshown("binary");
        };
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        // The declared type alone does not decide: a handler may not look at it either.
        let start = text.trim_start_matches(BLANK);
        if essence.starts_with("multipart/") || start.starts_with("--") {
            return unshown("multipart");
        }
        if essence == "application/xml" || essence == "text/xml" || essence.ends_with("+xml") {
            return unshown("xml");
        }
        if start.starts_with('<') {
            return unshown("markup");
        }
        let declared = essence == "application/json" || essence.ends_with("+json");
        if declared || is_like_json(start) {
            return match serde_json::from_str::<Value>(start) {
                Ok(mut value) if whole => {
                    self.json(&mut value);
                    value.to_string()
                }
                _ if text.is_empty() => String::new(),
                _ if whole => unshown("unreadable json"),
                _ => unshown("json too long to be recorded"),
            };
        }
        let shown = self.query(text);
        if whole { shown } else { format!("{shown}…") }
    }

    fn json(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if self.names_secret(name) {
                        *value = Value::String(REDACTED.to_owned());
                    } else {
                        self.json(value);
                    }
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.json(value)),
            Value::String(text) if self.hides_secret(text) => {
                // JSON within JSON is common in webhooks.
                *text = match serde_json::from_str::<Value>(text) {
                    Ok(mut inner) => {
                        self.json(&mut inner);
                        inner.to_string()
                    }
                    // A form or a URL, encoded who knows how often.
                    Err(_) => REDACTED.to_owned(),
                };
            }
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn holds_secret(&self, value: &Value) -> bool {
        match value {
            Value::Object(fields) => fields
                .iter()
                .any(|(name, value)| self.names_secret(name) || self.holds_secret(value)),
            Value::Array(values) => values.iter().any(|value| self.holds_secret(value)),
            Value::String(text) => self.hides_secret(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// Whether a value is itself made of fields, one of them a secret: JSON, a form, or a URL with
    /// a query; encoded or not.
    fn hides_secret(&self, value: &str) -> bool {
        if !value.contains(['=', '%', '{', '[', '"']) {
            return false;
        }
        let mut value = Cow::Borrowed(value);
        for _ in 0..ENCODED {
            if !value.contains('%') {
                break;
            }
            value = Cow::Owned(percent_decoded(&value));
        }
        if is_like_json(&value) {
            return match serde_json::from_str::<Value>(value.trim_start_matches(BLANK)) {
                Ok(inner) => self.holds_secret(&inner),
                Err(_) => self.mentions_secret(&value),
            };
        }
        value.split(['?', '&', ';', '#', '\r', '\n']).any(|pair| {
            let named = pair.split_once('=');
            named.is_some_and(|(name, value)| !value.is_empty() && self.is_secret(name))
        })
    }

    /// Whether a name of a query or form is one of the fields: `password`, `user[password]`,
    /// `user.password`, `pass%77ord`.
    fn is_secret(&self, name: &str) -> bool {
        let name = match name.contains('%') {
            true => Cow::Owned(percent_decoded(name)),
            false => Cow::Borrowed(name),
        };
        let borders = ['[', ']', '.'];
        self.names_secret(&name)
            || name.contains(borders) && name.split(borders).any(|part| self.names_secret(part))
    }

    /// Whether a text that nothing can parse names a secret anywhere.
    fn mentions_secret(&self, text: &str) -> bool {
        let text = folded(text);
        names::mentions_secret(&text) || self.fields.iter().any(|field| text.contains(field))
    }

    fn names_secret(&self, name: &str) -> bool {
        let folded = folded(name);
        self.fields.contains(&folded) || names::tells_of_secret(name, &folded)
    }
}

impl Default for Redaction {
    fn default() -> Self {
        Self::new()
    }
}

/// What may stand before a JSON text.
const BLANK: [char; 5] = ['\u{feff}', ' ', '\t', '\r', '\n'];

fn is_like_json(text: &str) -> bool {
    text.trim_start_matches(BLANK).starts_with(['{', '[', '"'])
}

/// In `https://shop.example/pay?token`, and behind lines of text, the name is the last part.
fn last_name(name: &str) -> &str {
    name.rsplit(['?', '#', '\r', '\n'])
        .next()
        .unwrap_or_default()
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| {
        bytes
            .get(at)
            .and_then(|byte| char::from(*byte).to_digit(16))
    };
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits make a byte.
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at)
        .map_or((text, None), |(before, after)| (before, Some(after)))
}

/// The text in the body; a cut one may end within a character.
fn readable(body: &[u8], whole: bool) -> Option<&str> {
    match std::str::from_utf8(body) {
        Ok(text) => Some(text),
        Err(error) if !whole && error.error_len().is_none() => {
            std::str::from_utf8(&body[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
    .filter(|text| !text.contains('\0'))
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
