//! The extractor.

use axum_core::extract::{FromRef, FromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use onlyonce::Claimed;

use crate::TransactionalStore;
use crate::tx::{NoTransaction, Tx};

impl<S> FromRequestParts<S> for Tx
where
    TransactionalStore: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = NoTransaction;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, NoTransaction> {
        let claimed = parts.extensions.get::<Claimed>();
        let claimed = claimed.ok_or(NoTransaction::NoKey)?;
        TransactionalStore::from_ref(state).transaction(claimed)
    }
}

impl IntoResponse for NoTransaction {
    /// 400 `key-missing` for a request without a key; else 500: the application is put together
    /// wrongly, and its log says how.
    fn into_response(self) -> Response {
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
        let body = format!(
            "{{\"type\":\"#{name}\",\"title\":\"{title}\",\"status\":{number},\
             \"detail\":\"{self}\",\"retryable\":false}}"
        );
        let kind = (http::header::CONTENT_TYPE, "application/problem+json");
        (status, [kind], body).into_response()
    }
}
