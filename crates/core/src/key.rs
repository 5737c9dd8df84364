//! What the client sends.

use std::fmt;

/// An idempotency key: 1 to 255 characters of printable ASCII.
///
/// Its text never shows in `Debug` output; [`as_str`](Self::as_str) must be asked for it.
///
/// # Example
/// ```
/// use onlyonce_core::{Key, Syntax};
///
/// let quoted = Key::parse(br#""order-1";v=2"#, Syntax::Lenient).unwrap();
/// let bare = Key::parse(b"order-1", Syntax::Lenient).unwrap();
/// assert_eq!(quoted, bare);
/// assert!(Key::parse(b"order-1", Syntax::Strict).is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Box<str>);

/// How a key may be written in its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syntax {
    /// `"abc"` and `abc` are the same key.
    #[default]
    Lenient,
    /// The quoted form alone: a String of RFC 9651, section 3.3.3.
    Strict,
}

/// A text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Nothing in it.
    #[error("the key is empty; send 1 to 255 characters, best a UUID")]
    Empty,
    /// Too long.
    #[error("the key has {0} characters; at most 255 are allowed")]
    TooLong(usize),
    /// Not printable ASCII.
    #[error("the key has a byte outside printable ASCII at position {0}")]
    NotPrintable(usize),
    /// Begins with a quote and is no RFC 9651 String.
    #[error("the key begins with a quote but is no RFC 9651 string: {0}")]
    BadString(&'static str),
    /// The strict syntax wants quotes.
    #[error("the key must be an RFC 9651 string, in double quotes")]
    NotQuoted,
    /// [`KeyRule::Uuid`] wants a UUID.
    #[error(
        "the key must be a UUID of 36 characters, such as 8e03978e-40d5-43dd-bc93-6894a57f9324"
    )]
    NotUuid,
    /// [`KeyRule::MinLength`] wants more.
    #[error("the key has {found} characters; at least {least} are asked for")]
    TooShort {
        /// Its length.
        found: usize,
        /// The least length.
        least: usize,
    },
    /// [`KeyRule::Length`] wants another length.
    #[error("the key has {found} characters; exactly {exact} are asked for")]
    WrongLength {
        /// Its length.
        found: usize,
        /// The only length allowed.
        exact: usize,
    },
    /// The application's own rule refused it.
    #[error("the key was refused: {0}")]
    Refused(Box<str>),
}

impl Key {
    /// The longest key, in characters.
    pub const MAX_LEN: usize = 255;

    /// The key with this text.
    ///
    /// # Errors
    /// When the text is empty, longer than 255 characters, or not printable ASCII (0x20 to 0x7E).
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, KeyError> {
        let text = text.into();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if let Some(position) = text.bytes().position(|byte| !(0x20..=0x7e).contains(&byte)) {
            return Err(KeyError::NotPrintable(position));
        }
        if text.len() > Self::MAX_LEN {
            return Err(KeyError::TooLong(text.len()));
        }
        Ok(Self(text))
    }

    /// Parses a header's value: an RFC 9651 String (its escapes decoded, its parameters
    /// ignored), or with [`Syntax::Lenient`] also a bare text. White space around it is dropped.
    ///
    /// # Errors
    /// When the value is malformed or the key in it is out of bounds.
    pub fn parse(value: &[u8], syntax: Syntax) -> Result<Self, KeyError> {
        let value = value.trim_ascii();
        match (value.first(), syntax) {
            (None, _) => Err(KeyError::Empty),
            (Some(b'"'), _) => Self::new(parse_string(&value[1..])?),
            (Some(_), Syntax::Strict) => Err(KeyError::NotQuoted),
            (Some(_), Syntax::Lenient) => match std::str::from_utf8(value) {
                Ok(text) => Self::new(text),
                Err(error) => Err(KeyError::NotPrintable(error.valid_up_to())),
            },
        }
    }

    /// The key's text. A secret of its caller: keep it out of logs and stores.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key([{} characters])", self.0.len())
    }
}

/// The content of an RFC 9651 String, from behind its opening quote.
fn parse_string(rest: &[u8]) -> Result<String, KeyError> {
    let mut text = String::new();
    let mut bytes = rest.iter().enumerate();
    while let Some((position, &byte)) = bytes.next() {
        match byte {
            b'"' => {
                parse_parameters(&rest[position + 1..])?;
                return Ok(text);
            }
            b'\\' => match bytes.next() {
                Some((_, &escaped @ (b'"' | b'\\'))) => text.push(char::from(escaped)),
                _ => return Err(KeyError::BadString("only \\\" and \\\\ can be escaped")),
            },
            0x20..=0x7e => text.push(char::from(byte)),
            _ => return Err(KeyError::NotPrintable(position + 1)),
        }
    }
    Err(KeyError::BadString("the closing quote is missing"))
}

/// Checks that nothing but parameters follows: `;name` or `;name=value`, over and over.
fn parse_parameters(mut rest: &[u8]) -> Result<(), KeyError> {
    const BAD: KeyError = KeyError::BadString("something other than parameters follows it");
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b';' {
            return Err(BAD);
        }
        let after = after.trim_ascii_start();
        let is_name = |b: &u8| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.' | b'*')
        };
        let name = after.iter().take_while(|b| is_name(b)).count();
        if !after
            .first()
            .is_some_and(|b| b.is_ascii_lowercase() || *b == b'*')
        {
            return Err(BAD);
        }
        rest = &after[name..];
        if let Some(value) = rest.strip_prefix(b"=") {
            rest = skip_bare_item(value).ok_or(BAD)?;
        }
    }
    Ok(())
}

