//! Whose key it is, and where its record lies.

use std::fmt;
use std::str::FromStr;

use crate::Key;

/// The secret under which scopes and keys are hashed before they reach a store.
///
/// All processes that share a store must share the secret: with another one, no record is found
/// again. Whoever reads the store but not the secret cannot test guesses of keys against it.
///
/// # Example
/// ```
/// use onlyonce_core::Secret;
///
/// let secret = Secret::from_passphrase("correct horse battery staple");
/// assert_eq!(format!("{secret:?}"), "Secret([hidden])");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Number of bytes in a secret.
    pub const LEN: usize = 32;

    /// The secret made of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// A secret derived from a text, which should have 16 characters or more of real randomness:
    /// the derivation is fast and does not stretch a weak one.
    #[must_use]
    pub fn from_passphrase(text: &str) -> Self {
        Self(blake3::derive_key(
            "onlyonce 2026-11 secret from passphrase",
            text.as_bytes(),
        ))
    }

    /// A fresh secret from the operating system's random source.
    ///
    /// # Panics
    /// When the operating system has no random source.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; Self::LEN];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(bytes)
    }

    /// The well-known secret used when none was set.
    ///
    /// It keeps records apart and raw keys out of the store, but whoever reads the store can test
    /// guesses of keys: set one of your own where keys can be guessed.
    #[must_use]
    pub fn well_known() -> Self {
        Self(blake3::derive_key(
            "onlyonce 2026-11 well-known secret",
            b"",
        ))
    }

    /// Its bytes, to be kept in a safe place.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([hidden])")
    }
}

/// Whose key it is. A record is found by scope and key, never by key alone.
///
/// Scopes of different kinds never meet: a principal who is called `anonymous` is not
/// [`Scope::anonymous`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    kind: Kind,
    value: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
enum Kind {
    Shared = 0,
    Anonymous = 1,
    Principal = 2,
    Credential = 3,
    Header = 4,
    Custom = 5,
}

impl Scope {
    /// The authenticated caller, as an authentication layer names it.
    #[must_use]
    pub fn principal(name: impl AsRef<[u8]>) -> Self {
        Self::new(Kind::Principal, name.as_ref())
    }

    /// The holder of this credential (the `Authorization` header's value), kept as a keyed hash.
    #[must_use]
    pub fn credential(secret: &Secret, value: &[u8]) -> Self {
        Self::new(
            Kind::Credential,
            blake3::keyed_hash(&secret.0, value).as_bytes(),
        )
    }

    /// Whoever sends this value in the header that names the scope.
    #[must_use]
    pub fn header(value: impl AsRef<[u8]>) -> Self {
        Self::new(Kind::Header, value.as_ref())
    }

    /// All callers without any credential, together.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(Kind::Anonymous, b"")
    }

    /// Everybody: keys are global. To be asked for, never a fallback.
    #[must_use]
    pub fn shared() -> Self {
        Self::new(Kind::Shared, b"")
    }

    /// A scope of the application's own making.
    #[must_use]
    pub fn custom(value: impl AsRef<[u8]>) -> Self {
        Self::new(Kind::Custom, value.as_ref())
    }

    /// Whether this is [`Scope::anonymous`].
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.kind == Kind::Anonymous
    }

    fn new(kind: Kind, value: &[u8]) -> Self {
        Self {
            kind,
            value: value.into(),
        }
    }
}

impl fmt::Debug for Scope {
    /// Names the kind alone: the value may be an account's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({:?})", self.kind)
    }
}

/// Where a record lies: a keyed hash over scope and key, each with its length.
///
/// Its text form is 64 lowercase hexadecimal digits; [`RecordId::tag`] is the short form that
/// stands for a key in logs, metrics and traces.
///
/// # Example
/// ```
/// use onlyonce_core::{Key, RecordId, Scope, Secret};
///
/// let secret = Secret::random();
/// let key = Key::new("order-1").unwrap();
/// let alice = RecordId::new(&secret, &Scope::principal("alice"), &key);
/// let bob = RecordId::new(&secret, &Scope::principal("bob"), &key);
/// assert_ne!(alice, bob);
/// assert_eq!(alice.to_string().parse(), Ok(alice));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId([u8; 32]);

