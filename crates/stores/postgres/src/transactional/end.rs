//! Ending: committing the record with the effects, or neither.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{
    Completion, Done, Fenced, Fingerprint, Lease, Nonce, Operation, StoreError, StoreErrorKind,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Inner;
use super::driver::{Driver, Wrote};
use super::executions::{Ended, Execution, Slot};
use super::failure::Failure;
use crate::record;
use crate::store::fence_number;

const OPERATION: Operation = Operation::Complete;
/// How long a handler's tasks may still hold the transaction after it has answered.
const LENT: Duration = Duration::from_secs(5);
/// How long the server may be silent while a transaction ends.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a commit whose answer was lost is looked for.
const SEARCH: Duration = Duration::from_secs(30);
/// How long it is known how an execution ended, for a call that comes again.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What is to be written.
pub(super) struct Ending {
    pub(super) lease: Lease,
    pub(super) completion: Completion,
    pub(super) keep: Duration,
    pub(super) nonce: Nonce,
    pub(super) label: Box<str>,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) age: Duration,
}

impl<D: Driver> Inner<D> {
    pub(super) async fn complete(
        self: &Arc<Self>,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let ended = self.begin_ending(lease, completion, keep);
        let Some(mut ended) = ended else {
            // Perhaps it has been told already how it ended.
            let committed = self.was_committed(lease).await;
            return match committed.map_err(refused)? {
                true => Ok(Fenced::Applied),
                false => Ok(Fenced::Superseded),
            };
        };
        let outcome = ended.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        self.executions.remove(&lease.id, lease.fence);
        match outcome {
            Some(Ok(fenced)) => Ok(fenced),
            Some(Err((kind, message))) => Err(StoreError::new(OPERATION, kind, &*message)),
            // Its task has panicked: the transaction has been dropped with it.
            None => Err(StoreError::new(
                OPERATION,
                StoreErrorKind::Poisoned,
                "the transaction broke off",
            )),
        }
    }

