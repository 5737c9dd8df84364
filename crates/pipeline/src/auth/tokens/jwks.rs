//! Key sets (RFC 7517) that change while the service runs.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use onlyonce_core::{BoxError, Clock, Timestamp};
use serde_json::Value;

use super::key::{Algorithm, KeyError, KeySet, VerifyingKey};

/// Where an application gets a key set's text from: this crate opens no connection.
pub trait KeySource: Send + Sync + 'static {
    /// The key set's text.
    ///
    /// It is given 10 seconds, and asked at most once a minute on account of a token whose key is
    /// not known.
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<String, BoxError>> + Send + '_>>;
}

/// A set of public keys. Cloning is cheap and gives the same set.
///
/// Keys for RS256, ES256 and `EdDSA` are taken; those for encryption and other algorithms are left
/// out. Symmetric and private keys have no business in a key set and make it unusable. A set that
/// can't be used leaves the one before in force.
///
/// # Example
/// ```
/// use onlyonce_pipeline::auth::{Jwks, KeyError};
///
/// let keys = Jwks::from_text(r#"{"keys":[{
///     "kty": "OKP", "crv": "Ed25519", "kid": "2026-01",
///     "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
/// }]}"#)?;
/// # let _ = keys;
/// # Ok::<_, KeyError>(())
/// ```
#[derive(Clone)]
pub struct Jwks(Arc<Inner>);

struct Inner {
    keys: KeySet,
    source: Source,
    /// When the source was last asked on account of an unknown key.
    asked: Mutex<Option<Timestamp>>,
}

enum Source {
    Text,
    File(PathBuf),
    Asked(Box<dyn KeySource>),
}

const MOST_BYTES: usize = 256 * 1024;
const MOST_KEYS: usize = 100;
const FETCH_LIMIT: Duration = Duration::from_secs(10);
const BETWEEN_FETCHES: Duration = Duration::from_secs(60);

impl Jwks {
    /// The keys of a text.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        Ok(Self::with(parse(text)?, Source::Text))
    }

    /// The keys of a file, which [`reload`](Self::reload) reads again.
    ///
    /// # Errors
    /// When it can't be read or used.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, KeyError> {
        let path = path.into();
        let keys = parse(&read(&path)?)?;
        Ok(Self::with(keys, Source::File(path)))
    }

    /// The keys that `source` gives, now and later.
    ///
    /// # Errors
    /// When it fails, or gives what can't be used.
    ///
    /// # Cancellation safety
    /// Dropping it leaves no trace.
    pub async fn from_source(source: impl KeySource) -> Result<Self, KeyError> {
        let keys = parse(&fetch(&source).await?)?;
        Ok(Self::with(keys, Source::Asked(Box::new(source))))
    }

    /// Takes these keys from now on, all at once.
    ///
    /// # Errors
    /// When they can't be used; then the ones before stay.
    pub fn replace(&self, text: &str) -> Result<(), KeyError> {
        self.0.keys.0.store(Arc::new(parse(text)?));
        Ok(())
    }

    /// Reads the file, or asks the source, again. Does nothing for a set that came as a text.
    ///
    /// # Errors
    /// When that fails or can't be used; then the keys before stay.
    ///
    /// # Cancellation safety
    /// Dropping it leaves the keys as they were.
    pub async fn reload(&self) -> Result<(), KeyError> {
        let text = match &self.0.source {
            Source::Text => return Ok(()),
            Source::File(path) => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || read(&path))
                    .await
                    .map_err(|error| KeyError::Source(error.into()))??
            }
            Source::Asked(source) => fetch(&**source).await?,
        };
        self.replace(&text)
    }

    /// Asks the source again on account of a key that is not known; not more than once a minute,
    /// since anybody can send tokens with made-up keys.
    pub(super) async fn look_for_new(&self, clock: &dyn Clock) -> bool {
        if !matches!(self.0.source, Source::Asked(_)) {
            return false;
        }
        {
            let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let now = clock.now();
            if asked.is_some_and(|asked| now.since(asked) < BETWEEN_FETCHES) {
                return false;
            }
            *asked = Some(now);
        }
        match self.reload().await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "key set kept as it was"
                );
                false
            }
        }
    }

    pub(super) fn keys(&self) -> Arc<Vec<VerifyingKey>> {
        self.0.keys.0.load_full()
    }

    fn with(keys: Vec<VerifyingKey>, source: Source) -> Self {
        let set = KeySet::default();
        set.0.store(Arc::new(keys));
        Self(Arc::new(Inner {
            keys: set,
            source,
            asked: Mutex::new(None),
        }))
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwks({} keys)", self.keys().len())
    }
}

async fn fetch(source: &dyn KeySource) -> Result<String, KeyError> {
    match tokio::time::timeout(FETCH_LIMIT, source.fetch()).await {
        Ok(text) => text.map_err(KeyError::Source),
        Err(late) => Err(KeyError::Source(late.into())),
    }
}

fn read(path: &Path) -> Result<String, KeyError> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST_BYTES as u64 + 1).read_to_string(&mut text))
        .map_err(|error| KeyError::Source(format!("{}: {error}", path.display()).into()))?;
    Ok(text)
}

