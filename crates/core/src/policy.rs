//! How keyed requests are treated: typed, validated settings.

use std::time::Duration;

use http::{HeaderName, Method, StatusCode};

use crate::{KeyRule, OnUnknown, Profile, StatusSet, Syntax};

/// How keyed requests are treated on one route.
///
/// Starts from a [`Profile`]; each setting can then be changed, by its builder or in place.
/// [`check`](Self::check) refuses what cannot work; the engine and the layer call it.
///
/// # Example
/// ```
/// use onlyonce_core::{Concurrent, Policy, Profile};
/// use std::time::Duration;
///
/// let policy = Policy::new(Profile::Payments)
///     .with_lifetime(Duration::from_secs(7 * 24 * 3600))
///     .with_concurrent(Concurrent::Reject);
/// assert!(policy.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Headers that carry the key, in order; the first that is present wins.
    pub headers: Vec<HeaderName>,
    /// How the key may be written.
    pub syntax: Syntax,
    /// What the key must look like.
    pub validate: KeyRule,
    /// Whether a request without a key is refused with 400.
    pub required: bool,
    /// Methods that are protected. Safe methods always pass untouched.
    pub methods: Vec<Method>,
    /// Whose key it is.
    pub scope: ScopeRule,
    /// What to do with callers without any credential, under [`ScopeRule::Principal`].
    pub anonymous: Anonymous,
    /// What is hashed to tell a retry from another request.
    pub fingerprint: FingerprintRule,
    /// Status of the refusal when a key is used for another request: 422, or 400 for Stripe.
    pub mismatch_status: StatusCode,
    /// What a request gets while the first one is at work.
    pub concurrent: Concurrent,
    /// How long a waiting request is held at most.
    pub wait_timeout: Duration,
    /// How many requests wait for one key at most; above it they are refused with 409.
    pub max_waiters: usize,
    /// How many keyed requests of one scope are at work at most on this node; above it 429.
    /// `None`: no limit.
    pub max_in_progress: Option<usize>,
    /// How long an owner may work before it renews; it renews every third of this.
    pub lease: Duration,
    /// How long a completed record is kept, counted from completion.
    pub lifetime: Duration,
    /// Statuses that are stored; other responses release the key.
    pub store: StatusSet,
    /// Whether a service's error or panic counts as a 500 under [`store`](Self::store). Off, it
    /// always releases the key.
    pub store_service_errors: bool,
    /// What to do with a key whose owner vanished.
    pub on_unknown: OnUnknown,
    /// What to do when the store fails.
    pub on_store_failure: OnStoreFailure,
    /// Status of the refusal when the store fails: 503, or 500 for Fiber.
    pub store_failure_status: StatusCode,
    /// Time limit of each call to the store.
    pub store_timeout: Duration,
    /// Request bodies up to this many bytes are read before the claim; larger ones stream.
    pub buffer: usize,
    /// Longest request body, in bytes; beyond it 413.
    pub max_request_body: u64,
    /// Longest response body that is kept, in bytes; a longer one streams through.
    pub max_response_body: usize,
    /// How long one who does not go on is waited for, once the service has answered: a stream
    /// whose client has gone is still followed for so long, a client that reads nothing of a
    /// stream for so long counts as gone, and a request body of which nothing is read for so
    /// long is given up.
    pub abandoned_stream_timeout: Duration,
    /// Header that marks a replay; `None`: no mark.
    pub replay_header: Option<HeaderName>,
    /// Whether keyed responses carry `Idempotency-Outcome` and `Idempotency-Expires`.
    pub verdict_headers: bool,
    /// Response headers that are not kept.
    pub drop_headers: Vec<HeaderName>,
    /// If given, the only response headers that are kept.
    pub keep_headers: Option<Vec<HeaderName>>,
    /// Whether keys may show in logs, traces and error bodies.
    pub reveal_keys: bool,
    /// Where the documentation of this API's idempotency is: the base of problem types.
    pub docs_url: Box<str>,
}

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeRule {
    /// The authenticated principal; else the `Authorization` header's holder; else anonymous.
    Principal,
    /// The value of this header; a request without it is anonymous.
    Header(HeaderName),
    /// Keys are global: any caller who knows a key gets its response.
    Shared,
}

