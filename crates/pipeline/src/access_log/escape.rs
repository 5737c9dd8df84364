//! Text that cannot leave its place: no line of a log can be forged, no terminal moved.

use std::fmt::{self, Write};

/// Writes `text` as it stands between quotes: quotes, backslashes and whatever moves a terminal's
/// cursor, breaks a line or turns the direction of writing are escaped.
///
/// `\"`, `\\`, `\n`, `\r`, `\t`; `\xNN` for other ASCII; `\u{N}` beyond it.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(self.0, f, |_| false)
    }
}

/// Like [`Quoted`], for what is set off by spaces or punctuation: these are escaped, too, and
/// nothing at all is a `-`.
pub(super) struct Word<'a>(pub(super) &'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        escape(self.0, f, |c| c.is_whitespace() || matches!(c, '{' | '}'))
    }
}

fn escape(text: &str, f: &mut fmt::Formatter<'_>, more: impl Fn(char) -> bool) -> fmt::Result {
    let mut clean = 0;
    for (at, c) in text.char_indices() {
        if !(is_dangerous(c) || matches!(c, '"' | '\\') || more(c)) {
            continue;
        }
        f.write_str(&text[clean..at])?;
        clean = at + c.len_utf8();
        match c {
            '"' | '\\' => {
                f.write_char('\\')?;
                f.write_char(c)?;
            }
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_ascii() => write!(f, "\\x{:02x}", u32::from(c))?,
            c => write!(f, "\\u{{{:x}}}", u32::from(c))?,
        }
    }
    f.write_str(&text[clean..])
}

/// Whether a character does anything but stand there: C0, DEL, C1, separators of lines and
/// paragraphs, marks and overrides of direction, invisible tags, the byte order mark.
pub(super) fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Text for people to look at, such as on a page: what would hide, move or turn parts of it is
/// shown as an escape. Line breaks and tabs stay.
///
/// # Example
/// ```
/// let text = onlyonce_pipeline::access_log::visible("exe\u{202e}gnp.\n");
/// assert_eq!(text, "exe\\u{202e}gnp.\n");
/// ```
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_dangerous(c) && !matches!(c, '\n' | '\r' | '\t') {
            // Writing to a String does not fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Escapes the same characters in a finished JSON text, where they can stand in strings alone.
pub(super) fn escape_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    let mut clean = 0;
    for (at, c) in json.char_indices().filter(|(_, c)| is_dangerous(*c)) {
        safe.push_str(&json[clean..at]);
        clean = at + c.len_utf8();
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String does not fail.
            let _ = write!(safe, "\\u{unit:04x}");
        }
    }
    safe.push_str(&json[clean..]);
    safe
}

/// A header's bytes as text: what is no UTF-8 shows as `\xNN`.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_terminal_or_breaks_a_line_is_escaped() {
        let text = "a\r\n\u{1b}[2J\u{7f}\u{85}\u{9b}\u{2028}\u{202e}\"\\\t\u{0}\u{e0041}é你";
        assert_eq!(
            Quoted(text).to_string(),
            r#"a\r\n\x1b[2J\x7f\u{85}\u{9b}\u{2028}\u{202e}\"\\\t\x00\u{e0041}é你"#
        );
    }

    #[test]
    fn words_have_no_spaces_and_are_never_empty() {
        assert_eq!(
            Word("a b} c\u{3000}").to_string(),
            r"a\x20b\x7d\x20c\u{3000}"
        );
        assert_eq!(Word("").to_string(), "-");
    }

    #[test]
    fn json_is_the_same_value_without_dangerous_characters() {
        let value = serde_json::json!({"a\u{202e}": "x\u{85}\u{7f}\u{2029}\u{e0041}\n\u{1b}"});
        let safe = escape_json(&value.to_string());
        assert!(!safe.chars().any(is_dangerous), "{safe}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&safe).unwrap(),
            value
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_by_their_numbers() {
        assert_eq!(text_of(b"caf\xe9 \xff"), r"caf\xe9 \xff");
        assert_eq!(text_of("café".as_bytes()), "café");
    }
}
