//! Keys, each with the one algorithm that it is for.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, EncodingKey};

use super::Jwks;
use super::jwks::key_of_jwk;

/// How tokens are signed. There are no others here, least of all `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC with SHA-256 under a shared secret.
    Hs256,
    /// Ed25519.
    EdDsa,
    /// RSA (PKCS #1 v1.5) with SHA-256; for checking only.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    /// Its name in a token's header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        let all = [Self::Hs256, Self::EdDsa, Self::Rs256, Self::Es256];
        all.into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub(super) const fn library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
        }
    }
}

/// A key can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The secret is too short.
    #[error(
        "the secret has {0} bytes, and {LEAST_SECRET} are the least: make one with \
         `openssl rand -hex 32`"
    )]
    ShortSecret(usize),
    /// The secret is long, but could be guessed.
    #[error("the secret is too regular to be random: make one with `openssl rand -hex 32`")]
    WeakSecret,
    /// What was given as a secret is a public key, which everybody may know.
    #[error("this is a public key or a key file, not a secret: anybody who knows it could sign")]
    PublicAsSecret,
    /// The PEM text is no key of this kind.
    #[error("this is no {kind} in PEM")]
    Pem {
        /// What was expected.
        kind: &'static str,
        /// What the parser says.
        #[source]
        source: jsonwebtoken::errors::Error,
    },
    /// The key is too short for its algorithm.
    #[error("RSA keys need 2048 bits or more")]
    ShortRsa,
    /// The key set can't be used.
    #[error("the key set (JWKS) can't be used: {0}")]
    Jwks(String),
    /// The key set's source failed.
    #[error("the key set (JWKS) can't be read")]
    Source(#[source] onlyonce_core::BoxError),
}

/// A key that checks signatures of one algorithm.
#[derive(Clone)]
pub(super) struct VerifyingKey {
    pub(super) algorithm: Algorithm,
    pub(super) id: Option<Box<str>>,
    pub(super) key: DecodingKey,
}

#[derive(Clone)]
pub(super) struct SigningKey {
    pub(super) algorithm: Algorithm,
    pub(super) id: Option<Box<str>>,
    pub(super) key: EncodingKey,
}

/// The keys of [`Tokens`](super::Tokens): maybe one to sign with, and those that are accepted.
///
/// Each key has one algorithm, given with it. A token's header picks among the keys; it never
/// says how a key is to be used. So a public key can't become an HMAC secret.
///
/// # Example
/// ```
/// use onlyonce_pipeline::auth::{KeyError, TokenKeys};
///
/// let keys = TokenKeys::hs256(b"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge")?;
/// let weak = TokenKeys::hs256(b"secret");
/// assert!(matches!(weak, Err(KeyError::ShortSecret(6))));
/// # let _ = keys;
/// # Ok::<_, KeyError>(())
/// ```
#[derive(Clone)]
pub struct TokenKeys {
    pub(super) signing: Option<SigningKey>,
    pub(super) fixed: Arc<[VerifyingKey]>,
    pub(super) set: Option<Jwks>,
}

const LEAST_SECRET: usize = 32;
/// 32 random hexadecimal digits have 14 different ones; fewer than 8 come once in 10^9 times.
const LEAST_DISTINCT: usize = 8;

impl TokenKeys {
    /// Signs and checks with HS256 under `secret`.
    ///
    /// # Errors
    /// When the secret is shorter than 32 bytes, regular, or no secret at all.
    pub fn hs256(secret: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let secret = secret.as_ref();
        check_secret(secret)?;
        Ok(Self::of(
            Algorithm::Hs256,
            Some(EncodingKey::from_secret(secret)),
            DecodingKey::from_secret(secret),
        ))
    }

    /// Signs and checks with Ed25519: a private key in PKCS #8 PEM.
    ///
    /// # Errors
    /// When it is none.
    pub fn eddsa(private: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let kind = "private Ed25519 key (PKCS #8)";
        let pem = |source| KeyError::Pem { kind, source };
        let key = EncodingKey::from_ed_pem(private.as_ref()).map_err(pem)?;
        let jwk = Jwk::from_encoding_key(&key, Algorithm::EdDsa.library()).map_err(pem)?;
        let public = DecodingKey::from_jwk(&jwk).map_err(pem)?;
        Ok(Self::of(Algorithm::EdDsa, Some(key), public))
    }

