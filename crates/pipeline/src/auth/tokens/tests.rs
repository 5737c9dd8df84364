use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use onlyonce_core::{BoxError, ManualClock};
use serde_json::{Value, json};

use super::*;
use crate::auth::store::{Look, MemoryTokenStore, TokenStore};

pub(in crate::auth) const SECRET: &[u8] = b"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge";
/// Keys for these tests alone, made by `openssl genpkey`.
const ED25519: &[u8] = include_bytes!("testkeys/ed25519.pem");
const ED25519_PUBLIC: &[u8] = include_bytes!("testkeys/ed25519.pub.pem");
const P256: &[u8] = include_bytes!("testkeys/p256.pem");
const P256_PUBLIC: &[u8] = include_bytes!("testkeys/p256.pub.pem");
const RSA: &[u8] = include_bytes!("testkeys/rsa2048.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("testkeys/rsa2048.pub.pem");
const SHORT_RSA_PUBLIC: &[u8] = include_bytes!("testkeys/rsa1024.pub.pem");
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn keys() -> TokenKeys {
    TokenKeys::hs256(SECRET).unwrap()
}

struct Bench {
    tokens: Tokens,
    clock: Arc<ManualClock>,
}

/// Tokens and their store on one clock that stands still.
fn bench(change: impl FnOnce(TokensBuilder) -> TokensBuilder) -> Bench {
    let clock = Arc::new(ManualClock::new());
    let store = MemoryTokenStore::new().with_clock(Arc::clone(&clock));
    let builder = Tokens::builder("admin", keys())
        .with_store(store)
        .with_clock(Arc::clone(&clock));
    let tokens = change(builder).build().unwrap();
    Bench { tokens, clock }
}

fn stateless(keys: TokenKeys) -> Tokens {
    let clock = Arc::new(ManualClock::new());
    let builder = Tokens::builder("admin", keys).with_clock(clock);
    builder.build().unwrap()
}

fn alice() -> Identity {
    Identity::new("alice", "admin")
        .with_role("editor")
        .with_claim("dept", 7)
}

/// 2026-01-01, where the clock stands, and a day.
const TOMORROW: u64 = 1_767_225_600 + 86_400;

fn good_claims() -> Value {
    json!({ "sub": "alice", "app": "admin", "exp": TOMORROW })
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token signed with HS256 under `secret`, whatever its header and claims say.
fn forge(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(secret);
    let algorithm = jsonwebtoken::Algorithm::HS256;
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn signed(algorithm: jsonwebtoken::Algorithm, key: &EncodingKey, id: Option<&str>) -> String {
    let mut header = Header::new(algorithm);
    header.kid = id.map(str::to_owned);
    jsonwebtoken::encode(&header, &good_claims(), key).unwrap()
}

async fn error_of(tokens: &Tokens, token: &str) -> String {
    tokens.verify(token).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_login_gives_the_identity_back_until_it_expires() {
    let Bench { tokens, clock } = bench(|builder| builder);
    let issued = tokens.login(&alice()).await.unwrap();
    assert_eq!(issued.expires_in, 7 * DAY);
    assert!(tokens.verify(&issued.token).await.unwrap() == alice());
    clock.advance(7 * DAY);
    assert_eq!(
        error_of(&tokens, &issued.token).await,
        "the token's session has ended"
    );
}

#[tokio::test]
async fn a_replay_after_logout_is_refused() {
    let Bench { tokens, .. } = bench(|builder| builder);
    let other = tokens.login(&alice()).await.unwrap().token;
    let token = tokens.login(&alice()).await.unwrap().token;
    assert_ne!(
        token, other,
        "two logins in one second have tokens of their own"
    );
    assert!(tokens.logout(&token).await.unwrap());
    assert_eq!(
        error_of(&tokens, &token).await,
        "the token's session has ended"
    );
    assert!(!tokens.logout(&token).await.unwrap());
    assert!(
        tokens.verify(&other).await.is_ok(),
        "the other login goes on"
    );
    tokens.logout_everywhere("alice").await.unwrap();
    assert_eq!(
        error_of(&tokens, &other).await,
        "the token's session has ended"
    );
}

#[tokio::test]
async fn a_token_that_was_only_signed_has_no_session() {
    let Bench { tokens, .. } = bench(|builder| builder);
    let token = forge(&json!({ "alg": "HS256" }), &good_claims(), SECRET);
    assert_eq!(
        error_of(&tokens, &token).await,
        "the token's session has ended"
    );
    assert!(stateless(keys()).verify(&token).await.is_ok());
}

#[tokio::test]
async fn with_a_single_login_a_later_one_ends_the_earlier() {
    let Bench { tokens, .. } = bench(|builder| builder.with_multi_login(false));
    let first = tokens.login(&alice()).await.unwrap().token;
    let bob = tokens
        .login(&Identity::new("bob", "admin"))
        .await
        .unwrap()
        .token;
    let second = tokens.login(&alice()).await.unwrap().token;
    let error = tokens.verify(&first).await.unwrap_err();
    assert!(matches!(error, TokenError::LoggedInElsewhere), "{error}");
    assert!(tokens.verify(&second).await.is_ok());
    assert!(tokens.verify(&bob).await.is_ok());
    let error = tokens.refresh(&first).await.unwrap_err();
    assert!(matches!(error, TokenError::LoggedInElsewhere), "{error}");
    // A logout of the later one does not bring the earlier one back.
    tokens.logout(&second).await.unwrap();
    let error = tokens.verify(&first).await.unwrap_err();
    assert!(matches!(error, TokenError::Ended), "{error}");
}

#[tokio::test]
async fn a_session_in_use_is_refreshed_as_often_as_it_may_be() {
    let Bench { tokens, clock } = bench(|builder| {
        builder
            .with_expires(3 * DAY)
            .with_refresh_interval(2 * DAY)
            .with_max_refresh_times(Some(2))
    });
    let token = tokens.login(&alice()).await.unwrap().token;
    // Day 2: the first refresh, up to day 5. Day 4: the second, up to day 7. Then no more.
    for day in 1..=6 {
        clock.advance(DAY);
        assert!(tokens.verify(&token).await.is_ok(), "day {day}");
    }
    clock.advance(DAY);
    assert_eq!(
        error_of(&tokens, &token).await,
        "the token's session has ended"
    );
}

#[tokio::test]
async fn without_auto_refresh_or_use_a_session_ends_in_time() {
    let Bench { tokens, clock } = bench(|builder| builder.with_auto_refresh(false));
    let token = tokens.login(&alice()).await.unwrap().token;
    for _ in 0..6 {
        clock.advance(DAY);
        assert!(tokens.verify(&token).await.is_ok());
    }
    clock.advance(DAY);
    assert!(tokens.verify(&token).await.is_err());
}

#[tokio::test]
async fn without_a_limit_a_session_in_use_goes_on() {
    let Bench { tokens, clock } = bench(|builder| builder.with_max_refresh_times(None));
    let token = tokens.login(&alice()).await.unwrap().token;
    for day in 0..400 {
        clock.advance(DAY);
        assert!(tokens.verify(&token).await.is_ok(), "day {day}");
    }
}

#[tokio::test]
async fn a_refresh_puts_a_new_token_in_the_place_of_the_old() {
    let Bench { tokens, clock } = bench(|builder| {
        builder
            .with_multi_login(false)
            .with_max_refresh_times(Some(2))
    });
    let first = tokens.login(&alice()).await.unwrap().token;
    let second = tokens.refresh(&first).await.unwrap().token;
    assert_eq!(
        error_of(&tokens, &first).await,
        "the token's session has ended"
    );
    assert!(tokens.verify(&second).await.unwrap() == alice());
    clock.advance(DAY / 2);
    let third = tokens.refresh(&second).await.unwrap().token;
    let error = tokens.refresh(&third).await.unwrap_err();
    assert!(matches!(error, TokenError::RefreshedOften), "{error}");
    assert!(tokens.verify(&third).await.is_ok());
    let (one, other) = tokio::join!(tokens.refresh(&first), tokens.refresh(&first));
    assert!(one.is_err() && other.is_err());
}

#[tokio::test]
async fn of_two_refreshes_at_once_one_gets_a_token() {
    let Bench { tokens, .. } = bench(|builder| builder);
    let token = tokens.login(&alice()).await.unwrap().token;
    let place = tokens.open(&token).await.unwrap().1;
    let session = tokens.look(&place).await.unwrap().unwrap();
    assert!(tokens.refresh(&token).await.is_ok());
    // The other one had looked before, and comes to the store after.
    let new = TokenKey::of("another");
    let store = tokens.0.store.as_ref().unwrap();
    assert!(
        !store
            .replace(&place, &new, session.refreshes, DAY)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn hazard_54_none_is_no_algorithm() {
    let tokens = stateless(keys());
    for name in [
        "none", "None", "NONE", "nOnE", "", "HS512", "hs256", "RS256", "EdDSA",
    ] {
        let header = json!({ "alg": name });
        let unsigned = format!("{}.{}.", part(&header), part(&good_claims()));
        let expected = "the token's algorithm is not accepted";
        assert_eq!(error_of(&tokens, &unsigned).await, expected, "{name}");
        let signed = forge(&header, &good_claims(), SECRET);
        assert_eq!(error_of(&tokens, &signed).await, expected, "{name}");
    }
    let good = forge(&json!({ "alg": "HS256" }), &good_claims(), SECRET);
    assert!(tokens.verify(&good).await.is_ok());
    let (message, _) = good.rsplit_once('.').unwrap();
    let expected = "the token's signature is wrong";
    assert_eq!(error_of(&tokens, &format!("{message}.")).await, expected);
}

#[tokio::test]
async fn hazard_54_a_public_key_does_not_become_an_hmac_secret() {
    for (public, tokens) in [
        (
            RSA_PUBLIC,
            stateless(TokenKeys::rs256_public(RSA_PUBLIC).unwrap()),
        ),
        (
            ED25519_PUBLIC,
            stateless(TokenKeys::eddsa_public(ED25519_PUBLIC).unwrap()),
        ),
        (
            P256_PUBLIC,
            stateless(TokenKeys::es256_public(P256_PUBLIC).unwrap()),
        ),
    ] {
        let token = forge(&json!({ "alg": "HS256" }), &good_claims(), public);
        assert_eq!(
            error_of(&tokens, &token).await,
            "the token's algorithm is not accepted"
        );
        assert!(matches!(
            TokenKeys::hs256(public),
            Err(KeyError::PublicAsSecret)
        ));
    }
    // Also where both kinds are accepted: each key is for its own algorithm.
    let both = keys().also_accepting(&TokenKeys::rs256_public(RSA_PUBLIC).unwrap());
    let token = forge(&json!({ "alg": "HS256" }), &good_claims(), RSA_PUBLIC);
    assert_eq!(
        error_of(&stateless(both), &token).await,
        "the token's signature is wrong"
    );
}

#[tokio::test]
async fn each_algorithm_checks_what_it_signed() {
    use jsonwebtoken::Algorithm::{ES256, EdDSA, RS256};
    for (issuing, checking) in [
        (
            TokenKeys::eddsa(ED25519),
            TokenKeys::eddsa_public(ED25519_PUBLIC),
        ),
        (TokenKeys::es256(P256), TokenKeys::es256_public(P256_PUBLIC)),
    ] {
        let tokens = stateless(issuing.unwrap());
        let token = tokens.login(&alice()).await.unwrap().token;
        assert!(tokens.verify(&token).await.unwrap() == alice());
        let elsewhere = stateless(checking.unwrap());
        assert!(elsewhere.verify(&token).await.unwrap() == alice());
        let error = elsewhere.login(&alice()).await.unwrap_err();
        assert!(matches!(error, TokenError::NoSigningKey));
        assert!(stateless(keys()).verify(&token).await.is_err());
    }
    let rsa = EncodingKey::from_rsa_pem(RSA).unwrap();
    let token = signed(RS256, &rsa, None);
    let tokens = stateless(TokenKeys::rs256_public(RSA_PUBLIC).unwrap());
    assert_eq!(tokens.verify(&token).await.unwrap().id, "alice");
    let mut bent = token.clone().into_bytes();
    let at = token.len() - 20;
    bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
    let bent = String::from_utf8(bent).unwrap();
    assert_eq!(
        error_of(&tokens, &bent).await,
        "the token's signature is wrong"
    );
    assert!(matches!(
        TokenKeys::rs256_public(SHORT_RSA_PUBLIC),
        Err(KeyError::ShortRsa)
    ));
    // PSS has the same keys and is another algorithm.
    let pss = signed(jsonwebtoken::Algorithm::PS256, &rsa, None);
    assert_eq!(
        error_of(&tokens, &pss).await,
        "the token's algorithm is not accepted"
    );
    let _ = (ES256, EdDSA);
}

#[test]
fn a_key_of_another_kind_is_refused() {
    for (keys, kind) in [
        (TokenKeys::eddsa(P256), "private Ed25519 key (PKCS #8)"),
        (
            TokenKeys::eddsa(ED25519_PUBLIC),
            "private Ed25519 key (PKCS #8)",
        ),
        (TokenKeys::es256(ED25519), "private P-256 key (PKCS #8)"),
        (TokenKeys::eddsa_public(P256_PUBLIC), "public Ed25519 key"),
        (TokenKeys::es256_public(RSA_PUBLIC), "public P-256 key"),
        (TokenKeys::rs256_public(ED25519_PUBLIC), "public RSA key"),
        (TokenKeys::rs256_public(b"nonsense"), "public RSA key"),
    ] {
        assert_eq!(
            keys.unwrap_err().to_string(),
            format!("this is no {kind} in PEM")
        );
    }
}

#[tokio::test]
async fn malformed_tokens_are_refused() {
    let tokens = stateless(keys());
    let header = json!({ "alg": "HS256" });
    let good = forge(&header, &good_claims(), SECRET);
    for (token, expected) in [
        (String::new(), "there is no token"),
        (
            "a".to_owned(),
            "the token is malformed: it has not three parts",
        ),
        (
            "a.b".to_owned(),
            "the token is malformed: it has not three parts",
        ),
        (
            format!("{good}.x"),
            "the token is malformed: it has not three parts",
        ),
        (
            format!("{good}="),
            "the token is malformed: its signature can't be read",
        ),
        (
            format!("!{good}"),
            "the token is malformed: a part is not in base64url",
        ),
        (
            "YQ.YQ.YQ".to_owned(),
            "the token is malformed: its header is no JSON object",
        ),
        (
            format!("{good}{}", "A".repeat(8192)),
            "the token is longer than 8192 bytes",
        ),
    ] {
        assert_eq!(error_of(&tokens, &token).await, expected, "{token}");
    }
    for (header, expected) in [
        (
            json!({ "alg": "HS256", "crit": ["exp"] }),
            "its header has `crit`",
        ),
        (
            json!({ "alg": "HS256", "crit": [] }),
            "its header has `crit`",
        ),
        (
            json!({ "alg": "HS256", "typ": "JWE" }),
            "its header's `typ` is not JWT",
        ),
        (
            json!({ "alg": "HS256", "typ": 1 }),
            "its header's `typ` is not JWT",
        ),
        (
            json!({ "alg": "HS256", "kid": 1 }),
            "its header's `kid` is no text",
        ),
    ] {
        let token = forge(&header, &good_claims(), SECRET);
        let expected = format!("the token is malformed: {expected}");
        assert_eq!(error_of(&tokens, &token).await, expected);
    }
    for typ in ["JWT", "jwt", "at+jwt"] {
        let token = forge(
            &json!({ "alg": "HS256", "typ": typ }),
            &good_claims(),
            SECRET,
        );
        assert!(tokens.verify(&token).await.is_ok());
    }
    // Two claims of one name: signed, but not for one reader.
    let claims = r#"{"sub":"alice","sub":"root","app":"admin","exp":1767312000}"#;
    let message = format!("{}.{}", part(&header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(SECRET);
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256);
    let token = format!("{message}.{}", signature.unwrap());
    let expected = "the token is malformed: its claims are no JSON object";
    assert_eq!(error_of(&tokens, &token).await, expected);
}

#[tokio::test]
async fn a_key_sent_with_the_token_counts_for_nothing() {
    let tokens = stateless(TokenKeys::rs256_public(RSA_PUBLIC).unwrap());
    let key = EncodingKey::from_ed_pem(ED25519).unwrap();
    let mut header = Header::new(jsonwebtoken::Algorithm::EdDSA);
    header.jwk = Some(
        jsonwebtoken::jwk::Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::EdDSA).unwrap(),
    );
    header.jku = Some("https://evil.example/keys".to_owned());
    let token = jsonwebtoken::encode(&header, &good_claims(), &key).unwrap();
    assert_eq!(
        error_of(&tokens, &token).await,
        "the token's algorithm is not accepted"
    );
}

#[tokio::test]
async fn an_expired_or_foreign_token_is_refused() {
    let tokens = stateless(keys());
    let with = |name: &str, value: Value| {
        let mut claims = good_claims();
        claims[name] = value;
        forge(&json!({ "alg": "HS256" }), &claims, SECRET)
    };
    let expired = with("exp", json!(TOMORROW - 86_400 - 60));
    assert_eq!(error_of(&tokens, &expired).await, "the token has expired");
    let other_app = with("app", json!("api"));
    assert_eq!(
        error_of(&tokens, &other_app).await,
        "the token is for another app"
    );
    let other_audience = with("aud", json!("shop"));
    assert_eq!(
        error_of(&tokens, &other_audience).await,
        "the token is for another audience"
    );
}

#[tokio::test]
async fn a_token_of_another_app_with_the_same_keys_is_refused() {
    let clock = Arc::new(ManualClock::new());
    let store = MemoryTokenStore::new().with_clock(Arc::clone(&clock));
    let store = SharedTokenStore::new(store);
    let of = |app: &str| {
        let builder = Tokens::builder(app, keys()).with_store(store.clone());
        builder.with_clock(Arc::clone(&clock)).build().unwrap()
    };
    let (admin, api) = (of("admin"), of("api"));
    let token = api
        .login(&Identity::new("alice", "api"))
        .await
        .unwrap()
        .token;
    assert!(api.verify(&token).await.is_ok());
    assert_eq!(
        error_of(&admin, &token).await,
        "the token is for another app"
    );
    assert!(admin.login(&Identity::new("alice", "api")).await.is_err());
}

#[tokio::test]
async fn an_identity_that_would_change_a_token_s_meaning_is_refused() {
    let Bench { tokens, .. } = bench(|builder| builder);
    for name in ["exp", "app", "role", "sub", "aud", "jti"] {
        let error = tokens
            .login(&alice().with_claim(name, "x"))
            .await
            .unwrap_err();
        assert!(matches!(error, TokenError::Identity(_)), "{name}");
    }
    assert!(tokens.login(&Identity::new("", "admin")).await.is_err());
    let long = alice().with_claim("blob", "x".repeat(8192));
    assert!(tokens.login(&long).await.is_err());
}

#[tokio::test]
async fn an_old_key_is_accepted_while_it_is_replaced() {
    let old = TokenKeys::hs256(b"another-Secret-0f-32-bytes-0r-m0re!").unwrap();
    let token = stateless(old.clone().with_id("2025"))
        .login(&alice())
        .await
        .unwrap()
        .token;
    let new = keys().with_id("2026");
    assert!(stateless(new.clone()).verify(&token).await.is_err());
    let both = stateless(new.also_accepting(&old.with_id("2025")));
    assert!(both.verify(&token).await.is_ok());
    let fresh = both.login(&alice()).await.unwrap().token;
    assert!(both.verify(&fresh).await.is_ok());
    let header = Header {
        kid: Some("2027".to_owned()),
        ..Header::default()
    };
    let unknown =
        jsonwebtoken::encode(&header, &good_claims(), &EncodingKey::from_secret(SECRET)).unwrap();
    assert_eq!(
        error_of(&both, &unknown).await,
        "the token's key is not known"
    );
}

/// The public key of `key` as a key set.
fn set_of(key: &EncodingKey, algorithm: jsonwebtoken::Algorithm, id: &str) -> String {
    let mut jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(key, algorithm).unwrap();
    jwk.common.key_id = Some(id.to_owned());
    json!({ "keys": [jwk] }).to_string()
}

/// A source whose answer can be set, and which counts how often it is asked.
#[derive(Clone, Default)]
struct Counted(Arc<(Mutex<String>, AtomicU32)>);

impl KeySource for Counted {
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<String, BoxError>> + Send + '_>> {
        self.0.1.fetch_add(1, Ordering::SeqCst);
        let text = self.0.0.lock().unwrap().clone();
        Box::pin(async move { Ok(text) })
    }
}

#[tokio::test]
async fn a_key_set_is_asked_for_new_keys_at_most_once_a_minute() {
    use jsonwebtoken::Algorithm::{ES256, EdDSA, RS256};
    let ed = EncodingKey::from_ed_pem(ED25519).unwrap();
    let ec = EncodingKey::from_ec_pem(P256).unwrap();
    let source = Counted::default();
    *source.0.0.lock().unwrap() = set_of(&ed, EdDSA, "one");
    let set = Jwks::from_source(source.clone()).await.unwrap();
    let clock = Arc::new(ManualClock::new());
    let builder = Tokens::builder("admin", TokenKeys::jwks(set));
    let tokens = builder.with_clock(Arc::clone(&clock)).build().unwrap();
    let asked = || source.0.1.load(Ordering::SeqCst);

    assert!(
        tokens
            .verify(&signed(EdDSA, &ed, Some("one")))
            .await
            .is_ok()
    );
    assert_eq!(asked(), 1);
    // The keys change: the first token under the new one finds it.
    *source.0.0.lock().unwrap() = set_of(&ec, ES256, "two");
    assert!(
        tokens
            .verify(&signed(ES256, &ec, Some("two")))
            .await
            .is_ok()
    );
    assert_eq!(asked(), 2);
    assert!(
        tokens
            .verify(&signed(EdDSA, &ed, Some("one")))
            .await
            .is_err(),
        "it is gone"
    );
    // Made-up keys don't make us ask again and again.
    for id in 0..100 {
        let made_up = signed(ES256, &ec, Some(&format!("made up {id}")));
        assert_eq!(
            error_of(&tokens, &made_up).await,
            "the token's key is not known"
        );
    }
    assert_eq!(asked(), 2);
    clock.advance(Duration::from_secs(60));
    // A set that can't be used leaves the keys before.
    *source.0.0.lock().unwrap() = "{}".to_owned();
    let rsa = EncodingKey::from_rsa_pem(RSA).unwrap();
    assert!(
        tokens
            .verify(&signed(RS256, &rsa, Some("three")))
            .await
            .is_err()
    );
    assert_eq!(asked(), 3);
    assert!(
        tokens
            .verify(&signed(ES256, &ec, Some("two")))
            .await
            .is_ok()
    );
    // A shared secret is no part of a set, so HS256 with the public key finds no key.
    let forged = forge(&json!({ "alg": "HS256" }), &good_claims(), P256_PUBLIC);
    assert_eq!(
        error_of(&tokens, &forged).await,
        "the token's algorithm is not accepted"
    );
}

#[tokio::test]
async fn a_key_set_serves_rsa_too() {
    let rsa = EncodingKey::from_rsa_pem(RSA).unwrap();
    let algorithm = jsonwebtoken::Algorithm::RS256;
    let set = Jwks::from_text(&set_of(&rsa, algorithm, "a")).unwrap();
    let tokens = stateless(TokenKeys::jwks(set));
    assert!(
        tokens
            .verify(&signed(algorithm, &rsa, Some("a")))
            .await
            .is_ok()
    );
    assert!(tokens.verify(&signed(algorithm, &rsa, None)).await.is_ok());
}

#[tokio::test]
async fn a_ticket_stands_for_its_token_once() {
    let Bench { tokens, clock } = bench(|builder| builder);
    let token = tokens.login(&alice()).await.unwrap().token;
    let issued = tokens.issue_ticket(&token).await.unwrap();
    assert!(tokens.redeem_ticket(&issued.ticket).await.unwrap() == alice());
    let error = tokens.redeem_ticket(&issued.ticket).await.unwrap_err();
    assert!(matches!(error, TokenError::Ended), "used: {error}");

    let late = tokens.issue_ticket(&token).await.unwrap();
    clock.advance(late.expires_in);
    let error = tokens.redeem_ticket(&late.ticket).await.unwrap_err();
    assert!(matches!(error, TokenError::Ended), "expired: {error}");

    let orphan = tokens.issue_ticket(&token).await.unwrap();
    tokens.logout(&token).await.unwrap();
    let error = tokens.redeem_ticket(&orphan.ticket).await.unwrap_err();
    assert!(matches!(error, TokenError::Ended), "logged out: {error}");

    assert!(
        tokens.redeem_ticket(&token).await.is_err(),
        "a token is no ticket"
    );
    assert!(
        tokens.verify(&orphan.ticket).await.is_err(),
        "a ticket is no token"
    );
    assert!(tokens.issue_ticket(&token).await.is_err());
}

#[tokio::test]
async fn of_many_who_show_one_ticket_one_gets_in() {
    let Bench { tokens, .. } = bench(|builder| builder);
    let token = tokens.login(&alice()).await.unwrap().token;
    let ticket = tokens.issue_ticket(&token).await.unwrap().ticket;
    let tries: Vec<_> = (0..20)
        .map(|_| {
            let (tokens, ticket) = (tokens.clone(), ticket.clone());
            tokio::spawn(async move { tokens.redeem_ticket(&ticket).await.is_ok() })
        })
        .collect();
    let mut passed = 0;
    for attempt in tries {
        passed += u32::from(attempt.await.unwrap());
    }
    assert_eq!(passed, 1);
}

#[tokio::test]
async fn clocks_that_jump_end_no_session_early_and_keep_none_for_ever() {
    // The service's clock is an hour off from the store's, either way.
    let (store_clock, clock) = (Arc::new(ManualClock::new()), Arc::new(ManualClock::new()));
    let store = MemoryTokenStore::new().with_clock(Arc::clone(&store_clock));
    let builder = Tokens::builder("admin", keys()).with_store(store);
    let tokens = builder.with_clock(Arc::clone(&clock)).build().unwrap();
    let token = tokens.login(&alice()).await.unwrap().token;
    clock.advance(Duration::from_secs(3600));
    assert!(tokens.verify(&token).await.is_ok(), "ours is ahead");
    store_clock.advance(Duration::from_secs(2 * 3600));
    assert!(tokens.verify(&token).await.is_ok(), "ours is behind");
    // The store's clock alone decides that the session has ended.
    store_clock.advance(7 * DAY);
    assert_eq!(
        error_of(&tokens, &token).await,
        "the token's session has ended"
    );
    // And a token's own end holds even where the store has forgotten to.
    let token = tokens.login(&alice()).await.unwrap().token;
    clock.advance(8 * 31 * DAY);
    assert_eq!(error_of(&tokens, &token).await, "the token has expired");
}

/// A store that fails, or that never answers.
#[derive(Default)]
pub(in crate::auth) struct Failing {
    pub(in crate::auth) inner: MemoryTokenStore,
    pub(in crate::auth) fails: Arc<AtomicBool>,
    pub(in crate::auth) hangs: Arc<AtomicBool>,
}

impl Failing {
    async fn state(&self) -> Result<(), TokenStoreError> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.fails.load(Ordering::SeqCst) {
            return Err(TokenStoreError::new(
                StoreErrorKind::Unavailable,
                "it is down",
            ));
        }
        Ok(())
    }
}

impl TokenStore for Failing {
    async fn begin(&self, s: &SessionKey, k: Duration, m: usize) -> Result<(), TokenStoreError> {
        self.state().await?;
        self.inner.begin(s, k, m).await
    }
    async fn look(&self, session: &SessionKey) -> Result<Look, TokenStoreError> {
        self.state().await?;
        self.inner.look(session).await
    }
    async fn extend(&self, s: &SessionKey, r: u32, k: Duration) -> Result<bool, TokenStoreError> {
        self.state().await?;
        self.inner.extend(s, r, k).await
    }
    async fn replace(
        &self,
        s: &SessionKey,
        t: &TokenKey,
        r: u32,
        k: Duration,
    ) -> Result<bool, TokenStoreError> {
        self.state().await?;
        self.inner.replace(s, t, r, k).await
    }
    async fn end(&self, session: &SessionKey) -> Result<bool, TokenStoreError> {
        self.state().await?;
        self.inner.end(session).await
    }
    async fn end_all(&self, user: &UserKey) -> Result<(), TokenStoreError> {
        self.state().await?;
        self.inner.end_all(user).await
    }
    async fn put_ticket(&self, t: &TokenKey, g: &[u8], k: Duration) -> Result<(), TokenStoreError> {
        self.state().await?;
        self.inner.put_ticket(t, g, k).await
    }
    async fn take_ticket(&self, t: &TokenKey) -> Result<Option<Vec<u8>>, TokenStoreError> {
        self.state().await?;
        self.inner.take_ticket(t).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_hangs_lets_nobody_in() {
    let store = Failing::default();
    let (fails, hangs) = (Arc::clone(&store.fails), Arc::clone(&store.hangs));
    let tokens = Tokens::builder("admin", keys())
        .with_store(store)
        .build()
        .unwrap();
    let token = tokens.login(&alice()).await.unwrap().token;
    let ticket = tokens.issue_ticket(&token).await.unwrap().ticket;
    for (flag, kind) in [
        (&fails, StoreErrorKind::Unavailable),
        (&hangs, StoreErrorKind::Timeout),
    ] {
        flag.store(true, Ordering::SeqCst);
        let kind_of = |error: TokenError| match error {
            TokenError::Store(error) => error.kind(),
            other => panic!("{other}"),
        };
        assert_eq!(kind_of(tokens.verify(&token).await.unwrap_err()), kind);
        assert_eq!(kind_of(tokens.login(&alice()).await.unwrap_err()), kind);
        assert_eq!(kind_of(tokens.logout(&token).await.unwrap_err()), kind);
        assert_eq!(kind_of(tokens.refresh(&token).await.unwrap_err()), kind);
        assert_eq!(
            kind_of(tokens.issue_ticket(&token).await.unwrap_err()),
            kind
        );
        assert_eq!(
            kind_of(tokens.redeem_ticket(&ticket).await.unwrap_err()),
            kind
        );
        flag.store(false, Ordering::SeqCst);
    }
    assert!(tokens.verify(&token).await.is_ok());
}

#[tokio::test]
async fn without_a_store_tokens_hold_until_they_expire() {
    let tokens = stateless(keys());
    let issued = tokens.login(&alice()).await.unwrap();
    assert!(tokens.verify(&issued.token).await.is_ok());
    assert!(matches!(
        tokens.logout(&issued.token).await,
        Err(TokenError::Stateless)
    ));
    assert!(matches!(
        tokens.refresh(&issued.token).await,
        Err(TokenError::Stateless)
    ));
    assert!(matches!(
        tokens.issue_ticket(&issued.token).await,
        Err(TokenError::Stateless)
    ));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let build = |app: &str, change: fn(TokensBuilder) -> TokensBuilder| {
        let builder = Tokens::builder(app, keys()).with_store(MemoryTokenStore::new());
        change(builder).build().err()
    };
    assert_eq!(build("admin", |b| b), None);
    assert_eq!(build("", |b| b), Some(TokensError::NoApp));
    assert_eq!(
        build("a", |b| b.with_expires(Duration::ZERO)),
        Some(TokensError::Expires)
    );
    assert_eq!(
        build("a", |b| b.with_expires(11 * 365 * DAY)),
        Some(TokensError::Expires)
    );
    let late = |b: TokensBuilder| b.with_refresh_interval(7 * DAY);
    assert_eq!(build("a", late), Some(TokensError::RefreshInterval));
    assert_eq!(
        build("a", |b| b
            .with_refresh_interval(7 * DAY)
            .with_auto_refresh(false)),
        None
    );
    let long = |b: TokensBuilder| b.with_ticket_expires(DAY);
    assert_eq!(build("a", long), Some(TokensError::TicketExpires));
    assert_eq!(
        build("a", |b| b.with_leeway(DAY)),
        Some(TokensError::Leeway)
    );
    assert_eq!(
        build("a", |b| b.with_max_sessions(0)),
        Some(TokensError::Zero("max_sessions"))
    );
    let without_store = Tokens::builder("a", keys()).with_multi_login(false).build();
    assert_eq!(
        without_store.err(),
        Some(TokensError::SingleLoginWithoutStore)
    );
}

#[tokio::test]
async fn nothing_that_is_printed_shows_a_token() {
    let Bench { tokens, .. } = bench(|builder| builder);
    let issued = tokens.login(&alice()).await.unwrap();
    let ticket = tokens.issue_ticket(&issued.token).await.unwrap();
    let text = format!("{issued:?} {ticket:?} {tokens:?}");
    assert!(
        !text.contains(&issued.token) && !text.contains(&ticket.ticket),
        "{text}"
    );
    assert!(!text.contains("Jb2kz0"), "{text}");
}
