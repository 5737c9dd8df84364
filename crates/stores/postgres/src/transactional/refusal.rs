//! Why a handler gets no transaction.

use http::{Response, StatusCode, header};

/// Why there is no transaction to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoTransaction {
    /// The request has no key, so that nobody would commit: set `required` in the policy.
    #[error("the request has no idempotency key, and needs one here")]
    NoKey,
    /// The claim is of another store, or its execution has ended.
    #[error("the claim is not one that this store executes")]
    NotExecuting,
    /// Somebody else has it: another extractor of the same request, or a task that was not waited
    /// for.
    #[error("the request's transaction is in use already")]
    InUse,
}

impl NoTransaction {
    /// 400 `key-missing` for a request without a key; else 500: the application is put together
    /// wrongly, and its log says how. The reason is among the response's extensions.
    pub fn into_response(self) -> Response<String> {
        let (status, name, title) = match self {
            Self::NoKey => (
                StatusCode::BAD_REQUEST,
                "key-missing",
                "Idempotency key missing",
            ),
            Self::NotExecuting | Self::InUse => {
                tracing::error!(error = &self as &dyn std::error::Error, "no transaction");
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "store-unavailable",
                    "Idempotency store unavailable",
                )
            }
        };
        let number = status.as_u16();
        // Nothing in it that JSON would escape.
        let mut response = Response::new(format!(
            "{{\"type\":\"#{name}\",\"title\":\"{title}\",\"status\":{number},\
             \"detail\":\"{self}\",\"retryable\":false}}"
        ));
        *response.status_mut() = status;
        let kind = header::HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response.extensions_mut().insert(self);
        response
    }
}