impl RecordId {
    /// The place of the record of `key` in `scope`.
    #[must_use]
    pub fn new(secret: &Secret, scope: &Scope, key: &Key) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&secret.0);
        hasher.update(&[scope.kind as u8]);
        hasher.update(&(scope.value.len() as u64).to_le_bytes());
        hasher.update(&scope.value);
        hasher.update(&(key.as_str().len() as u64).to_le_bytes());
        hasher.update(key.as_str().as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// An identifier of a whole scope, for counting by caller. No key has it for its record.
    #[must_use]
    pub fn of_scope(secret: &Secret, scope: &Scope) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&secret.0);
        hasher.update(&[u8::MAX, scope.kind as u8]);
        hasher.update(&scope.value);
        Self(*hasher.finalize().as_bytes())
    }

    /// The identifier made of these bytes, as read back from a store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, evenly distributed: fit for choosing a shard.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits: what stands for a key where the key must not be shown.
    #[must_use]
    pub fn tag(&self) -> String {
        hex(&self.0[..6])
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordId({}…)", self.tag())
    }
}

/// A text is no [`RecordId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record's identifier is 64 hexadecimal digits")]
pub struct RecordIdError;

impl FromStr for RecordId {
    type Err = RecordIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(RecordIdError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or(RecordIdError);
            let value = digit(pair[0])? * 16 + digit(pair[1])?;
            *byte = u8::try_from(value).map_err(|_| RecordIdError)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn hazard_32_crafted_scope_and_key_do_not_collide_with_another_pair() {
        let secret = Secret::well_known();
        let one = RecordId::new(&secret, &Scope::principal("ab"), &key("c"));
        let two = RecordId::new(&secret, &Scope::principal("a"), &key("bc"));
        assert_ne!(one, two);
    }

    #[test]
    fn hazard_33_the_raw_key_is_not_the_storage_key() {
        let id = RecordId::new(&Secret::well_known(), &Scope::shared(), &key("visible"));
        assert!(!id.as_bytes().windows(7).any(|window| window == b"visible"));
        let elsewhere = RecordId::new(&Secret::random(), &Scope::shared(), &key("visible"));
        assert_ne!(id, elsewhere, "the hash is keyed");
    }

    #[test]
    fn kinds_of_scope_never_meet() {
        let secret = Secret::well_known();
        let scopes = [
            Scope::shared(),
            Scope::anonymous(),
            Scope::principal(""),
            Scope::header(""),
            Scope::custom(""),
            Scope::credential(&secret, b""),
        ];
        let ids: std::collections::HashSet<_> = scopes
            .iter()
            .map(|scope| RecordId::new(&secret, scope, &key("k")))
            .collect();
        assert_eq!(ids.len(), scopes.len());
    }

    #[test]
    fn debug_output_shows_no_names() {
        let text = format!("{:?}", Scope::principal("alice@example.com"));
        assert_eq!(text, "Scope(Principal)");
    }

    proptest! {
        #[test]
        fn different_pairs_have_different_ids(
            a in "[a-c]{0,4}", b in "[a-c]{1,4}", c in "[a-c]{0,4}", d in "[a-c]{1,4}",
        ) {
            let secret = Secret::well_known();
            let one = RecordId::new(&secret, &Scope::principal(&a), &key(&b));
            let two = RecordId::new(&secret, &Scope::principal(&c), &key(&d));
            prop_assert_eq!(one == two, (a, b) == (c, d));
        }

        #[test]
        fn text_form_comes_back(bytes in any::<[u8; 32]>()) {
            let id = RecordId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,70}") {
            if let Ok(id) = text.parse::<RecordId>() {
                prop_assert_eq!(id.to_string(), text.to_ascii_lowercase());
            }
        }
    }
}