    /// Signs and checks with ECDSA on P-256: a private key in PKCS #8 PEM.
    ///
    /// # Errors
    /// When it is none.
    pub fn es256(private: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let kind = "private P-256 key (PKCS #8)";
        let pem = |source| KeyError::Pem { kind, source };
        let key = EncodingKey::from_ec_pem(private.as_ref()).map_err(pem)?;
        let jwk = Jwk::from_encoding_key(&key, Algorithm::Es256.library()).map_err(pem)?;
        let public = DecodingKey::from_jwk(&jwk).map_err(pem)?;
        Ok(Self::of(Algorithm::Es256, Some(key), public))
    }

    /// Checks Ed25519 signatures: a public key in PEM.
    ///
    /// # Errors
    /// When it is none.
    pub fn eddsa_public(public: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let kind = "public Ed25519 key";
        let key = DecodingKey::from_ed_pem(public.as_ref())
            .map_err(|source| KeyError::Pem { kind, source })?;
        Ok(Self::of(Algorithm::EdDsa, None, key))
    }

    /// Checks ECDSA signatures on P-256: a public key in PEM.
    ///
    /// # Errors
    /// When it is none.
    pub fn es256_public(public: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let kind = "public P-256 key";
        let key = DecodingKey::from_ec_pem(public.as_ref())
            .map_err(|source| KeyError::Pem { kind, source })?;
        Ok(Self::of(Algorithm::Es256, None, key))
    }

    /// Checks RSA signatures: a public key in PEM, of 2048 bits or more.
    ///
    /// There is no signing with RSA here: its signing in pure Rust still leaks its key through
    /// timing. Sign with Ed25519.
    ///
    /// # Errors
    /// When it is none, or too short.
    pub fn rs256_public(public: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        /// Modulus, exponent and what is around them, at 2048 bits.
        const LEAST_DER: usize = 264;
        let kind = "public RSA key";
        let key = DecodingKey::from_rsa_pem(public.as_ref())
            .map_err(|source| KeyError::Pem { kind, source })?;
        if key
            .try_get_as_bytes()
            .is_ok_and(|der| der.len() < LEAST_DER)
        {
            return Err(KeyError::ShortRsa);
        }
        Ok(Self::of(Algorithm::Rs256, None, key))
    }

    /// Checks with the public keys of a key set, which can change while the service runs.
    #[must_use]
    pub fn jwks(set: Jwks) -> Self {
        Self {
            signing: None,
            fixed: Arc::from([]),
            set: Some(set),
        }
    }

    /// Accepts also what `others` accept, but signs as before: for the time in which an old key
    /// is being replaced.
    #[must_use]
    pub fn also_accepting(mut self, others: &Self) -> Self {
        self.fixed = self.fixed.iter().chain(&*others.fixed).cloned().collect();
        self.set = self.set.or_else(|| others.set.clone());
        self
    }

    /// Names the key by this `kid`, in the tokens that it signs and in those that are checked.
    #[must_use]
    pub fn with_id(mut self, id: &str) -> Self {
        if let Some(signing) = &mut self.signing {
            signing.id = Some(id.into());
        }
        if let Some(first) = self.fixed.first() {
            let mut first = first.clone();
            first.id = Some(id.into());
            let rest = self.fixed[1..].iter().cloned();
            self.fixed = std::iter::once(first).chain(rest).collect();
        }
        self
    }

    /// Whether tokens can be issued with these keys.
    #[must_use]
    pub const fn can_sign(&self) -> bool {
        self.signing.is_some()
    }

    fn of(algorithm: Algorithm, signing: Option<EncodingKey>, verifying: DecodingKey) -> Self {
        let id = None;
        Self {
            signing: signing.map(|key| SigningKey {
                algorithm,
                id: id.clone(),
                key,
            }),
            fixed: Arc::from([VerifyingKey {
                algorithm,
                id,
                key: verifying,
            }]),
            set: None,
        }
    }
}

impl fmt::Debug for TokenKeys {
    /// Shows no key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms: Vec<_> = self.fixed.iter().map(|key| key.algorithm.name()).collect();
        f.debug_struct("TokenKeys")
            .field("accepts", &algorithms)
            .field("signs", &self.can_sign())
            .field("set", &self.set.is_some())
            .finish()
    }
}