fn parse(text: &str) -> Result<Vec<VerifyingKey>, KeyError> {
    let unusable = |problem: String| KeyError::Jwks(problem);
    if text.len() > MOST_BYTES {
        return Err(unusable(format!("it is longer than {MOST_BYTES} bytes")));
    }
    let value: Value =
        serde_json::from_str(text).map_err(|error| unusable(format!("no JSON: {error}")))?;
    let Some(keys) = value.get("keys").and_then(Value::as_array) else {
        return Err(unusable("it has no list `keys`".to_owned()));
    };
    if keys.len() > MOST_KEYS {
        return Err(unusable(format!("it has more than {MOST_KEYS} keys")));
    }
    let mut jwks = Vec::with_capacity(keys.len());
    for (position, key) in keys.iter().enumerate() {
        let at = |problem: &str| unusable(format!("key number {}: {problem}", position + 1));
        if key.get("kty").and_then(Value::as_str) == Some("oct") {
            return Err(at("it is a shared secret, which is not for publishing"));
        }
        if key.get("d").is_some() {
            return Err(at("it is a private key, which is not for publishing"));
        }
        // A key of a type that is not known here may stand beside ours.
        if let Ok(jwk) = serde_json::from_value::<Jwk>(key.clone()) {
            jwks.push(jwk);
        }
    }
    KeySet::of_jwks(&jwks)
}

/// The key, or none where it is for something else.
pub(super) fn key_of_jwk(jwk: &Jwk) -> Result<Option<VerifyingKey>, &'static str> {
    let common = &jwk.common;
    if matches!(
        &common.public_key_use,
        Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_))
    ) {
        return Ok(None);
    }
    let operations = common.key_operations.as_deref();
    if operations.is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
        return Ok(None);
    }
    let coordinate = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| "a coordinate is not in base64url")
            .and_then(|bytes| match bytes.len() {
                32 => Ok(()),
                _ => Err("a coordinate does not have 32 bytes"),
            })
    };
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = URL_SAFE_NO_PAD
                .decode(&rsa.n)
                .map_err(|_| "the modulus is not in base64url")?;
            let significant = modulus.iter().skip_while(|byte| **byte == 0).count();
            if significant < 2048 / 8 {
                return Err("RSA keys need 2048 bits or more");
            }
            Algorithm::Rs256
        }
        AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P256 => {
            coordinate(&point.x)?;
            coordinate(&point.y)?;
            Algorithm::Es256
        }
        AlgorithmParameters::OctetKeyPair(point) if point.curve == EllipticCurve::Ed25519 => {
            coordinate(&point.x)?;
            Algorithm::EdDsa
        }
        _ => return Ok(None),
    };
    if common
        .key_algorithm
        .is_some_and(|its| its.to_string() != algorithm.name())
    {
        return Ok(None);
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|_| "it can't be read")?;
    Ok(Some(VerifyingKey {
        algorithm,
        id: common.key_id.as_deref().map(Box::from),
        key,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn algorithms(text: &str) -> Result<Vec<&'static str>, String> {
        parse(text)
            .map(|keys| keys.iter().map(|key| key.algorithm.name()).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_s_type_fixes_its_algorithm() {
        let text = format!(
            r#"{{"keys":[
                {{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{X}"}},
                {{"kty":"EC","crv":"P-256","kid":"a","x":"{X}","y":"{X}","alg":"ES256","use":"sig"}},
                {{"kty":"EC","crv":"P-384","kid":"b","x":"{X}","y":"{X}"}},
                {{"kty":"OKP","crv":"Ed25519","kid":"c","x":"{X}","use":"enc"}},
                {{"kty":"OKP","crv":"Ed25519","kid":"d","x":"{X}","alg":"HS256"}},
                {{"kty":"OKP","crv":"Ed25519","kid":"e","x":"{X}","key_ops":["sign"]}},
                {{"kty":"new-kind","kid":"f"}}
            ]}}"#
        );
        assert_eq!(algorithms(&text), Ok(vec!["EdDSA", "ES256"]));
    }

    #[test]
    fn what_makes_a_set_unusable() {
        let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
        let zeros = URL_SAFE_NO_PAD.encode([[0u8; 128], [0xff; 128]].concat());
        for (text, expected) in [
            ("x".to_owned(), "no JSON: expected value at line 1 column 1"),
            ("{}".to_owned(), "it has no list `keys`"),
            (
                r#"{"keys":[]}"#.to_owned(),
                "it has no key for RS256, ES256 or EdDSA signatures",
            ),
            (
                r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#.to_owned(),
                "key number 1: it is a shared secret, which is not for publishing",
            ),
            (
                format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{X}","d":"{X}"}}]}}"#),
                "key number 1: it is a private key, which is not for publishing",
            ),
            (
                format!(r#"{{"keys":[{{"kty":"RSA","n":"{short}","e":"AQAB"}}]}}"#),
                "key number 1: RSA keys need 2048 bits or more",
            ),
            (
                format!(r#"{{"keys":[{{"kty":"RSA","n":"{zeros}","e":"AQAB"}}]}}"#),
                "key number 1: RSA keys need 2048 bits or more",
            ),
            (
                r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#.to_owned(),
                "key number 1: a coordinate does not have 32 bytes",
            ),
            (
                format!(
                    r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{X}"}},
                                 {{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{X}"}}]}}"#
                ),
                "key number 2: another key has the same `kid`",
            ),
        ] {
            let message = algorithms(&text).unwrap_err();
            assert_eq!(
                message,
                format!("the key set (JWKS) can't be used: {expected}")
            );
        }
    }

    #[tokio::test]
    async fn a_bad_reload_leaves_the_keys_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        let one = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{X}"}}]}}"#);
        std::fs::write(&file, &one).unwrap();
        let set = Jwks::from_file(&file).unwrap();
        std::fs::write(&file, "{").unwrap();
        assert!(set.reload().await.is_err());
        assert_eq!(set.keys()[0].id.as_deref(), Some("a"));
        std::fs::write(&file, one.replace("\"a\"", "\"b\"")).unwrap();
        set.reload().await.unwrap();
        assert_eq!(set.keys()[0].id.as_deref(), Some("b"));
    }
}
