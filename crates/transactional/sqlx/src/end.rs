//! Ending: committing the record with the effects, or neither.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{
    Completion, Done, Fenced, Fingerprint, Lease, Operation, StoreError, StoreErrorKind, Timestamp,
};
use sqlx::{AssertSqlSafe, Postgres, Transaction};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::open::{Ended, Execution, Slot};
use crate::store::{Inner, failed, is_state};
use crate::tx::UNDO;

const OPERATION: Operation = Operation::Complete;
/// How long a handler's tasks may still hold the transaction after it has answered.
const LENT: Duration = Duration::from_secs(5);
/// How long a commit whose answer was lost is looked for.
const SEARCH: Duration = Duration::from_secs(30);
/// How long it is known how an execution ended, for a call that comes again.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What is to be written.
struct Ending {
    lease: Lease,
    completion: Completion,
    keep: Duration,
    nonce: [u8; 16],
    label: Box<str>,
    fingerprint: Option<Fingerprint>,
    age: Duration,
}

impl Inner {
    pub(crate) async fn complete(
        self: &Arc<Self>,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let ended = self.begin_ending(lease, completion, keep);
        let Some(mut ended) = ended else {
            // Perhaps it has been told already how it ended.
            let committed = self.was_committed(lease).await;
            return match committed.map_err(|error| failed(OPERATION, error))? {
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
            nonce: *execution.nonce.as_bytes(),
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

    async fn end(&self, ending: &Ending, slot: Slot) -> Result<Fenced, StoreError> {
        let taken = tokio::time::timeout(LENT, slot.lock_owned()).await;
        let Some(mut transaction) = taken.ok().and_then(|mut slot| slot.take()) else {
            return Err(StoreError::new(
                OPERATION,
                StoreErrorKind::Poisoned,
                "the handler has answered, and still holds its transaction",
            ));
        };
        if !self.write(ending, &mut transaction).await? {
            let _ = transaction.rollback().await;
            return Ok(Fenced::Superseded);
        }
        match transaction.commit().await {
            Ok(()) => Ok(Fenced::Applied),
            Err(error) if error.as_database_error().is_some() => Err(failed(OPERATION, error)),
            Err(error) => {
                tracing::warn!(
                    key = ending.lease.id.tag(),
                    error = &error as &dyn std::error::Error,
                    "the answer to a commit was lost; looking for it"
                );
                self.search(ending, error).await
            }
        }
    }

    /// Writes the record into the transaction; false when another one is there.
    async fn write(
        &self,
        ending: &Ending,
        transaction: &mut Transaction<'static, Postgres>,
    ) -> Result<bool, StoreError> {
        let refused = |error| failed(OPERATION, error);
        let status = ending.status();
        if status >= 500 {
            // A failure that the policy keeps must not keep half of what was done.
            let undone = sqlx::query(UNDO).execute(&mut **transaction).await;
            undone.map_err(refused)?;
        }
        match self.insert(ending, transaction).await {
            // A statement of the handler's has failed, and with it the transaction.
            Err(error) if is_state(&error, &["25P02"]) => {
                if status < 400 {
                    return Err(StoreError::new(
                        OPERATION,
                        StoreErrorKind::Poisoned,
                        "a statement of the handler's failed, and it reports a success: nothing \
                         can be committed",
                    )
                    .with_source(error));
                }
                let undone = sqlx::query(UNDO).execute(&mut **transaction).await;
                undone.map_err(refused)?;
                self.insert(ending, transaction).await.map_err(refused)
            }
            inserted => inserted.map_err(refused),
        }
    }

    async fn insert(
        &self,
        ending: &Ending,
        transaction: &mut Transaction<'static, Postgres>,
    ) -> Result<bool, sqlx::Error> {
        let (state, status, result) = match &ending.completion.done {
            Done::Unknown => (1_i16, None, None),
            Done::Kept { status, result } => (2, Some(i32::from(*status)), Some(&result[..])),
            Done::NotKept { status } => (3, Some(i32::from(*status)), None),
        };
        let fingerprint = ending.fingerprint.map(|fingerprint| {
            let mut bytes = vec![fingerprint.algorithm() as u8];
            bytes.extend(fingerprint.digest());
            bytes
        });
        sqlx::query_scalar(AssertSqlSafe(self.sql.end.as_str()))
            .bind(&ending.lease.id.as_bytes()[..])
            .bind(fence_number(&ending.lease))
            .bind(&ending.nonce[..])
            .bind(state)
            .bind(status)
            .bind(fingerprint)
            .bind(result)
            .bind(ending.label.as_bytes())
            .bind(millis(ending.age))
            .bind(millis(ending.keep))
            .fetch_one(&mut **transaction)
            .await
    }

    /// Whether a commit whose answer was lost took place. The lock tells when its transaction has
    /// ended, the record how.
    async fn search(&self, ending: &Ending, lost: sqlx::Error) -> Result<Fenced, StoreError> {
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
        Err(StoreError::new(OPERATION, StoreErrorKind::Poisoned, message).with_source(lost))
    }

    /// Waits for a transaction that has the record's lock.
    async fn was_committed(&self, lease: &Lease) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(AssertSqlSafe(self.sql.committed.as_str()))
            .bind(&lease.id.as_bytes()[..])
            .bind(fence_number(lease))
            .fetch_one(&self.pool)
            .await
    }

    pub(crate) async fn release(self: &Arc<Self>, lease: &Lease) -> Result<Fenced, StoreError> {
        let Some(execution) = self.executions.remove(&lease.id, lease.fence) else {
            return Ok(Fenced::Superseded);
        };
        if execution.ending.is_some() {
            // It is being completed, or has been.
            self.executions.lock().entry(lease.id).or_insert(execution);
            return Ok(Fenced::Superseded);
        }
        let (inner, id) = (Arc::clone(self), lease.id);
        let undoing = tokio::spawn(async move {
            undo(execution).await;
            inner.watchers.notify(&id);
            // Other nodes' waiters: they would look by themselves, but later.
            let announced = sqlx::query(AssertSqlSafe(inner.sql.announce.as_str()))
                .bind(&id.as_bytes()[..])
                .execute(&inner.pool);
            let _ = announced.await;
        });
        let _ = undoing.await;
        Ok(Fenced::Applied)
    }
}

async fn undo(execution: Execution) {
    let Ok(mut slot) = tokio::time::timeout(LENT, execution.slot.lock_owned()).await else {
        tracing::warn!("a task holds the transaction of a handler that has ended");
        return;
    };
    if let Some(transaction) = slot.take() {
        // If it can't be said, the server finds out when the connection closes.
        let _ = transaction.rollback().await;
    }
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

fn fence_number(lease: &Lease) -> i64 {
    i64::try_from(lease.fence.get()).unwrap_or(-1)
}

/// Rounded up, and no longer than some 35,000 years.
fn millis(span: Duration) -> i64 {
    let millis = Timestamp::from_millis(0).plus(span).as_millis();
    i64::try_from(millis.min(1 << 50)).unwrap_or(i64::MAX)
}