fn check_secret(secret: &[u8]) -> Result<(), KeyError> {
    // Before the length: an Ed25519 key has few bytes more than a secret needs.
    if is_key_file(secret) {
        return Err(KeyError::PublicAsSecret);
    }
    if secret.len() < LEAST_SECRET {
        return Err(KeyError::ShortSecret(secret.len()));
    }
    let mut seen = [false; 256];
    for byte in secret {
        seen[usize::from(*byte)] = true;
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    if distinct < LEAST_DISTINCT || is_repetition(secret) {
        return Err(KeyError::WeakSecret);
    }
    Ok(())
}

/// Whether it looks like PEM, DER or JWK.
fn is_key_file(secret: &[u8]) -> bool {
    let text = secret.trim_ascii_start();
    let is_pem = text.starts_with(b"-----BEGIN") || text.starts_with(b"ssh-");
    let is_json = text.starts_with(b"{") && text.windows(5).any(|part| part == b"\"kty\"");
    // A SEQUENCE as long as what follows it.
    let is_der = match secret {
        [0x30, length, rest @ ..] if *length < 0x80 => rest.len() == usize::from(*length),
        [0x30, 0x81, length, rest @ ..] => rest.len() == usize::from(*length),
        [0x30, 0x82, high, low, rest @ ..] => {
            rest.len() == usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    };
    is_pem || is_json || is_der
}

/// Whether it is a shorter text, written at least twice.
fn is_repetition(secret: &[u8]) -> bool {
    (1..=secret.len() / 2).any(|period| {
        let (head, shifted) = (&secret[..secret.len() - period], &secret[period..]);
        head == shifted
    })
}

/// Keys that are swapped whole.
#[derive(Default)]
pub(super) struct KeySet(pub(super) ArcSwap<Vec<VerifyingKey>>);

impl KeySet {
    pub(super) fn of_jwks(jwks: &[Jwk]) -> Result<Vec<VerifyingKey>, KeyError> {
        let mut keys: Vec<VerifyingKey> = Vec::new();
        for (position, jwk) in jwks.iter().enumerate() {
            let Some(key) = key_of_jwk(jwk).map_err(|problem| {
                KeyError::Jwks(format!("key number {}: {problem}", position + 1))
            })?
            else {
                continue;
            };
            let is_twice = keys
                .iter()
                .any(|other| other.id == key.id && other.algorithm == key.algorithm);
            if is_twice {
                return Err(KeyError::Jwks(format!(
                    "key number {}: another key has the same `kid`",
                    position + 1
                )));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyError::Jwks(
                "it has no key for RS256, ES256 or EdDSA signatures".to_owned(),
            ));
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge";

    #[test]
    fn a_missing_or_weak_secret_is_an_error() {
        assert!(TokenKeys::hs256(GOOD).is_ok());
        assert!(matches!(
            TokenKeys::hs256(b""),
            Err(KeyError::ShortSecret(0))
        ));
        assert!(matches!(
            TokenKeys::hs256(&GOOD[..31]),
            Err(KeyError::ShortSecret(31))
        ));
        let weak: [&[u8]; 5] = [
            &[b'a'; 64],
            &b"0123456".repeat(10),
            &b"password1234".repeat(3),
            &b"Correct-Horse-Battery".repeat(2),
            b"00000000000000000000000000000000000000000001",
        ];
        for secret in weak {
            assert!(
                matches!(TokenKeys::hs256(secret), Err(KeyError::WeakSecret)),
                "{}",
                secret.escape_ascii()
            );
        }
    }

    #[test]
    fn hazard_54_a_public_key_is_no_hmac_secret() {
        let mut der = vec![0x30, 42];
        der.extend(0..42);
        let keys: [&[u8]; 4] = [
            b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n",
            b"\n -----BEGIN RSA PUBLIC KEY-----\nMIIBCgKCAQEA\n-----END RSA PUBLIC KEY-----",
            br#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            &der,
        ];
        for key in keys {
            assert!(
                matches!(TokenKeys::hs256(key), Err(KeyError::PublicAsSecret)),
                "{}",
                key.escape_ascii()
            );
        }
    }

    #[test]
    fn debug_output_shows_no_key() {
        let text = format!("{:?}", TokenKeys::hs256(GOOD).unwrap());
        assert_eq!(
            text,
            r#"TokenKeys { accepts: ["HS256"], signs: true, set: false }"#
        );
    }
}