/// What follows a bare item (RFC 9651, section 4.2.3.1), whose value does not matter here.
fn skip_bare_item(value: &[u8]) -> Option<&[u8]> {
    if let Some(string) = value.strip_prefix(b"\"") {
        let mut escaped = false;
        let end = string.iter().position(|&byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        return Some(&string[end + 1..]);
    }
    let length = value
        .iter()
        .take_while(|&&b| b.is_ascii_graphic() && b != b';')
        .count();
    (length > 0).then(|| &value[length..])
}

/// What a key must look like beyond being printable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyRule {
    /// Anything goes.
    #[default]
    Any,
    /// A UUID in its 36-character form, of any version, letters of either case.
    Uuid,
    /// At least so many characters.
    MinLength(usize),
    /// Exactly so many characters.
    Length(usize),
}

impl KeyRule {
    /// Checks `key` against the rule.
    ///
    /// # Errors
    /// When the key breaks it.
    pub fn check(&self, key: &Key) -> Result<(), KeyError> {
        let text = key.as_str().as_bytes();
        let found = text.len();
        match *self {
            Self::Any => Ok(()),
            Self::Uuid if is_uuid(text) => Ok(()),
            Self::Uuid => Err(KeyError::NotUuid),
            Self::MinLength(least) if found >= least => Ok(()),
            Self::MinLength(least) => Err(KeyError::TooShort { found, least }),
            Self::Length(exact) if found == exact => Ok(()),
            Self::Length(exact) => Err(KeyError::WrongLength { found, exact }),
        }
    }
}

fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text
            .iter()
            .enumerate()
            .all(|(position, byte)| match position {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lenient(value: &str) -> Result<String, KeyError> {
        Key::parse(value.as_bytes(), Syntax::Lenient).map(|key| key.as_str().to_owned())
    }

    #[test]
    fn hazard_36_quotes_are_not_part_of_the_key() {
        for value in [
            r#""abc""#,
            "abc",
            r#" "abc" "#,
            r#""abc";a;b=1;c="x;\"y";d=?1"#,
            "\tabc ",
        ] {
            assert_eq!(lenient(value).as_deref(), Ok("abc"), "{value}");
        }
        assert_eq!(lenient(r#""a\"b\\c""#).as_deref(), Ok(r#"a"b\c"#));
        assert_eq!(lenient("a b").as_deref(), Ok("a b"));
    }

    #[test]
    fn strict_takes_the_quoted_form_alone() {
        assert_eq!(Key::parse(b"abc", Syntax::Strict), Err(KeyError::NotQuoted));
        assert_eq!(
            Key::parse(b"\"abc\"", Syntax::Strict).unwrap().as_str(),
            "abc"
        );
    }

    #[test]
    fn malformed_values_are_refused_with_a_reason() {
        use KeyError::{BadString, Empty, NotPrintable, TooLong};
        assert_eq!(lenient(""), Err(Empty));
        assert_eq!(lenient("  "), Err(Empty));
        assert_eq!(lenient(r#""""#), Err(Empty));
        assert!(matches!(lenient(r#""abc"#), Err(BadString(_))));
        assert!(matches!(lenient(r#""a\b""#), Err(BadString(_))));
        assert!(matches!(lenient(r#""abc"def"#), Err(BadString(_))));
        assert!(matches!(lenient(r#""abc";=1"#), Err(BadString(_))));
        assert!(matches!(lenient(r#""abc";a="x"#), Err(BadString(_))));
        assert_eq!(lenient("caf\u{e9}"), Err(NotPrintable(3)));
        assert_eq!(lenient("a\u{7f}"), Err(NotPrintable(1)));
        assert_eq!(Key::parse(b"a\xff", Syntax::Lenient), Err(NotPrintable(1)));
        assert!(lenient(&"a".repeat(255)).is_ok());
        assert_eq!(lenient(&"a".repeat(256)), Err(TooLong(256)));
        // The limit counts the key, not its escapes.
        assert!(lenient(&format!("\"{}\"", "\\\"".repeat(255))).is_ok());
    }

    #[test]
    fn rules() {
        let check = |rule: KeyRule, text: &str| rule.check(&Key::new(text).unwrap());
        let uuid = "8E03978e-40d5-43dd-bc93-6894a57f9324";
        assert_eq!(check(KeyRule::Uuid, uuid), Ok(()));
        assert_eq!(
            check(KeyRule::Uuid, &uuid.replace('-', "0")),
            Err(KeyError::NotUuid)
        );
        assert_eq!(check(KeyRule::Uuid, &uuid[1..]), Err(KeyError::NotUuid));
        assert_eq!(check(KeyRule::MinLength(3), "abc"), Ok(()));
        assert_eq!(
            check(KeyRule::MinLength(4), "abc"),
            Err(KeyError::TooShort { found: 3, least: 4 })
        );
        assert_eq!(
            check(KeyRule::Length(36), "abc"),
            Err(KeyError::WrongLength {
                found: 3,
                exact: 36
            })
        );
    }

    #[test]
    fn hazard_34_debug_hides_the_key() {
        assert_eq!(
            format!("{:?}", Key::new("secret").unwrap()),
            "Key([6 characters])"
        );
    }

    proptest! {
        #[test]
        fn every_key_survives_quoting(text in "[ -~]{1,255}") {
            let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let key = Key::parse(quoted.as_bytes(), Syntax::Strict).unwrap();
            prop_assert_eq!(key.as_str(), text);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(value in proptest::collection::vec(any::<u8>(), 0..300)) {
            for syntax in [Syntax::Lenient, Syntax::Strict] {
                if let Ok(key) = Key::parse(&value, syntax) {
                    prop_assert!((1..=255).contains(&key.as_str().len()));
                    prop_assert!(key.as_str().bytes().all(|b| (0x20..=0x7e).contains(&b)));
                }
            }
        }
    }
}
