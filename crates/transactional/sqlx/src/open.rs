//! The executions of this process, and their transactions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onlyonce_core::{
    Attempt, Fence, Fenced, Fingerprint, Lease, Nonce, RecordId, Renewal, StoreErrorKind,
};
use sqlx::{Postgres, Transaction};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::tx::{NoTransaction, Tx};

/// `None` once it has ended.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Option<Transaction<'static, Postgres>>>>;

/// How an execution ended: what every call of `complete` is answered with.
pub(crate) type Ended = Result<Fenced, (StoreErrorKind, Arc<str>)>;

/// By record: another transaction could not have the same one's lock.
#[derive(Default)]
pub(crate) struct Executions(Mutex<HashMap<RecordId, Execution>>);

pub(crate) struct Execution {
    pub(crate) fence: Fence,
    pub(crate) nonce: Nonce,
    pub(crate) label: Box<str>,
    pub(crate) begun: Instant,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) slot: Slot,
    /// Once it is being completed.
    pub(crate) ending: Option<watch::Receiver<Option<Ended>>>,
}

impl Executions {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<RecordId, Execution>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(
        &self,
        attempt: &Attempt,
        fence: Fence,
        transaction: Transaction<'static, Postgres>,
    ) {
        let execution = Execution {
            fence,
            nonce: attempt.nonce,
            label: attempt.label.clone(),
            begun: Instant::now(),
            fingerprint: attempt.fingerprint,
            slot: Arc::new(tokio::sync::Mutex::new(Some(transaction))),
            ending: None,
        };
        // What is still there for this record has ended: its lock is free.
        self.lock().insert(attempt.id, execution);
    }

    pub(crate) fn renew(&self, lease: &Lease, renewal: &Renewal) -> Fenced {
        match self.lock().get_mut(&lease.id) {
            Some(execution) if execution.fence == lease.fence && execution.ending.is_none() => {
                execution.fingerprint = renewal.fingerprint.or(execution.fingerprint);
                Fenced::Applied
            }
            _ => Fenced::Superseded,
        }
    }

    /// Takes an execution out, if it is this one.
    pub(crate) fn remove(&self, id: &RecordId, fence: Fence) -> Option<Execution> {
        let mut all = self.lock();
        let is = all
            .get(id)
            .is_some_and(|execution| execution.fence == fence);
        is.then(|| all.remove(id)).flatten()
    }

    pub(crate) fn borrow(&self, id: &RecordId, fence: Fence) -> Result<Tx, NoTransaction> {
        let slot = match self.lock().get(id) {
            Some(execution) if execution.fence == fence && execution.ending.is_none() => {
                Arc::clone(&execution.slot)
            }
            _ => return Err(NoTransaction::NotExecuting),
        };
        let guard = slot.try_lock_owned().map_err(|_| NoTransaction::InUse)?;
        Tx::new(guard).ok_or(NoTransaction::NotExecuting)
    }

    pub(crate) fn len(&self) -> usize {
        let all = self.lock();
        all.values().filter(|e| e.ending.is_none()).count()
    }
}