/// What to do with callers without any credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// They share one scope: whoever knows another's key gets its response.
    Share,
    /// Their keyed requests are refused with 400 `key-unscoped`.
    Refuse,
}

/// What is hashed to tell a retry from another request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FingerprintRule {
    /// Nothing: any request with the key gets the first one's response.
    Off,
    /// Method, path with query, content type, these further headers, and the body.
    On {
        /// How the body counts.
        body: BodyFingerprint,
        /// Further headers that count.
        headers: Vec<HeaderName>,
    },
}

impl Default for FingerprintRule {
    fn default() -> Self {
        Self::On {
            body: BodyFingerprint::Bytes,
            headers: Vec::new(),
        }
    }
}

/// How the body counts in the fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyFingerprint {
    /// Byte by byte (`multipart/form-data` part by part, without its boundary).
    #[default]
    Bytes,
    /// As JSON: the order of keys and white space do not matter. A body that is not JSON, or is
    /// longer than [`Policy::buffer`], counts byte by byte.
    Json,
    /// Not at all.
    None,
    /// These JSON pointers (RFC 6901) alone. A body that is not JSON, or is longer than
    /// [`Policy::buffer`], counts byte by byte.
    Pointers(Vec<Box<str>>),
}

/// What a request gets while the first one with its key is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrent {
    /// 409 with `Retry-After`.
    Reject,
    /// It is held up to [`Policy::wait_timeout`] and gets the answer; 409 on time-out.
    Wait,
}

/// What to do when the store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// 503 with `Retry-After`.
    Reject,
    /// Execute without protection, logged and counted.
    Bypass,
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct PolicyError {
    /// The setting's name, as in the field of [`Policy`] and in the gateway's settings.
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub problem: Box<str>,
}

impl Policy {
    /// The longest [`lifetime`](Self::lifetime): 10 years.
    pub const LONGEST_LIFETIME: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

    /// The settings of `profile`.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        profile.policy()
    }

    /// Refuses settings that cannot work together.
    ///
    /// # Errors
    /// Names the first such setting and the remedy.
    pub fn check(&self) -> Result<(), PolicyError> {
        let fail = |field, problem: &str| {
            Err(PolicyError {
                field,
                problem: problem.into(),
            })
        };
        if self.headers.is_empty() {
            return fail(
                "headers",
                "is empty: name at least one header that carries the key",
            );
        }
        if let Some(method) = self.methods.iter().find(|method| method.is_safe()) {
            let problem = format!("has {method}, a safe method, which is never protected");
            return fail("methods", &problem);
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&self.lease) {
            return fail("lease", "must be between 100 ms and 1 h");
        }
        if !(Duration::from_secs(1)..=Self::LONGEST_LIFETIME).contains(&self.lifetime) {
            return fail("lifetime", "must be between 1 s and 10 years");
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&self.wait_timeout) {
            return fail("wait_timeout", "must be between 1 ms and 1 h");
        }
        if self.store_timeout < Duration::from_millis(1) {
            return fail("store_timeout", "must be at least 1 ms");
        }
        if self.store_timeout > self.lease / 3 {
            return fail(
                "store_timeout",
                "must be at most a third of `lease`, or a slow renewal loses the lease",
            );
        }
        if self.buffer as u64 > self.max_request_body {
            return fail("buffer", "must not exceed `max_request_body`");
        }
        let stream = Duration::from_millis(100)..=Duration::from_secs(24 * 3600);
        if !stream.contains(&self.abandoned_stream_timeout) {
            return fail(
                "abandoned_stream_timeout",
                "must be between 100 ms and 24 h",
            );
        }
        if self.max_waiters == 0 && self.concurrent == Concurrent::Wait {
            return fail(
                "max_waiters",
                "is 0, so nobody could wait: set `concurrent` to reject",
            );
        }
        if self.max_in_progress == Some(0) {
            return fail(
                "max_in_progress",
                "is 0, so nothing could run: leave it out for no limit",
            );
        }
        if !matches!(self.mismatch_status.as_u16(), 400 | 409 | 422) {
            return fail("mismatch_status", "must be 400, 409 or 422");
        }
        if !self.store_failure_status.is_server_error() {
            return fail("store_failure_status", "must be a 5xx status");
        }
        if let FingerprintRule::On {
            body: BodyFingerprint::Pointers(pointers),
            ..
        } = &self.fingerprint
        {
            let bad = |pointer: &str| !pointer.is_empty() && !pointer.starts_with('/');
            if let Some(pointer) = pointers.iter().find(|pointer| bad(pointer)) {
                let problem = format!("has `{pointer}`, which is no JSON pointer: begin with `/`");
                return fail("fingerprint", &problem);
            }
            if pointers.is_empty() {
                return fail(
                    "fingerprint",
                    "has an empty list of pointers: use `none` instead",
                );
            }
        }
        if self.keep_headers.is_some() && !self.drop_headers.is_empty() {
            return fail(
                "keep_headers",
                "and `drop_headers` exclude each other: use one of them",
            );
        }
        Ok(())
    }

    /// Whether a request with this method is protected.
    #[must_use]
    pub fn covers(&self, method: &Method) -> bool {
        !method.is_safe() && self.methods.contains(method)
    }
}

