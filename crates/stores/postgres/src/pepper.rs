//! The secret of all who share the schema, in the schema.

use onlyonce_core::{InspectFuture, KeptSecret, Operation, Pepper, StoreError, StoreErrorKind};
use tokio_postgres::types::Type;

use crate::PostgresStore;
use crate::error::strange;
use crate::query::Parameter;
use crate::store::only;

const OPERATION: Operation = Operation::Open;

/// Kept in the one row of the table `secret`.
impl Pepper for PostgresStore {
    fn keep<'a>(&'a self, offer: Option<&'a KeptSecret>) -> InspectFuture<'a, Option<KeptSecret>> {
        Box::pin(async move {
            let offer = offer.map(KeptSecret::encode);
            let parameters: [Parameter<'_>; 1] = [(&offer, Type::BYTEA)];
            let statement = &self.0.statements.keep_secret;
            // Sent again, it finds what it kept.
            let rows = self.0.caller.query(OPERATION, true, statement, &parameters);
            let rows = rows.await?;
            let kept = only(OPERATION, &rows)?.try_get(0);
            let kept: Option<&[u8]> = kept.map_err(|error| strange(OPERATION, error))?;
            let kept = kept.map(KeptSecret::decode).transpose();
            kept.map_err(|error| {
                let message = format!("{} holds no secret", self.place());
                StoreError::new(OPERATION, StoreErrorKind::Corrupt, message).with_source(error)
            })
        })
    }

    fn place(&self) -> String {
        format!("the table `{}`", self.0.statements.secret_table)
    }
}
