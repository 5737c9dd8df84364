//! The extractor.

use axum_core::extract::{FromRef, FromRequestParts};
use axum_core::response::{IntoResponse as _, Response};
use http::request::Parts;
use onlyonce::Claimed;

use crate::{NoTransaction, TransactionalStore, Tx};

/// Refused with 400 `key-missing` for a request without a key; else with 500: the application is
/// put together wrongly, and its log says how. [`NoTransaction`] is among the response's extensions.
impl<S> FromRequestParts<S> for Tx
where
    TransactionalStore: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let claimed = parts.extensions.get::<Claimed>();
        let lent = match claimed {
            Some(claimed) => TransactionalStore::from_ref(state).transaction(claimed),
            None => Err(NoTransaction::NoKey),
        };
        lent.map_err(|why| why.into_response().into_response())
    }
}