/// The builders: each changes one setting and says no more than the field of that name.
impl Policy {
    /// Sets [`headers`](Self::headers).
    #[must_use]
    pub fn with_headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.headers = headers.into_iter().collect();
        self
    }

    /// Sets [`syntax`](Self::syntax).
    #[must_use]
    pub fn with_syntax(mut self, syntax: Syntax) -> Self {
        self.syntax = syntax;
        self
    }

    /// Sets [`validate`](Self::validate).
    #[must_use]
    pub fn with_validate(mut self, rule: KeyRule) -> Self {
        self.validate = rule;
        self
    }

    /// Sets [`required`](Self::required).
    #[must_use]
    pub fn with_required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// Sets [`methods`](Self::methods).
    #[must_use]
    pub fn with_methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Sets [`scope`](Self::scope).
    #[must_use]
    pub fn with_scope(mut self, scope: ScopeRule) -> Self {
        self.scope = scope;
        self
    }

    /// Sets [`anonymous`](Self::anonymous).
    #[must_use]
    pub fn with_anonymous(mut self, anonymous: Anonymous) -> Self {
        self.anonymous = anonymous;
        self
    }

    /// Sets [`fingerprint`](Self::fingerprint).
    #[must_use]
    pub fn with_fingerprint(mut self, fingerprint: FingerprintRule) -> Self {
        self.fingerprint = fingerprint;
        self
    }

    /// Sets [`concurrent`](Self::concurrent).
    #[must_use]
    pub fn with_concurrent(mut self, concurrent: Concurrent) -> Self {
        self.concurrent = concurrent;
        self
    }

    /// Sets [`wait_timeout`](Self::wait_timeout).
    #[must_use]
    pub fn with_wait_timeout(mut self, timeout: Duration) -> Self {
        self.wait_timeout = timeout;
        self
    }

    /// Sets [`max_waiters`](Self::max_waiters).
    #[must_use]
    pub fn with_max_waiters(mut self, most: usize) -> Self {
        self.max_waiters = most;
        self
    }

    /// Sets [`max_in_progress`](Self::max_in_progress).
    #[must_use]
    pub fn with_max_in_progress(mut self, most: Option<usize>) -> Self {
        self.max_in_progress = most;
        self
    }

    /// Sets [`lease`](Self::lease).
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets [`lifetime`](Self::lifetime).
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets [`store`](Self::store).
    #[must_use]
    pub fn with_store(mut self, statuses: StatusSet) -> Self {
        self.store = statuses;
        self
    }

    /// Sets [`on_unknown`](Self::on_unknown).
    #[must_use]
    pub fn with_on_unknown(mut self, on_unknown: OnUnknown) -> Self {
        self.on_unknown = on_unknown;
        self
    }

    /// Sets [`on_store_failure`](Self::on_store_failure).
    #[must_use]
    pub fn with_on_store_failure(mut self, on_store_failure: OnStoreFailure) -> Self {
        self.on_store_failure = on_store_failure;
        self
    }

    /// Sets [`store_timeout`](Self::store_timeout).
    #[must_use]
    pub fn with_store_timeout(mut self, timeout: Duration) -> Self {
        self.store_timeout = timeout;
        self
    }

    /// Sets [`buffer`](Self::buffer).
    #[must_use]
    pub fn with_buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }

    /// Sets [`max_request_body`](Self::max_request_body).
    #[must_use]
    pub fn with_max_request_body(mut self, bytes: u64) -> Self {
        self.max_request_body = bytes;
        self
    }

    /// Sets [`max_response_body`](Self::max_response_body).
    #[must_use]
    pub fn with_max_response_body(mut self, bytes: usize) -> Self {
        self.max_response_body = bytes;
        self
    }

    /// Sets [`replay_header`](Self::replay_header).
    #[must_use]
    pub fn with_replay_header(mut self, header: Option<HeaderName>) -> Self {
        self.replay_header = header;
        self
    }

    /// Sets [`verdict_headers`](Self::verdict_headers).
    #[must_use]
    pub fn with_verdict_headers(mut self, on: bool) -> Self {
        self.verdict_headers = on;
        self
    }

    /// Sets [`drop_headers`](Self::drop_headers).
    #[must_use]
    pub fn with_drop_headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.drop_headers = headers.into_iter().collect();
        self
    }

    /// Sets [`keep_headers`](Self::keep_headers).
    #[must_use]
    pub fn with_keep_headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.keep_headers = Some(headers.into_iter().collect());
        self
    }

    /// Sets [`reveal_keys`](Self::reveal_keys).
    #[must_use]
    pub fn with_reveal_keys(mut self, reveal: bool) -> Self {
        self.reveal_keys = reveal;
        self
    }

    /// Sets [`docs_url`](Self::docs_url).
    #[must_use]
    pub fn with_docs_url(mut self, url: impl Into<Box<str>>) -> Self {
        self.docs_url = url.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_can_work() {
        for profile in Profile::ALL {
            assert_eq!(Policy::new(profile).check(), Ok(()), "{profile:?}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let base = || Policy::new(Profile::Standard);
        let field = |policy: Policy| policy.check().unwrap_err().field;
        assert_eq!(field(base().with_headers([])), "headers");
        assert_eq!(
            field(base().with_methods([Method::POST, Method::GET])),
            "methods"
        );
        assert_eq!(field(base().with_lease(Duration::ZERO)), "lease");
        assert_eq!(field(base().with_lifetime(Duration::ZERO)), "lifetime");
        assert_eq!(
            field(base().with_store_timeout(Duration::from_secs(4))),
            "store_timeout"
        );
        assert_eq!(
            field(base().with_store_timeout(Duration::MAX)),
            "store_timeout"
        );
        assert_eq!(
            field(base().with_buffer(10).with_max_request_body(9)),
            "buffer"
        );
        assert_eq!(
            field(base().with_concurrent(Concurrent::Wait).with_max_waiters(0)),
            "max_waiters"
        );
        assert_eq!(
            field(base().with_max_in_progress(Some(0))),
            "max_in_progress"
        );
        let pointers = BodyFingerprint::Pointers(vec!["amount".into()]);
        let rule = FingerprintRule::On {
            body: pointers,
            headers: vec![],
        };
        assert_eq!(field(base().with_fingerprint(rule)), "fingerprint");
        let mut stream = base();
        for timeout in [Duration::ZERO, Duration::MAX] {
            stream.abandoned_stream_timeout = timeout;
            assert_eq!(field(stream.clone()), "abandoned_stream_timeout");
        }
        let both = base()
            .with_drop_headers([http::header::SET_COOKIE])
            .with_keep_headers([http::header::LOCATION]);
        assert_eq!(field(both), "keep_headers");
    }

    #[test]
    fn safe_methods_are_never_covered() {
        let mut policy = Policy::new(Profile::Standard);
        policy.methods.push(Method::GET);
        assert!(!policy.covers(&Method::GET));
        assert!(policy.covers(&Method::POST));
    }
}
