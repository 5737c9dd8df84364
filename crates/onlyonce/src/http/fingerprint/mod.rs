//! What a request asks for, hashed.

mod json;
mod multipart;

use http::Uri;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use onlyonce_core::{BodyFingerprint, Fingerprint, FingerprintHasher, FingerprintRule};

use multipart::PartHasher;

/// What the request was really sent to, where the layer was told how to find it.
#[derive(Clone)]
pub(super) struct Target(pub(super) Uri);

/// What the request was sent to.
pub(super) fn target(parts: &Parts) -> &Uri {
    parts
        .extensions
        .get::<Target>()
        .map_or(&parts.uri, |Target(uri)| uri)
}

/// The fingerprint of a request whose body has been read.
pub(super) fn of_whole(parts: &Parts, body: &[u8], rule: &FingerprintRule) -> Fingerprint {
    let canonical = match rule {
        FingerprintRule::On {
            body: BodyFingerprint::Json,
            ..
        } => json::canonical(body),
        FingerprintRule::On {
            body: BodyFingerprint::Pointers(pointers),
            ..
        } => json::selected(body, pointers),
        _ => None,
    };
    match canonical {
        Some(canonical) => {
            let mut hasher = head(parts, rule);
            hasher.field("body", b"json");
            hasher.body(&canonical);
            hasher.finish()
        }
        None => {
            let mut hasher = BodyHasher::new(parts, rule);
            hasher.update(body);
            hasher.finish()
        }
    }
}

/// Hashes a body as it streams by; the request's head is in it already.
pub(crate) struct BodyHasher(Kind);

enum Kind {
    Off,
    /// The body does not count.
    HeadOnly(FingerprintHasher),
    Bytes(FingerprintHasher),
    Multipart(Box<PartHasher>),
}

impl BodyHasher {
    pub(super) fn new(parts: &Parts, rule: &FingerprintRule) -> Self {
        let body = match rule {
            FingerprintRule::Off => return Self(Kind::Off),
            FingerprintRule::On { body, .. } => body,
            // A rule that this version does not know: all that it knows counts.
            _ => &BodyFingerprint::Bytes,
        };
        let mut hasher = head(parts, rule);
        Self(match (body, boundary(parts)) {
            (BodyFingerprint::None, _) => Kind::HeadOnly(hasher),
            (_, Some(boundary)) => {
                hasher.field("body", b"multipart");
                Kind::Multipart(Box::new(PartHasher::new(hasher, &boundary)))
            }
            (_, None) => {
                hasher.field("body", b"bytes");
                Kind::Bytes(hasher)
            }
        })
    }

    /// The fingerprint, where the body does not count: known before any of it is read.
    pub(super) fn settled(&self) -> Option<Fingerprint> {
        match &self.0 {
            Kind::Off | Kind::HeadOnly(_) => Some(self.finish()),
            Kind::Bytes(_) | Kind::Multipart(_) => None,
        }
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        match &mut self.0 {
            Kind::Off | Kind::HeadOnly(_) => {}
            Kind::Bytes(hasher) => hasher.body(piece),
            Kind::Multipart(parts) => parts.update(piece),
        }
    }

    pub(super) fn finish(&self) -> Fingerprint {
        match &self.0 {
            Kind::Off => Fingerprint::OFF,
            Kind::HeadOnly(hasher) | Kind::Bytes(hasher) => hasher.finish(),
            Kind::Multipart(parts) => parts.finish(),
        }
    }
}

/// Method, path with query, content type, and the further headers that count.
fn head(parts: &Parts, rule: &FingerprintRule) -> FingerprintHasher {
    let mut hasher = FingerprintHasher::new();
    hasher.field("method", parts.method.as_str().as_bytes());
    let target = target(parts)
        .path_and_query()
        .map_or("/", |target| target.as_str());
    hasher.field("target", target.as_bytes());
    let content_type = parts
        .headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    match boundary(parts) {
        // Clients make a new boundary for each try (hazard 29).
        Some(_) => hasher.field("content-type", b"multipart/form-data"),
        None => hasher.field("content-type", content_type),
    }
    if let FingerprintRule::On { headers, .. } = rule {
        for name in headers {
            for value in parts.headers.get_all(name) {
                hasher.field(name.as_str(), value.as_bytes());
            }
        }
    }
    hasher
}

