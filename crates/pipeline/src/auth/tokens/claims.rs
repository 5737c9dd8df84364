//! What a token says, checked claim by claim.

use std::time::Duration;

use onlyonce_core::Timestamp;
use serde_json::{Map, Value};

use super::TokenError;
use super::jwt::Claims;
use crate::context::Identity;

/// What is expected of a token, beside its signature.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) app: Box<str>,
    pub(super) audience: Option<Box<str>>,
    pub(super) issuer: Option<Box<str>>,
    /// Between the issuer's clock and ours.
    pub(super) leeway: Duration,
}

/// Names that have a meaning of their own; an identity's claims can't have them.
const REGISTERED: [&str; 9] = [
    "app", "aud", "exp", "iat", "iss", "jti", "nbf", "role", "sub",
];

impl Expected {
    /// The identity that `claims` give now.
    ///
    /// A claim of the wrong type is refused, never taken for absent.
    pub(super) fn check(&self, claims: Claims, now: Timestamp) -> Result<Identity, TokenError> {
        let id = text(&claims, "sub")?.ok_or(TokenError::Claim("sub"))?;
        let app = text(&claims, "app")?.ok_or(TokenError::Claim("app"))?;
        let role = text(&claims, "role")?;
        if id.is_empty() {
            return Err(TokenError::Claim("sub"));
        }
        if *app != *self.app {
            return Err(TokenError::App);
        }
        self.check_audience(claims.get("aud"))?;
        let issuer = text(&claims, "iss")?;
        if self.issuer.is_some() && issuer.as_deref() != self.issuer.as_deref() {
            return Err(TokenError::Issuer);
        }
        let now = now.as_millis();
        let leeway = u64::try_from(self.leeway.as_millis()).unwrap_or(u64::MAX);
        let ends = seconds(&claims, "exp")?.ok_or(TokenError::Claim("exp"))?;
        if now >= ends.saturating_add(leeway) {
            return Err(TokenError::Expired);
        }
        if seconds(&claims, "nbf")?.is_some_and(|begins| now.saturating_add(leeway) < begins) {
            return Err(TokenError::TooEarly);
        }
        seconds(&claims, "iat")?;
        text(&claims, "jti")?;
        let own = claims
            .into_iter()
            .filter(|(name, _)| !REGISTERED.contains(&name.as_str()));
        Ok(Identity {
            id,
            role,
            app,
            claims: own.collect(),
        })
    }

    /// A token that names audiences is for them alone (RFC 7519, section 4.1.3).
    fn check_audience(&self, claim: Option<&Value>) -> Result<(), TokenError> {
        let wrong = || TokenError::Claim("aud");
        let named: Vec<&str> = match claim {
            None => Vec::new(),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several
                .iter()
                .map(|one| one.as_str().ok_or_else(wrong))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(wrong()),
        };
        match &self.audience {
            Some(ours) if named.contains(&&**ours) => Ok(()),
            None if claim.is_none() => Ok(()),
            _ => Err(TokenError::Audience),
        }
    }

    /// The claims that give `identity`, from `now` on for `lifetime`.
    pub(super) fn issue(
        &self,
        identity: &Identity,
        now: Timestamp,
        lifetime: Duration,
        id: String,
    ) -> Result<Claims, TokenError> {
        if identity.id.is_empty() {
            return Err(TokenError::Identity("the user's id is empty"));
        }
        if identity.app != *self.app {
            return Err(TokenError::Identity("it is of another app"));
        }
        let mut claims: Map<String, Value> = identity.claims.clone();
        if REGISTERED.iter().any(|name| claims.contains_key(*name)) {
            return Err(TokenError::Identity(
                "a claim of its own has the name of a registered one",
            ));
        }
        let ends = now.plus(lifetime).as_millis().div_ceil(1000);
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("sub", identity.id.clone().into());
        put("app", identity.app.clone().into());
        put("iat", (now.as_millis() / 1000).into());
        put("exp", ends.into());
        put("jti", id.into());
        if let Some(role) = &identity.role {
            put("role", role.clone().into());
        }
        if let Some(audience) = &self.audience {
            put("aud", (**audience).into());
        }
        if let Some(issuer) = &self.issuer {
            put("iss", (**issuer).into());
        }
        Ok(claims)
    }
}

fn text(claims: &Claims, name: &'static str) -> Result<Option<String>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(TokenError::Claim(name)),
    }
}

