//! Refusals, as RFC 9457 problem documents.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LINK, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use onlyonce_core::{Nonce, Policy, RecordId};
use serde::Serialize;

use super::TraceId;
use crate::Outcome;

/// What kind of refusal it is; the last part of the problem's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A key is required here, and there is none. 400
    KeyMissing,
    /// The key is malformed, given twice, or breaks the rule for keys. 400
    KeyInvalid,
    /// The caller has no credential, and anonymous callers may not use keys. 400
    KeyUnscoped,
    /// The key was used for another request. 422, or 400 by profile
    KeyReused,
    /// The first request with the key is still at work. 409
    InProgress,
    /// Nobody knows whether the first request was executed. 409
    OutcomeUnknown,
    /// The first request was executed, but its response was not kept. 409
    ResponseNotKept,
    /// The store fails, or the service is shutting down. 503, or 500 by profile
    StoreUnavailable,
    /// The store is full of live records. 503
    StoreFull,
    /// The caller has too many keyed requests at work. 429
    TooManyInProgress,
    /// The request's body is longer than allowed. 413
    BodyTooLarge,
    /// The request's body could not be read. 400
    BodyUnreadable,
}

impl ProblemKind {
    /// Its name in the problem's `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyMissing => "key-missing",
            Self::KeyInvalid => "key-invalid",
            Self::KeyUnscoped => "key-unscoped",
            Self::KeyReused => "key-reused",
            Self::InProgress => "in-progress",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::ResponseNotKept => "response-not-kept",
            Self::StoreUnavailable => "store-unavailable",
            Self::StoreFull => "store-full",
            Self::TooManyInProgress => "too-many-in-progress",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyUnreadable => "body-unreadable",
        }
    }

    /// A short text, the same for every problem of the kind.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::KeyMissing => "Idempotency key missing",
            Self::KeyInvalid => "Idempotency key invalid",
            Self::KeyUnscoped => "Idempotency key without a caller",
            Self::KeyReused => "Idempotency key used for another request",
            Self::InProgress => "Request in progress",
            Self::OutcomeUnknown => "Outcome unknown",
            Self::ResponseNotKept => "Response not kept",
            Self::StoreUnavailable => "Idempotency store unavailable",
            Self::StoreFull => "Idempotency store full",
            Self::TooManyInProgress => "Too many requests in progress",
            Self::BodyTooLarge => "Request body too large",
            Self::BodyUnreadable => "Request body unreadable",
        }
    }

    /// Whether the same request with the same key may succeed when it is sent again.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::InProgress
                | Self::StoreUnavailable
                | Self::StoreFull
                | Self::TooManyInProgress
                | Self::BodyUnreadable
        )
    }

    /// Whether it is all that the key will ever get for this request, however often it is sent,
    /// and whoever does what in the meantime.
    pub(crate) const fn is_final(self) -> bool {
        !self.is_retryable() && !matches!(self, Self::OutcomeUnknown)
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::KeyReused => Outcome::Mismatch,
            Self::InProgress => Outcome::InProgress,
            Self::OutcomeUnknown => Outcome::Unknown,
            Self::ResponseNotKept => Outcome::NotKept,
            _ => Outcome::Rejected,
        }
    }

    fn status(self, policy: &Policy) -> StatusCode {
        match self {
            Self::KeyMissing | Self::KeyInvalid | Self::KeyUnscoped | Self::BodyUnreadable => {
                StatusCode::BAD_REQUEST
            }
            Self::KeyReused => policy.mismatch_status,
            Self::InProgress | Self::OutcomeUnknown | Self::ResponseNotKept => StatusCode::CONFLICT,
            Self::StoreUnavailable => policy.store_failure_status,
            Self::StoreFull => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyInProgress => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

/// A refusal: everything that its response says.
///
/// A renderer given to
/// [`IdempotencyLayer::with_renderer`](super::IdempotencyLayer::with_renderer) turns it into a
/// response of its own; the default is [`Problem::to_response`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// What kind of refusal.
    pub kind: ProblemKind,
    /// The response's status.
    pub status: StatusCode,
    /// What is wrong with this very request, and what to do.
    pub detail: Box<str>,
    /// When a retry makes sense.
    pub retry_after: Option<Duration>,
    /// The status of the first execution, where its response was not kept.
    pub original_status: Option<u16>,
    /// The request's trace ID.
    pub instance: Box<str>,
    /// The base of the `type`, and the target of the `Link`.
    pub docs_url: Box<str>,
    /// Which record: the short hash that stands for the key.
    pub key_tag: Option<Box<str>>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hash: Option<&'a str>,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, policy: &Policy, detail: impl Into<Box<str>>) -> Self {
        let retry_after = kind.is_retryable().then_some(Duration::from_secs(1));
        Self {
            kind,
            status: kind.status(policy),
            detail: detail.into(),
            retry_after,
            original_status: None,
            instance: Box::default(),
            docs_url: policy.docs_url.clone(),
            key_tag: None,
        }
    }

    pub(crate) fn about(mut self, id: &RecordId) -> Self {
        self.key_tag = Some(id.tag().into());
        self
    }

    pub(crate) fn traced(mut self, trace: Option<&TraceId>) -> Self {
        self.instance = match trace {
            Some(TraceId(id)) => id.as_ref().into(),
            None => {
                let random = u128::from_le_bytes(*Nonce::random().as_bytes());
                format!("{random:032x}").into()
            }
        };
        self
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.kind.outcome()
    }

    /// The document as JSON, as `application/problem+json` (RFC 9457) carries it.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        let document = Document {
            r#type: format!("{}#{}", self.docs_url, self.kind.as_str()),
            title: self.kind.title(),
            status: self.status.as_u16(),
            detail: &self.detail,
            instance: &self.instance,
            retryable: self.kind.is_retryable(),
            original_status: self.original_status,
            key_hash: self.key_tag.as_deref(),
        };
        // Strings and integers: nothing in it can fail to be JSON.
        Bytes::from(serde_json::to_vec(&document).unwrap_or_default())
    }

    /// The response: status, `application/problem+json`, `Link` to the documentation,
    /// `Retry-After` where a retry makes sense, and `Cache-Control: no-store`. The problem itself
    /// is in its extensions, for layers outside that tell of it in another form.
    #[must_use]
    pub fn to_response(&self) -> Response<Bytes> {
        let mut response = Response::new(self.to_json());
        response.extensions_mut().insert(self.clone());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let link = format!("<{}>; rel=\"describedby\"", self.docs_url);
        if let Ok(link) = HeaderValue::from_str(&link) {
            headers.insert(LINK, link);
        }
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}
