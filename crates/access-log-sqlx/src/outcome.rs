//! What a sink answers, made of what the database does.

use onlyonce_core::BoxError;
use onlyonce_pipeline::access_log::{SinkError, SinkFuture};

/// Does `work`; says of an error that the rows could not be `action`.
pub(crate) fn of<'a, T, E>(
    action: &'static str,
    work: impl Future<Output = Result<T, E>> + Send + 'a,
) -> SinkFuture<'a, T>
where
    E: Into<BoxError>,
{
    Box::pin(async move { work.await.map_err(|error| SinkError::new(action, error)) })
}
