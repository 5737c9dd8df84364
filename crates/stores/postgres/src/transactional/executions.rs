//! The executions of this process, and their transactions.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onlyonce_core::{
    Attempt, Fence, Fenced, Fingerprint, Lease, Nonce, RecordId, Renewal, StoreErrorKind,
};
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::Instant;

use super::refusal::NoTransaction;

/// `None` once it has ended.
pub(super) type Slot<T> = Arc<tokio::sync::Mutex<Option<T>>>;

/// How an execution ended: what every call of `complete` is answered with.
pub(super) type Ended = Result<Fenced, (StoreErrorKind, Arc<str>)>;

/// By record: another transaction could not have the same one's lock.
pub(super) struct Executions<T>(Mutex<HashMap<RecordId, Execution<T>>>);

pub(super) struct Execution<T> {
    pub(super) fence: Fence,
    pub(super) nonce: Nonce,
    pub(super) label: Box<str>,
    pub(super) begun: Instant,
    /// How long its record is kept, should the outcome be unknown.
    pub(super) keep: Duration,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) slot: Slot<T>,
    /// Once it is being completed.
    pub(super) ending: Option<watch::Receiver<Option<Ended>>>,
}

/// A transaction, lent to whoever executes; dropping it gives it back.
pub struct Lent<T>(OwnedMutexGuard<Option<T>>);

impl<T> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is lent only while it is there")
    }
}

impl<T> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is lent only while it is there")
    }
}

impl<T> Default for Executions<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Executions<T> {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<RecordId, Execution<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, attempt: &Attempt, fence: Fence, transaction: T) {
        let execution = Execution {
            fence,
            nonce: attempt.nonce,
            label: attempt.label.clone(),
            begun: Instant::now(),
            keep: attempt.keep,
            fingerprint: attempt.fingerprint,
            slot: Arc::new(tokio::sync::Mutex::new(Some(transaction))),
            ending: None,
        };
        // What is still there for this record has ended: its lock is free.
        self.lock().insert(attempt.id, execution);
    }

    pub(super) fn renew(&self, lease: &Lease, renewal: &Renewal) -> Fenced {
        match self.lock().get_mut(&lease.id) {
            Some(execution) if execution.fence == lease.fence && execution.ending.is_none() => {
                execution.fingerprint = renewal.fingerprint.or(execution.fingerprint);
                Fenced::Applied
            }
            _ => Fenced::Superseded,
        }
    }

    /// Takes an execution out, if it is this one.
    pub(super) fn remove(&self, id: &RecordId, fence: Fence) -> Option<Execution<T>> {
        let mut all = self.lock();
        let is = all
            .get(id)
            .is_some_and(|execution| execution.fence == fence);
        is.then(|| all.remove(id)).flatten()
    }

    pub(super) fn borrow(&self, id: &RecordId, fence: Fence) -> Result<Lent<T>, NoTransaction> {
        let slot = match self.lock().get(id) {
            Some(execution) if execution.fence == fence && execution.ending.is_none() => {
                Arc::clone(&execution.slot)
            }
            _ => return Err(NoTransaction::NotExecuting),
        };
        let guard = slot.try_lock_owned().map_err(|_| NoTransaction::InUse)?;
        if guard.is_none() {
            return Err(NoTransaction::NotExecuting);
        }
        Ok(Lent(guard))
    }

    pub(super) fn len(&self) -> usize {
        let all = self.lock();
        all.values().filter(|e| e.ending.is_none()).count()
    }
}
