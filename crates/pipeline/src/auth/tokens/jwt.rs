//! Compact JSON Web Signatures (RFC 7515, 7519, 8725), read strictly.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use jsonwebtoken::crypto;
use serde_json::{Map, Value};

use super::TokenError;
use super::json::unique_object;
use super::key::{Algorithm, SigningKey, TokenKeys, VerifyingKey};

/// The claims of a token whose signature is good; nothing else about them is known yet.
pub(super) type Claims = Map<String, Value>;

/// Checks the signature of `token` and gives its claims.
pub(super) fn open(token: &str, keys: &TokenKeys) -> Result<Claims, TokenError> {
    let malformed = TokenError::Malformed;
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("it has not three parts"));
    };
    let header =
        unique_object(&decode(header)?).ok_or(malformed("its header is no JSON object"))?;
    let (algorithm, id) = read_header(&header)?;
    let message = &token.as_bytes()[..token.len() - signature.len() - 1];

    let set = keys.set.as_ref().map(super::Jwks::keys);
    let from_set = set.as_ref().map(|keys| keys.as_slice()).unwrap_or_default();
    let all = keys.fixed.iter().chain(from_set);
    if !all.clone().any(|key| key.algorithm == algorithm) {
        // With a set from elsewhere, it may have come to it since.
        return Err(TokenError::Algorithm);
    }
    let mut is_known = false;
    for key in all.filter(|key| fits(key, algorithm, id)) {
        is_known = true;
        if is_signed(signature, message, key)? {
            return unique_object(&decode(payload)?)
                .ok_or(malformed("its claims are no JSON object"));
        }
    }
    Err(if is_known {
        TokenError::Signature
    } else {
        TokenError::UnknownKey
    })
}

/// A key is for its own algorithm, whatever the token says; a name narrows the choice.
fn fits(key: &VerifyingKey, algorithm: Algorithm, id: Option<&str>) -> bool {
    key.algorithm == algorithm
        && match (key.id.as_deref(), id) {
            (Some(its), Some(named)) => its == named,
            _ => true,
        }
}

fn is_signed(signature: &str, message: &[u8], key: &VerifyingKey) -> Result<bool, TokenError> {
    crypto::verify(signature, message, &key.key, key.algorithm.library())
        .map_err(|_| TokenError::Malformed("its signature can't be read"))
}

fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<&str>), TokenError> {
    let name = header.get("alg").and_then(Value::as_str);
    let algorithm = name
        .and_then(Algorithm::of_name)
        .ok_or(TokenError::Algorithm)?;
    // What it lists must be understood, and nothing is (RFC 7515, section 4.1.11).
    if header.contains_key("crit") {
        return Err(TokenError::Malformed("its header has `crit`"));
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(kind))
            if kind.eq_ignore_ascii_case("JWT") || kind.eq_ignore_ascii_case("at+jwt") => {}
        Some(_) => return Err(TokenError::Malformed("its header's `typ` is not JWT")),
    }
    let id = match header.get("kid") {
        None => None,
        Some(Value::String(id)) => Some(id.as_str()),
        Some(_) => return Err(TokenError::Malformed("its header's `kid` is no text")),
    };
    Ok((algorithm, id))
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed("a part is not in base64url"))
}

/// A token with these claims.
pub(super) fn seal(claims: &Claims, key: &SigningKey) -> Result<String, TokenError> {
    let mut header = Header::new(key.algorithm.library());
    header.kid = key.id.as_deref().map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &key.key).map_err(TokenError::Signing)
}
