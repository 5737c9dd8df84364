//! `Key::parse`: a header's value.

use onlyonce_core::{Key, KeyError, KeyRule, Syntax};

/// Whatever a client sends as its key.
///
/// # Panics
/// When a key is out of its bounds, or the two syntaxes disagree where both accept.
pub fn key_parser(data: &[u8]) {
    let strict = Key::parse(data, Syntax::Strict);
    let lenient = Key::parse(data, Syntax::Lenient);
    match (&strict, &lenient) {
        (Ok(strict), lenient) => assert_eq!(lenient.as_ref(), Ok(strict)),
        // The lenient syntax adds bare texts, and nothing else.
        (Err(KeyError::NotQuoted), Ok(bare)) => {
            assert_eq!(bare.as_str().as_bytes(), data.trim_ascii());
        }
        (Err(strict), lenient) => {
            if *strict != KeyError::NotQuoted {
                assert_eq!(lenient.as_ref(), Err(strict));
            }
        }
    }
    let Ok(key) = lenient else { return };
    let text = key.as_str();
    assert!((1..=Key::MAX_LEN).contains(&text.len()));
    assert!(text.bytes().all(|byte| (0x20..=0x7e).contains(&byte)));
    let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    assert_eq!(
        Key::parse(quoted.as_bytes(), Syntax::Strict),
        Ok(key.clone())
    );
    for rule in [KeyRule::Uuid, KeyRule::MinLength(8), KeyRule::Length(36)] {
        if rule.check(&key).is_ok() && rule != KeyRule::MinLength(8) {
            assert_eq!(text.len(), 36);
        }
    }
}