    /// Begins to end an execution, once; `None` when it is not, or no more, one of ours.
    fn begin_ending(
        self: &Arc<Self>,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Option<watch::Receiver<Option<Ended>>> {
        let mut executions = self.executions.lock();
        let execution = executions.get_mut(&lease.id)?;
        if execution.fence != lease.fence {
            return None;
        }
        if let Some(ending) = &execution.ending {
            return Some(ending.clone());
        }
        let (send, receive) = watch::channel(None);
        execution.ending = Some(receive.clone());
        let slot = Arc::clone(&execution.slot);
        let ending = Ending {
            lease: lease.clone(),
            completion: completion.clone(),
            keep,
            nonce: execution.nonce,
            label: execution.label.clone(),
            fingerprint: completion.fingerprint.or(execution.fingerprint),
            age: Instant::now() - execution.begun,
        };
        drop(executions);
        // On a task of its own: from here on nobody may drop it half way.
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let ended = inner.end(&ending, slot).await;
            let ended = ended.map_err(|error| {
                tracing::warn!(
                    key = ending.lease.id.tag(),
                    error = &error as &dyn std::error::Error,
                    "not committed"
                );
                // Not to be tried again: the transaction is gone.
                let kind = match error.kind() {
                    StoreErrorKind::Unavailable | StoreErrorKind::Timeout => {
                        StoreErrorKind::Poisoned
                    }
                    kind => kind,
                };
                (kind, error.to_string().into())
            });
            send.send_replace(Some(ended));
            inner.watchers.notify(&ending.lease.id);
            // Until somebody has been told, who takes the execution and its receiver away.
            let _ = tokio::time::timeout(REMEMBERED, send.closed()).await;
            inner
                .executions
                .remove(&ending.lease.id, ending.lease.fence);
        });
        Some(receive)
    }

    async fn end(&self, ending: &Ending, slot: Slot<D::Transaction>) -> Result<Fenced, StoreError> {
        let taken = tokio::time::timeout(LENT, slot.lock_owned()).await;
        let Some(mut transaction) = taken.ok().and_then(|mut slot| slot.take()) else {
            return Err(StoreError::new(
                OPERATION,
                StoreErrorKind::Poisoned,
                "the handler has answered, and still holds its transaction",
            ));
        };
        let wrote = in_time(self.write(ending, &mut transaction)).await;
        let wrote = wrote.unwrap_or_else(|silence| Err(refused(silence)))?;
        if !wrote.ours {
            let _ = in_time(self.driver.commit(transaction)).await;
            return Err(StoreError::new(
                OPERATION,
                StoreErrorKind::Poisoned,
                "the handler has ended its transaction by itself: nobody knows what of it stands, \
                 and the key is held",
            ));
        }
        if !wrote.applied {
            let _ = in_time(self.driver.rollback(transaction)).await;
            return Ok(Fenced::Superseded);
        }
        match in_time(self.driver.commit(transaction)).await {
            Ok(Ok(())) => Ok(Fenced::Applied),
            Ok(Err(failure)) if !failure.leaves_it_open() => Err(refused(failure)),
            Ok(Err(failure)) | Err(failure) => {
                tracing::warn!(
                    key = ending.lease.id.tag(),
                    error = failure.source(),
                    "the answer to a commit was lost; looking for it"
                );
                self.search(ending, failure).await
            }
        }
    }

    /// Writes the record into the transaction.
    async fn write(
        &self,
        ending: &Ending,
        transaction: &mut D::Transaction,
    ) -> Result<Wrote, StoreError> {
        let status = ending.status();
        if status >= 500 {
            // A failure that the policy keeps must not keep half of what was done.
            match self.driver.undo(transaction).await {
                // There is nothing of ours to go back to: writing finds out.
                Err(failure) if failure.is_state(&["25P01", "3B001"]) => {}
                undone => undone.map_err(refused)?,
            }
        }
        let record = ending.written();
        match self.driver.write(transaction, &record).await {
            // A statement of the handler's has failed, and with it the transaction.
            Err(failure) if failure.is_state(&["25P02"]) => {
                if status < 400 {
                    return Err(StoreError::new(
                        OPERATION,
                        StoreErrorKind::Poisoned,
                        "a statement of the handler's failed, and it reports a success: nothing \
                         can be committed",
                    )
                    .with_source(failure.into_source()));
                }
                self.driver.undo(transaction).await.map_err(refused)?;
                let written = self.driver.write(transaction, &record).await;
                written.map_err(refused)
            }
            written => written.map_err(refused),
        }
    }

    /// Whether a commit whose answer was lost took place. The lock tells when its transaction has
    /// ended, the record how.
    async fn search(&self, ending: &Ending, lost: Failure) -> Result<Fenced, StoreError> {
        let asking = async {
            loop {
                match self.was_committed(&ending.lease).await {
                    Ok(found) => return found,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        let message = match tokio::time::timeout(SEARCH, asking).await {
            Ok(true) => return Ok(Fenced::Applied),
            Ok(false) => "the connection broke before the commit: nothing has happened",
            Err(_) => {
                "the connection broke in the commit, and nobody can say whether it took place"
            }
        };
        let error = StoreError::new(OPERATION, StoreErrorKind::Poisoned, message);
        Err(error.with_source(lost.into_source()))
    }

    async fn was_committed(&self, lease: &Lease) -> Result<bool, Failure> {
        let fence = fence_number(lease.fence);
        self.driver.was_committed(&lease.id, fence).await
    }

    pub(super) async fn release(self: &Arc<Self>, lease: &Lease) -> Fenced {
        let Some(execution) = self.executions.remove(&lease.id, lease.fence) else {
            return Fenced::Superseded;
        };
        if execution.ending.is_some() {
            // It is being completed, or has been.
            self.executions.lock().entry(lease.id).or_insert(execution);
            return Fenced::Superseded;
        }
        let (inner, lease) = (Arc::clone(self), lease.clone());
        let undoing = tokio::spawn(async move {
            let fenced = inner.undo(&lease, execution).await;
            inner.watchers.notify(&lease.id);
            // They would look by themselves, but later.
            let _ = in_time(inner.driver.announce(&lease.id)).await;
            fenced
        });
        undoing.await.unwrap_or(Fenced::Applied)
    }

    async fn undo(&self, lease: &Lease, execution: Execution<D::Transaction>) -> Fenced {
        let slot = Arc::clone(&execution.slot);
        let Ok(mut slot) = tokio::time::timeout(LENT, slot.lock_owned()).await else {
            tracing::warn!("a task holds the transaction of a handler that has ended");
            return Fenced::Applied;
        };
        let Some(mut transaction) = slot.take() else {
            return Fenced::Applied;
        };
        // The savepoint goes with the transaction, whoever ends it.
        let undone = in_time(self.driver.undo(&mut transaction)).await;
        let ended_before = matches!(
            undone,
            Ok(Err(failure)) if failure.is_state(&["25P01", "3B001"])
        );
        // If it can't be said, the server finds out when the connection closes.
        let _ = in_time(self.driver.rollback(transaction)).await;
        if !ended_before {
            return Fenced::Applied;
        }
        let held = in_time(self.hold(lease, execution)).await;
        if let Err(error) = held.unwrap_or_else(|silence| Err(refused(silence))) {
            tracing::error!(
                key = lease.id.tag(),
                error = &error as &dyn std::error::Error,
                "the handler has ended its transaction by itself, and the key could not be held: \
                 its request may execute again"
            );
        }
        Fenced::Superseded
    }

    /// Records that nobody knows what the handler did, which has ended its transaction by itself.
    async fn hold(
        &self,
        lease: &Lease,
        execution: Execution<D::Transaction>,
    ) -> Result<(), StoreError> {
        tracing::error!(
            key = lease.id.tag(),
            "the handler has ended its transaction by itself: nobody knows what of it stands, and \
             the key is held"
        );
        let begun = self.driver.begin(&lease.id).await;
        let (mut transaction, found) = begun.map_err(refused)?;
        if !found.won {
            // Somebody else is at work on it already, or has been.
            return self.driver.rollback(transaction).await.map_err(refused);
        }
        let fence = record::fence(OPERATION, found.record.fence)?;
        let ending = Ending {
            lease: Lease {
                fence,
                ..lease.clone()
            },
            completion: Completion {
                fingerprint: None,
                done: Done::Unknown,
            },
            keep: execution.keep,
            nonce: execution.nonce,
            label: execution.label,
            fingerprint: execution.fingerprint,
            age: Instant::now() - execution.begun,
        };
        let wrote = self.driver.write(&mut transaction, &ending.written()).await;
        wrote.map_err(refused)?;
        self.driver.commit(transaction).await.map_err(refused)
    }
}

fn refused(failure: Failure) -> StoreError {
    failure.into_error(OPERATION)
}

/// A server that is gone may leave a connection that is silent for ever.
async fn in_time<T>(step: impl Future<Output = T>) -> Result<T, Failure> {
    let done = tokio::time::timeout(SILENCE, step).await;
    done.map_err(Failure::broken)
}

impl Ending {
    fn status(&self) -> u16 {
        match &self.completion.done {
            Done::Kept { status, .. } | Done::NotKept { status } => *status,
            // Said by the handler itself: what it did stands.
            Done::Unknown => 0,
        }
    }
}