/// A time (RFC 7519, section 2: seconds, maybe with a fraction), in milliseconds.
fn seconds(claims: &Claims, name: &'static str) -> Result<Option<u64>, TokenError> {
    /// The year 10000: no clock shows it, and it fits into a float without loss.
    const FAR: f64 = 253_402_300_800.0;
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let Value::Number(number) = value else {
        return Err(TokenError::Claim(name));
    };
    if let Some(whole) = number.as_u64() {
        return Ok(Some(whole.saturating_mul(1000)));
    }
    match number.as_f64() {
        Some(seconds) if (0.0..FAR).contains(&seconds) => {
            let time = Duration::from_secs_f64(seconds).as_millis();
            Ok(Some(u64::try_from(time).unwrap_or(u64::MAX)))
        }
        _ => Err(TokenError::Claim(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn check_with(change: impl FnOnce(&mut Expected), claims: Value) -> Result<Identity, String> {
        let mut expected = Expected {
            app: "admin".into(),
            audience: None,
            issuer: None,
            leeway: Duration::from_secs(30),
        };
        change(&mut expected);
        let Value::Object(claims) = claims else {
            panic!("claims are an object")
        };
        expected
            .check(claims, Timestamp::from_millis(NOW * 1000))
            .map_err(|error| error.to_string())
    }

    fn with(name: &str, value: Value) -> Result<Identity, String> {
        let mut claims = json!({ "sub": "7", "app": "admin", "exp": NOW + 60 });
        claims[name] = value;
        check_with(|_| {}, claims)
    }

    #[test]
    fn good_claims_give_the_identity() {
        let claims = json!({
            "sub": "7", "app": "admin", "role": "editor", "exp": NOW + 60, "nbf": NOW - 1,
            "iat": NOW, "jti": "x", "dept": [1, 2],
        });
        let identity = check_with(|_| {}, claims).unwrap();
        assert_eq!(identity.id, "7");
        assert_eq!(identity.app, "admin");
        assert_eq!(identity.role.as_deref(), Some("editor"));
        assert_eq!(Value::Object(identity.claims), json!({ "dept": [1, 2] }));
    }

    #[test]
    fn hazard_54_a_claim_of_the_wrong_type_is_refused_not_skipped() {
        for (name, values) in [
            ("sub", vec![json!(7), json!(null), json!(["7"]), json!("")]),
            ("app", vec![json!(null), json!(["admin"]), json!(1)]),
            ("role", vec![json!(null), json!(1), json!(["super"])]),
            (
                "exp",
                vec![
                    json!(null),
                    json!("9999999999"),
                    json!(-1),
                    json!([NOW + 60]),
                    json!(true),
                    json!(1e300),
                ],
            ),
            ("nbf", vec![json!(null), json!("0"), json!(-1), json!({})]),
            ("iat", vec![json!("0"), json!(null)]),
            ("jti", vec![json!(1)]),
            ("iss", vec![json!(1), json!(null)]),
            (
                "aud",
                vec![
                    json!(null),
                    json!(1),
                    json!([1]),
                    json!(["a", null]),
                    json!({}),
                ],
            ),
        ] {
            for value in values {
                let error = with(name, value.clone()).unwrap_err();
                let expected = format!("the claim `{name}` is missing or of the wrong type");
                assert_eq!(error, expected, "{value}");
            }
        }
        for missing in ["sub", "app", "exp"] {
            let mut claims = json!({ "sub": "7", "app": "admin", "exp": NOW + 60 });
            claims.as_object_mut().unwrap().remove(missing);
            assert!(check_with(|_| {}, claims).is_err(), "{missing}");
        }
    }

    #[test]
    fn times_are_checked_with_leeway() {
        assert!(with("exp", json!(NOW - 29)).is_ok());
        assert_eq!(
            with("exp", json!(NOW - 30)).unwrap_err(),
            "the token has expired"
        );
        assert_eq!(with("exp", json!(0)).unwrap_err(), "the token has expired");
        assert!(with("exp", json!(u64::MAX)).is_ok());
        assert!(with("exp", json!(NOW as f64 - 29.5)).is_ok());
        assert!(with("exp", json!(NOW as f64 - 30.5)).is_err());
        assert!(with("nbf", json!(NOW + 30)).is_ok());
        assert_eq!(
            with("nbf", json!(NOW + 31)).unwrap_err(),
            "the token is not valid yet"
        );
    }

    #[test]
    fn another_app_audience_or_issuer_is_refused() {
        assert_eq!(
            with("app", json!("api")).unwrap_err(),
            "the token is for another app"
        );
        let other = "the token is for another audience";
        assert_eq!(with("aud", json!("shop")).unwrap_err(), other);
        assert_eq!(with("aud", json!([])).unwrap_err(), other);
        let for_shop = |audience: Option<Value>| {
            let mut claims = json!({ "sub": "7", "app": "admin", "exp": NOW + 60 });
            if let Some(audience) = audience {
                claims["aud"] = audience;
            }
            check_with(|expected| expected.audience = Some("shop".into()), claims)
        };
        assert!(for_shop(Some(json!("shop"))).is_ok());
        assert!(for_shop(Some(json!(["cafe", "shop"]))).is_ok());
        assert_eq!(for_shop(Some(json!(["cafe"]))).unwrap_err(), other);
        assert_eq!(for_shop(None).unwrap_err(), other);
        let from = |issuer: Value| {
            let claims = json!({ "sub": "7", "app": "admin", "exp": NOW + 60, "iss": issuer });
            check_with(
                |expected| expected.issuer = Some("https://id".into()),
                claims,
            )
        };
        assert!(from(json!("https://id")).is_ok());
        assert_eq!(
            from(json!("https://ib")).unwrap_err(),
            "the token is of another issuer"
        );
    }
}
