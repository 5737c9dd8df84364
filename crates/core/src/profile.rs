//! Settings that belong together.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};

use crate::{
    Anonymous, Concurrent, FingerprintRule, KeyRule, OnStoreFailure, OnUnknown, Policy, ScopeRule,
    StatusSet, Syntax,
};

/// A set of defaults; a setting that is named wins over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// What most APIs want.
    #[default]
    Standard,
    /// draft-ietf-httpapi-idempotency-key-header-07.
    Ietf,
    /// As Stripe's public documentation describes its API.
    Stripe,
    /// As the idempotency middleware of the Go framework Fiber.
    Fiber,
    /// As a widespread Gin middleware with Redis.
    RedisGin,
    /// For what moves money: a key is required, a UUID, and every response is final.
    Payments,
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const X_IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("x-idempotency-key");

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 6] = [
        Self::Standard,
        Self::Ietf,
        Self::Stripe,
        Self::Fiber,
        Self::RedisGin,
        Self::Payments,
    ];

    /// Its name in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Ietf => "ietf",
            Self::Stripe => "stripe",
            Self::Fiber => "fiber",
            Self::RedisGin => "redis-gin",
            Self::Payments => "payments",
        }
    }

    pub(crate) fn policy(self) -> Policy {
        let standard = Policy {
            headers: vec![IDEMPOTENCY_KEY, X_IDEMPOTENCY_KEY],
            syntax: Syntax::Lenient,
            validate: KeyRule::Any,
            required: false,
            methods: vec![Method::POST, Method::PUT, Method::PATCH, Method::DELETE],
            scope: ScopeRule::Principal,
            anonymous: Anonymous::Share,
            fingerprint: FingerprintRule::default(),
            mismatch_status: StatusCode::UNPROCESSABLE_ENTITY,
            concurrent: Concurrent::Reject,
            wait_timeout: Duration::from_secs(10),
            max_waiters: 64,
            max_in_progress: None,
            lease: Duration::from_secs(10),
            lifetime: Duration::from_secs(24 * 3600),
            store: StatusSet::FINAL,
            store_service_errors: true,
            on_unknown: OnUnknown::Hold,
            on_store_failure: OnStoreFailure::Reject,
            store_failure_status: StatusCode::SERVICE_UNAVAILABLE,
            store_timeout: Duration::from_secs(1),
            buffer: 64 * 1024,
            max_request_body: 1024 * 1024 * 1024,
            max_response_body: 1024 * 1024,
            abandoned_stream_timeout: Duration::from_secs(60),
            replay_header: Some(HeaderName::from_static("idempotent-replayed")),
            verdict_headers: false,
            drop_headers: Vec::new(),
            keep_headers: None,
            reveal_keys: false,
            docs_url: "urn:onlyonce:problems".into(),
        };
        match self {
            Self::Standard => standard,
            Self::Ietf => Policy {
                headers: vec![IDEMPOTENCY_KEY],
                syntax: Syntax::Strict,
                methods: vec![Method::POST, Method::PATCH],
                ..standard
            },
            Self::Stripe => Policy {
                headers: vec![IDEMPOTENCY_KEY],
                methods: vec![Method::POST, Method::DELETE],
                mismatch_status: StatusCode::BAD_REQUEST,
                store: StatusSet::ALL,
                ..standard
            },
            Self::Fiber => Policy {
                headers: vec![X_IDEMPOTENCY_KEY],
                validate: KeyRule::Length(36),
                scope: ScopeRule::Shared,
                fingerprint: FingerprintRule::Off,
                concurrent: Concurrent::Wait,
                lifetime: Duration::from_secs(30 * 60),
                store: StatusSet::ALL,
                store_service_errors: false,
                on_unknown: OnUnknown::Retry,
                store_failure_status: StatusCode::INTERNAL_SERVER_ERROR,
                replay_header: None,
                ..standard
            },
            Self::RedisGin => Policy {
                headers: vec![X_IDEMPOTENCY_KEY],
                required: true,
                fingerprint: FingerprintRule::Off,
                store: StatusSet::BELOW_500,
                on_unknown: OnUnknown::Retry,
                on_store_failure: OnStoreFailure::Bypass,
                replay_header: None,
                ..standard
            },
            Self::Payments => Policy {
                validate: KeyRule::Uuid,
                required: true,
                anonymous: Anonymous::Refuse,
                concurrent: Concurrent::Wait,
                store: StatusSet::ALL,
                ..standard
            },
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text names no [`Profile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such profile; there are standard, ietf, stripe, fiber, redis-gin and payments")]
pub struct UnknownProfile;

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.as_str() == name)
            .ok_or(UnknownProfile)
    }
}
