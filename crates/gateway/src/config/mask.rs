//! Keeps secrets out of what is shown.

use std::borrow::Cow;
use std::ops::Range;

/// What stands for a secret.
pub(super) const HIDDEN: &str = "[hidden]";

/// A line as it may be shown, with a span of it.
pub(super) struct Shown<'t> {
    pub(super) line: Cow<'t, str>,
    pub(super) span: Range<usize>,
}

/// Hides values of settings whose names speak of secrets, and passwords in URLs.
///
/// `line_start` is where the shown line begins in `text`; the rest of `text` tells whether it
/// lies within a string of several lines. `span` is within the line.
pub(super) fn shown(text: &str, line: Range<usize>, span: Range<usize>) -> Shown<'_> {
    let hidden: Vec<Range<usize>> = secrets(text)
        .into_iter()
        .filter_map(|secret| {
            let start = secret.start.max(line.start);
            let end = secret.end.min(line.end);
            (start < end).then(|| start - line.start..end - line.start)
        })
        .collect();
    let raw = &text[line];
    if hidden.is_empty() {
        return Shown {
            line: Cow::Borrowed(raw),
            span,
        };
    }
    let mut out = String::new();
    let mut moved = span.clone();
    let mut done = 0;
    let end_of_line = raw.len()..raw.len();
    for secret in hidden.into_iter().chain([end_of_line]) {
        // Nested finds (a password within a hidden value) are covered by the first.
        if secret.start < done {
            continue;
        }
        let plain = done..=secret.start;
        if plain.contains(&span.start) {
            moved.start = out.len() + span.start - done;
        } else if secret.contains(&span.start) {
            moved.start = out.len() + secret.start - done;
        }
        out.push_str(&raw[done..secret.start]);
        if !secret.is_empty() {
            out.push_str(HIDDEN);
        }
        if plain.contains(&span.end) {
            moved.end = out.len() - (secret.start - span.end);
            moved.end -= if secret.is_empty() { 0 } else { HIDDEN.len() };
        } else if secret.contains(&span.end) {
            moved.end = out.len();
        }
        done = secret.end;
    }
    Shown {
        line: Cow::Owned(out),
        span: moved.start..moved.end.max(moved.start),
    }
}

/// A single value or a message as it may be shown: passwords in URLs are hidden, and what is
/// given to a name that speaks of secrets.
pub(super) fn value(text: &str) -> String {
    shown(text, 0..text.len(), 0..0).line.into_owned()
}

/// Whether a setting of this name holds a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !name.ends_with("_file")
        && ["secret", "password", "token"]
            .iter()
            .any(|word| name.contains(word))
}

/// All secrets in a TOML text, in order. Errs on the side of hiding.
fn secrets(text: &str) -> Vec<Range<usize>> {
    let mut found = url_passwords(text);
    for (equals, _) in text.match_indices('=') {
        let before = text[..equals].trim_end_matches([' ', '\t', '"', '\'']);
        let name = before
            .rsplit(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
            .next()
            .unwrap_or_default();
        if !is_secret(name) {
            continue;
        }
        let start = equals + 1 + leading_blanks(&text[equals + 1..]);
        found.push(start..start + value_length(&text[start..]));
    }
    found.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
    found
}

fn leading_blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t']).len()
}

/// How long the value is that `text` begins with; an open string goes on to its line's end, an
/// open string of several lines to the end of all.
fn value_length(text: &str) -> usize {
    for quote in ["\"\"\"", "'''"] {
        if let Some(rest) = text.strip_prefix(quote) {
            return rest.find(quote).map_or(text.len(), |end| end + 6);
        }
    }
    let line = text.find(['\n', '\r']).unwrap_or(text.len());
    let mut chars = text[..line].char_indices();
    let quote = match chars.next() {
        Some((_, quote @ ('"' | '\''))) => quote,
        // Neither quoted nor open: up to what ends a value.
        Some(_) => return text[..line].find([',', '}', '#']).unwrap_or(line),
        None => return 0,
    };
    let mut escaped = false;
    for (position, c) in chars {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return position + 1,
            _ => {}
        }
    }
    line
}

