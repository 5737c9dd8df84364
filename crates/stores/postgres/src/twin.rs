//! Claims that were sent twice, since a connection broke: the first may come after the second.
//!
//! A process of the server that is slow to wake runs what has reached it, though its client is gone.
//! By then the answer to the second may have been given, and the key released: it would be won again,
//! with nobody to own it.

use std::sync::Arc;

use onlyonce_core::{Attempt, Claim, OnUnknown, Store as _};

use crate::store::{Inner, PostgresStore};

/// Gives back what the first may still win, once the time for a step is over, and once more after a
/// lease.
pub(crate) async fn outlive(inner: Arc<Inner>, attempt: Attempt, answer: Claim) {
    let owner = match &answer {
        Claim::Won(lease) => Some(lease.fence),
        Claim::Held(_) => None,
    };
    let waits = [inner.caller.limit, attempt.lease];
    let inner = {
        // The store is not kept open for this.
        let weak = Arc::downgrade(&inner);
        drop(inner);
        weak
    };
    // Found by its nonce; must not take over what it did not win.
    let attempt = Attempt {
        on_unknown: OnUnknown::Hold,
        ..attempt
    };
    for wait in waits {
        tokio::time::sleep(wait).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let store = PostgresStore(inner);
        let Ok(Claim::Won(lease)) = store.claim(&attempt).await else {
            continue;
        };
        // Under its owner's fence it is its owner's still.
        if owner == Some(lease.fence) {
            continue;
        }
        if let Err(error) = store.release(&lease).await {
            tracing::warn!(
                key = lease.id.tag(),
                error = &error as &dyn std::error::Error,
                "a claim that came too late could not be given back"
            );
        }
    }
}
