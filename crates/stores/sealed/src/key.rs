//! Keys and their names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize as _, Zeroizing};

pub(crate) const NONCE: usize = 24;

/// A key of 32 bytes. Its bytes are wiped from memory when it is dropped, and never shown.
pub struct SealingKey(Zeroizing<[u8; 32]>);

/// A key, or its name, that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No base64 of 32 bytes.
    #[error("a key is 32 bytes in base64 (44 characters): make one with `openssl rand -base64 32`")]
    NotAKey,
    /// A name that does not fit.
    #[error("a key's name has 1 to 64 letters, digits, `-`, `_` or `.`")]
    Name,
    /// Two keys of one name.
    #[error("there are two keys called `{0}`")]
    Twice(Box<str>),
}

impl SealingKey {
    /// Bytes in a key.
    pub const LEN: usize = 32;

    /// The key made of these bytes, which should be random.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key that is written so, in standard base64; white space around it doesn't count.
    ///
    /// # Errors
    /// When it is not base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; Self::LEN + 3]);
        let decoded = STANDARD.decode_slice(text.trim(), bytes.as_mut());
        if decoded != Ok(Self::LEN) {
            return Err(KeyError::NotAKey);
        }
        let mut key = Zeroizing::new([0; Self::LEN]);
        key.copy_from_slice(&bytes[..Self::LEN]);
        Ok(Self(key))
    }

    /// A fresh key from the operating system's random source.
    ///
    /// # Panics
    /// When the operating system has no random source.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        getrandom::fill(bytes.as_mut()).expect("the operating system gives random bytes");
        Self(bytes)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey([hidden])")
    }
}

/// Named keys, one of which seals; all of them open.
#[derive(Clone)]
pub struct KeyRing {
    active: Box<str>,
    // A cipher wipes its key when it is dropped.
    ciphers: BTreeMap<Box<str>, XChaCha20Poly1305>,
}

impl KeyRing {
    /// A ring whose active key is `key`, called `name`. The name is stored with each result.
    ///
    /// # Errors
    /// When the name does not fit.
    pub fn new(name: &str, key: SealingKey) -> Result<Self, KeyError> {
        let ring = Self {
            active: name.into(),
            ciphers: BTreeMap::new(),
        };
        ring.with_key(name, key)
    }

    /// Adds a key that opens what it once sealed, or will be made active elsewhere.
    ///
    /// # Errors
    /// When the name does not fit, or is taken.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "to be wiped when it is in the ring"
    )]
    pub fn with_key(mut self, name: &str, key: SealingKey) -> Result<Self, KeyError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !(1..=64).contains(&name.len()) || !name.chars().all(fits) {
            return Err(KeyError::Name);
        }
        let mut bytes = *key.0;
        let cipher = XChaCha20Poly1305::new((&bytes).into());
        bytes.zeroize();
        if self.ciphers.insert(name.into(), cipher).is_some() {
            return Err(KeyError::Twice(name.into()));
        }
        Ok(self)
    }

    /// The name of the key that seals.
    #[must_use]
    pub fn active(&self) -> &str {
        &self.active
    }

    /// Seals under the active key; gives the nonce and the sealed bytes.
    pub(crate) fn seal(&self, plain: &[u8], bound: &[u8]) -> ([u8; NONCE], Vec<u8>) {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
        let payload = Payload {
            msg: plain,
            aad: bound,
        };
        let cipher = &self.ciphers[&self.active];
        let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload);
        (nonce, sealed.expect("a result is shorter than 256 GiB"))
    }

    /// `None` without the key; an error when it was not sealed so.
    pub(crate) fn open(
        &self,
        name: &str,
        nonce: &[u8; NONCE],
        sealed: &[u8],
        bound: &[u8],
    ) -> Option<Result<Vec<u8>, chacha20poly1305::Error>> {
        let payload = Payload {
            msg: sealed,
            aad: bound,
        };
        let cipher = self.ciphers.get(name)?;
        Some(cipher.decrypt(XNonce::from_slice(nonce), payload))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("active", &self.active)
            .field("names", &self.ciphers.keys())
            .finish()
    }
}

/// The keys of a store, which can be replaced while it runs. Cloning gives the same ones.
#[derive(Clone, Debug)]
pub struct Keys(Arc<RwLock<Option<Arc<KeyRing>>>>);

impl Keys {
    pub(crate) fn new(ring: Option<KeyRing>) -> Self {
        Self(Arc::new(RwLock::new(ring.map(Arc::new))))
    }

    /// Seals and opens with these keys from now on.
    pub fn replace(&self, ring: KeyRing) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ring));
    }

    pub(crate) fn current(&self) -> Option<Arc<KeyRing>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
