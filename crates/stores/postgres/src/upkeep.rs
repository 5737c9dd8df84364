//! Removing what has expired.

use std::sync::{Arc, Weak};
use std::time::Duration;

use onlyonce_core::{Operation, StoreError};
use tokio_postgres::types::Type;

use crate::query::Parameter;
use crate::store::{Inner, only};

const INTERVAL: Duration = Duration::from_secs(10);
/// Rows that go in one transaction: few enough for a claim to wait for.
const BATCH: i32 = 1_000;

/// Sweeps until the store is gone. An error ends a round, never the sweeping.
pub(crate) fn begin(store: &Arc<Inner>) {
    let store = Arc::downgrade(store);
    tokio::spawn(async move {
        let mut failing = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let done = round(&store).await;
            match done {
                None => return,
                Some(Ok(())) => failing = false,
                // Once for a series of them: whoever works with the store hears of it anyhow.
                Some(Err(error)) if !failing => {
                    failing = true;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "expired records could not be removed; trying again"
                    );
                }
                Some(Err(_)) => {}
            }
        }
    });
}

/// `None` when the store is gone.
async fn round(store: &Weak<Inner>) -> Option<Result<(), StoreError>> {
    loop {
        match store.upgrade()?.sweep().await {
            Ok(gone) if gone < i64::from(BATCH) => return Some(Ok(())),
            Ok(_) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

impl Inner {
    /// Removes up to a batch of expired records; how many it were.
    pub(crate) async fn sweep(&self) -> Result<i64, StoreError> {
        const OPERATION: Operation = Operation::Inspect;
        let parameters: [Parameter<'_>; 1] = [(&BATCH, Type::INT4)];
        let statement = &self.statements.sweep;
        let rows = self.call(OPERATION, true, statement, &parameters).await?;
        let gone = only(OPERATION, &rows)?.try_get(0);
        gone.map_err(|error| crate::error::strange(OPERATION, error))
    }
}