/// The boundary of a `multipart/form-data` request (RFC 2046, section 5.1.1).
fn boundary(parts: &Parts) -> Option<Vec<u8>> {
    let value = parts.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (essence, parameters) = value.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then_some(value.trim())
    })?;
    let boundary = boundary
        .strip_prefix('"')
        .and_then(|b| b.strip_suffix('"'))
        .unwrap_or(boundary);
    (1..=70)
        .contains(&boundary.len())
        .then(|| boundary.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(method: &str, uri: &str, content_type: &str) -> Parts {
        let request = Request::builder().method(method).uri(uri);
        request
            .header(CONTENT_TYPE, content_type)
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    fn same(a: (&Parts, &str), b: (&Parts, &str), rule: &FingerprintRule) -> bool {
        let one = of_whole(a.0, a.1.as_bytes(), rule);
        one.matches(&of_whole(b.0, b.1.as_bytes(), rule))
    }

    fn rule(body: BodyFingerprint) -> FingerprintRule {
        FingerprintRule::On {
            body,
            headers: vec![],
        }
    }

    #[test]
    fn hazard_27_method_route_query_and_type_count() {
        let bytes = rule(BodyFingerprint::Bytes);
        let base = parts("POST", "/a?x=1", "text/plain");
        assert!(same((&base, "b"), (&base, "b"), &bytes));
        assert!(!same((&base, "b"), (&base, "c"), &bytes));
        for other in [
            parts("PUT", "/a?x=1", "text/plain"),
            parts("POST", "/b?x=1", "text/plain"),
            parts("POST", "/a?x=2", "text/plain"),
            parts("POST", "/a?x=1", "text/html"),
        ] {
            assert!(!same((&base, "b"), (&other, "b"), &bytes));
        }
    }

    #[test]
    fn further_headers_count_when_named() {
        let tenant = |value: &str| {
            let mut parts = parts("POST", "/", "text/plain");
            parts.headers.insert("x-tenant", value.parse().unwrap());
            parts
        };
        let (a, b) = (tenant("a"), tenant("b"));
        let named = FingerprintRule::On {
            body: BodyFingerprint::Bytes,
            headers: vec![http::HeaderName::from_static("x-tenant")],
        };
        assert!(!same((&a, ""), (&b, ""), &named));
        assert!(same((&a, ""), (&b, ""), &rule(BodyFingerprint::Bytes)));
    }

    #[test]
    fn json_counts_by_meaning() {
        let json = rule(BodyFingerprint::Json);
        let parts = parts("POST", "/", "application/json");
        let same = |a, b| same((&parts, a), (&parts, b), &json);
        assert!(same(
            r#"{"a":1,"b":[2,"x"]}"#,
            "{ \"b\": [2, \"\\u0078\"],\n\"a\": 1 }"
        ));
        assert!(!same(r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#));
        // Numbers beyond what a float can tell apart stay apart.
        assert!(!same(
            r#"{"n":12345678901234567890123}"#,
            r#"{"n":12345678901234567890124}"#
        ));
        // Two members of one name mean different things to different parsers.
        assert!(!same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#));
        assert!(same("not json", "not json"));
        assert!(!same("not json", "not  json"));
    }

    #[test]
    fn only_the_pointers_count() {
        let pointers = rule(BodyFingerprint::Pointers(vec![
            "/amount".into(),
            "/to/0".into(),
        ]));
        let parts = parts("POST", "/", "application/json");
        let same = |a, b| same((&parts, a), (&parts, b), &pointers);
        let base = r#"{"amount":5,"to":["x"],"sent_at":1}"#;
        assert!(same(base, r#"{"sent_at":2,"to":["x","y"],"amount":5}"#));
        assert!(!same(base, r#"{"amount":6,"to":["x"]}"#));
        assert!(!same(base, r#"{"amount":5,"to":["z"]}"#));
        assert!(!same(base, r#"{"amount":5}"#));
        assert!(!same(r#"{"amount":null}"#, "{}"), "null is not absent");
    }

    fn form(boundary: &str, value: &str) -> (Parts, String) {
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n{value}\r\n\
             --{boundary}--\r\n"
        );
        (parts("POST", "/", &content_type), body)
    }

    #[test]
    fn hazard_29_a_new_boundary_is_the_same_request() {
        let bytes = rule(BodyFingerprint::Bytes);
        let (one, one_body) = form("aaaa", "value");
        let (two, two_body) = form("\"bbbbbbbbbb\"", "value");
        let two_body = two_body.replace('"', "").replace("name=f", "name=\"f\"");
        assert!(same((&one, &one_body), (&two, &two_body), &bytes));
        let (other, other_body) = form("aaaa", "other");
        assert!(!same((&one, &one_body), (&other, &other_body), &bytes));
    }

    #[test]
    fn hazard_30_equal_bodies_are_told_apart_by_their_keys_alone() {
        // The fingerprint never finds a record; it only checks one that the key has found.
        use onlyonce_core::{Key, RecordId, Scope, Secret};
        let id = |key: &str| {
            RecordId::new(
                &Secret::well_known(),
                &Scope::shared(),
                &Key::new(key).unwrap(),
            )
        };
        assert_ne!(id("customer-1"), id("customer-2"));
    }
}
