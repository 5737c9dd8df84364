//! The key and its scope, from a request's head.

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use onlyonce_core::{Anonymous, Key, KeyError, Policy, Scope, ScopeRule, Secret};

use super::{Principal, ProblemKind};

/// A request's key could not be taken from it: the kind of problem, and what to do.
type Refused = (ProblemKind, String);

/// The request's key; `None` when it has none.
pub(super) fn key(headers: &HeaderMap, policy: &Policy) -> Result<Option<Key>, Refused> {
    let mut found: Option<(&HeaderName, Key)> = None;
    for name in &policy.headers {
        for value in headers.get_all(name) {
            let invalid = |error: &KeyError| (ProblemKind::KeyInvalid, format!("{name}: {error}"));
            let key = Key::parse(value.as_bytes(), policy.syntax).map_err(|e| invalid(&e))?;
            match &found {
                Some((first, other)) if *other != key => {
                    let detail = if *first == name {
                        format!("{name} is given twice, with different values: send one")
                    } else {
                        format!("{first} and {name} have different values: send one of them")
                    };
                    return Err((ProblemKind::KeyInvalid, detail));
                }
                Some(_) => {}
                None => {
                    policy.validate.check(&key).map_err(|e| invalid(&e))?;
                    found = Some((name, key));
                }
            }
        }
    }
    match found {
        Some((_, key)) => Ok(Some(key)),
        None if policy.required => {
            let name = policy
                .headers
                .first()
                .map_or("idempotency-key", HeaderName::as_str);
            let detail = format!("this request needs a key: send one in the {name} header");
            Err((ProblemKind::KeyMissing, detail))
        }
        None => Ok(None),
    }
}

/// Whose key it is, by the policy's rule.
pub(super) fn scope(parts: &Parts, policy: &Policy, secret: &Secret) -> Result<Scope, Refused> {
    let named = match &policy.scope {
        ScopeRule::Shared => Some(Scope::shared()),
        ScopeRule::Header(name) => only(parts, name)?.map(Scope::header),
        ScopeRule::Principal => match parts.extensions.get::<Principal>() {
            Some(principal) => Some(Scope::principal(principal.as_str())),
            None => only(parts, &AUTHORIZATION)?.map(|value| Scope::credential(secret, value)),
        },
        // A rule that this version does not know protects nobody: refuse.
        _ => {
            return Err((
                ProblemKind::KeyUnscoped,
                "the scope rule is not known here".into(),
            ));
        }
    };
    match (named, policy.anonymous) {
        (Some(scope), _) => Ok(scope),
        (None, Anonymous::Share) => Ok(Scope::anonymous()),
        (None, Anonymous::Refuse) => {
            let detail = match &policy.scope {
                ScopeRule::Header(name) => format!("keys are taken only with the {name} header"),
                _ => "keys are taken only from authenticated callers".to_owned(),
            };
            Err((ProblemKind::KeyUnscoped, detail))
        }
    }
}

/// The only value of a header. Of two, another layer might believe the other one.
fn only<'a>(parts: &'a Parts, name: &HeaderName) -> Result<Option<&'a [u8]>, Refused> {
    let mut values = parts.headers.get_all(name).iter();
    let first = values.next().map(HeaderValue::as_bytes);
    if values.next().is_some() {
        let detail = format!("{name} is given twice: send one");
        return Err((ProblemKind::KeyUnscoped, detail));
    }
    Ok(first)
}

/// Whether the request asks for its connection to be made into something else.
pub(super) fn is_upgrade(parts: &Parts) -> bool {
    parts.headers.contains_key(http::header::UPGRADE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use onlyonce_core::{KeyRule, Profile};

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    fn extract(fields: &[(&'static str, &'static str)]) -> Result<Option<String>, Refused> {
        let key = key(&headers(fields), &Policy::new(Profile::Standard))?;
        Ok(key.map(|key| key.as_str().to_owned()))
    }

    #[test]
    fn either_header_and_the_same_value_twice_are_one_key() {
        assert_eq!(extract(&[]), Ok(None));
        assert_eq!(extract(&[("idempotency-key", "a")]), Ok(Some("a".into())));
        assert_eq!(extract(&[("x-idempotency-key", "a")]), Ok(Some("a".into())));
        let twice = [("idempotency-key", "\"a\""), ("x-idempotency-key", "a")];
        assert_eq!(extract(&twice), Ok(Some("a".into())));
    }

    #[test]
    fn different_values_are_refused() {
        let lines = [("idempotency-key", "a"), ("idempotency-key", "b")];
        assert!(
            matches!(extract(&lines), Err((ProblemKind::KeyInvalid, d)) if d.contains("twice"))
        );
        let names = [("idempotency-key", "a"), ("x-idempotency-key", "b")];
        assert!(matches!(extract(&names), Err((ProblemKind::KeyInvalid, _))));
    }

    #[test]
    fn a_refusal_names_the_header_and_never_the_key() {
        let policy = Policy::new(Profile::Standard).with_validate(KeyRule::MinLength(9));
        let (kind, detail) = key(&headers(&[("idempotency-key", "hush")]), &policy).unwrap_err();
        assert_eq!(kind, ProblemKind::KeyInvalid);
        assert_eq!(
            detail,
            "idempotency-key: the key has 4 characters; at least 9 are asked for"
        );
    }

    fn scope_of(request: http::Request<()>, policy: &Policy) -> Result<Scope, Refused> {
        scope(&request.into_parts().0, policy, &Secret::well_known())
    }

    #[test]
    fn the_principal_wins_over_the_credential() {
        let policy = Policy::new(Profile::Standard);
        let mut request = http::Request::new(());
        assert_eq!(scope_of(request.clone(), &policy), Ok(Scope::anonymous()));
        request
            .headers_mut()
            .insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        let credential = scope_of(request.clone(), &policy).unwrap();
        assert_eq!(
            credential,
            Scope::credential(&Secret::well_known(), b"Bearer x")
        );
        request.extensions_mut().insert(Principal::new("alice"));
        assert_eq!(scope_of(request, &policy), Ok(Scope::principal("alice")));
    }

    #[test]
    fn hazard_31_two_credentials_are_nobody_s() {
        let mut request = http::Request::new(());
        for value in ["Bearer stale", "Bearer mine"] {
            let value = HeaderValue::from_static(value);
            request.headers_mut().append(AUTHORIZATION, value);
        }
        let refused = scope_of(request.clone(), &Policy::new(Profile::Standard));
        assert!(matches!(refused, Err((ProblemKind::KeyUnscoped, d)) if d.contains("twice")));
        request.extensions_mut().insert(Principal::new("alice"));
        let named = scope_of(request, &Policy::new(Profile::Standard));
        assert_eq!(named, Ok(Scope::principal("alice")));
    }

    #[test]
    fn anonymous_callers_are_refused_where_the_policy_says_so() {
        let policy = Policy::new(Profile::Payments);
        let refused = scope_of(http::Request::new(()), &policy);
        assert!(matches!(refused, Err((ProblemKind::KeyUnscoped, _))));
    }
}