/// The passwords in all `scheme://user:password@host`.
///
/// In the URL of a web server an `@` may stand in the path, and means nothing there. In a store's
/// it does not: a slash or a space before it belongs to a password that nobody has encoded, and
/// the URL is refused for it, but not shown.
fn url_passwords(text: &str) -> Vec<Range<usize>> {
    text.match_indices("://")
        .filter_map(|(at, mark)| {
            let start = at + mark.len();
            let scheme = text[..at]
                .rsplit(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
                .next()
                .unwrap_or_default();
            let ends: &[char] = if ["http", "https", "ws", "wss"].contains(&scheme) {
                &['/', '?', '#', '"', '\'', ' ', '\t', '\n', '\r']
            } else {
                &['"', '\'', '\n', '\r']
            };
            let end = text[start..]
                .find(ends)
                .map_or(text.len(), |length| start + length);
            let user = &text[start..end];
            let host = user.rfind('@')?;
            let colon = user.find(':').filter(|colon| *colon < host)?;
            (colon + 1 < host).then_some(start + colon + 1..start + host)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_line(text: &str) -> String {
        let end = text.find('\n').unwrap_or(text.len());
        shown(text, 0..end, 0..0).line.into_owned()
    }

    #[test]
    fn secrets_are_hidden_whatever_their_shape() {
        for (line, expected) in [
            ("secret = \"abc\" # why", "secret = [hidden] # why"),
            ("secret=\"a\\\"bc\" # why", "secret=[hidden] # why"),
            ("secret = 'abc", "secret = [hidden]"),
            ("secret = abc", "secret = [hidden]"),
            ("\"secret\" = 'abc'", "\"secret\" = [hidden]"),
            (
                "x = { my_password = 'a', b = 1 }",
                "x = { my_password = [hidden], b = 1 }",
            ),
            ("secret_file = 'path'", "secret_file = 'path'"),
            (
                "url = 'redis://me:pa:ss@host/0'",
                "url = 'redis://me:[hidden]@host/0'",
            ),
            (
                "url = 'redis://:pass@host'",
                "url = 'redis://:[hidden]@host'",
            ),
            (
                "url = 'redis://me:pa/s?s#1 2@host/0'",
                "url = 'redis://me:[hidden]@host/0'",
            ),
            (
                "url = 'postgres://me:p@/s@host/db?a=b'",
                "url = 'postgres://me:[hidden]@host/db?a=b'",
            ),
            ("url = 'redis://host:1/0'", "url = 'redis://host:1/0'"),
            ("url = 'http://host:80/a@b'", "url = 'http://host:80/a@b'"),
            ("lease = '10s'", "lease = '10s'"),
        ] {
            assert_eq!(first_line(line), expected);
        }
    }

    #[test]
    fn a_value_shows_no_password_wherever_the_url_has_it() {
        assert_eq!(
            value("redis+sentinel://:p/w@a/m?sentinel_password=hunter2&replicas=1"),
            "redis+sentinel://:[hidden]@a/m?sentinel_password=[hidden]"
        );
    }

    #[test]
    fn the_lines_within_a_secret_are_hidden() {
        let text = "secret = \"\"\"\nabc\ndef\"\"\"\nlease = 1";
        let line = |range: Range<usize>| shown(text, range, 0..0).line.into_owned();
        assert_eq!(line(13..16), "[hidden]");
        assert_eq!(line(17..23), "[hidden]");
        assert_eq!(line(24..33), "lease = 1");
    }

    #[test]
    fn the_caret_follows() {
        let text = "i = { secret = 'abcdefghijklmnop', leese = 1 }";
        let at = text.find("leese").unwrap();
        let shown = shown(text, 0..text.len(), at..at + 5);
        assert_eq!(&shown.line[shown.span], "leese");
    }
}
