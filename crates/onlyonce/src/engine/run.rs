//! The engine as a function: the same guarantees for jobs and message consumers.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use onlyonce_core::{
    BoxError, Decision, Done, Fingerprint, Key, Policy, PolicyError, Record, RecordId, Scope,
    State, StoreError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

use super::{Admission, Admittance, Engine, Owner, Settled};
use crate::{Claimed, Outcome};

/// A key and whose it is.
///
/// A bare [`Key`] converts into one in the [shared](Scope::shared) scope.
#[derive(Clone, Debug)]
pub struct ScopedKey {
    /// Whose key it is.
    pub scope: Scope,
    /// The key.
    pub key: Key,
}

impl From<Key> for ScopedKey {
    fn from(key: Key) -> Self {
        Self {
            scope: Scope::shared(),
            key,
        }
    }
}

impl From<(Scope, Key)> for ScopedKey {
    fn from((scope, key): (Scope, Key)) -> Self {
        Self { scope, key }
    }
}

/// A result, and whether it is this call's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran<T> {
    /// The first execution's result.
    pub value: T,
    /// [`Outcome::Executed`] or [`Outcome::Replayed`].
    pub outcome: Outcome,
    /// Which execution under the key it was.
    pub attempt: u32,
    /// Whether the store has the result. If not, it was executed all the same, and the key stays
    /// held.
    pub recorded: bool,
}

/// Why [`Engine::run`] has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The work itself failed. The key is released: the next call executes.
    Failed(E),
    /// Another call with the key is at work.
    InProgress,
    /// The key was used with another fingerprint.
    Mismatch,
    /// An earlier call's outcome is unknown, and the policy holds such keys.
    Unknown,
    /// It was executed, but its result was not kept.
    NotKept,
    /// The store failed before anything ran.
    Store(StoreError),
    /// The work ran, but its transaction was not committed, or is not known to be
    /// ([`Effects::WithRecord`](onlyonce_core::Effects)). To call again is safe.
    Uncommitted(StoreError),
    /// The engine is shutting down; nothing ran.
    Closing,
    /// The policy cannot work ([`Policy::check`]); nothing ran.
    Policy(PolicyError),
    /// The kept result can't be read as the type that is asked for.
    Decode(serde_json::Error),
    /// The work ran, but its result can't be encoded. The outcome is held as unknown.
    Encode(serde_json::Error),
}

impl<E: fmt::Display> fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "the work failed: {error}"),
            Self::InProgress => f.write_str("another call with this key is at work"),
            Self::Mismatch => f.write_str("the key was used with another fingerprint"),
            Self::Unknown => f.write_str("an earlier call's outcome is unknown"),
            Self::NotKept => f.write_str("it was executed, but its result was not kept"),
            Self::Store(error) => write!(f, "{error}"),
            Self::Uncommitted(error) => write!(f, "not committed: {error}"),
            Self::Closing => f.write_str("the engine is shutting down"),
            Self::Policy(error) => write!(f, "the policy cannot work: {error}"),
            Self::Decode(_) => f.write_str("the kept result is of another type"),
            Self::Encode(_) => f.write_str("the result can't be encoded"),
        }
    }
}

impl<E: Error + 'static> Error for RunError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Store(error) | Self::Uncommitted(error) => Some(error),
            Self::Policy(error) => Some(error),
            Self::Decode(error) | Self::Encode(error) => Some(error),
            _ => None,
        }
    }
}

impl Engine {
    /// Runs `work` once for `key`; every later call with it gets the first one's result.
    ///
    /// `fingerprint` tells a retry from another job with the same key ([`Fingerprint::of`] its
    /// input, or [`Fingerprint::OFF`]). The result is kept as JSON for `policy.lifetime`, if it is
    /// no longer than `policy.max_response_body` (later calls get [`RunError::NotKept`] else); an
    /// error is not kept and releases the key. Concurrent calls are refused or wait, a vanished
    /// owner is held or succeeded, as `policy` says.
    ///
    /// # Errors
    /// See [`RunError`].
    ///
    /// # Panics
    /// When `work` does (the key is released), and outside a tokio runtime.
    ///
    /// # Cancellation safety
    /// Dropped before `work` has begun, nothing runs. After that, `work` goes on, and its result
    /// is recorded.
    ///
    /// # Example
    /// ```
    /// use onlyonce::{Engine, Fingerprint, Key, Policy, Profile};
    /// use onlyonce_memory::MemoryStore;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let engine = Engine::new(MemoryStore::new());
    /// let policy = Policy::new(Profile::Standard);
    /// let send = async || {
    ///     let work = async { Ok::<_, std::io::Error>("sent".to_owned()) };
    ///     let key = Key::new("welcome-mail-7").unwrap();
    ///     engine.run(key, Fingerprint::OFF, &policy, work).await
    /// };
    /// assert_eq!(send().await.unwrap().attempt, 1);
    /// assert_eq!(send().await.unwrap().value, "sent"); // not sent again
    /// # }
    /// ```
    pub async fn run<T, E, F>(
        &self,
        key: impl Into<ScopedKey>,
        fingerprint: Fingerprint,
        policy: &Policy,
        work: F,
    ) -> Result<Ran<T>, RunError<E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Send + 'static,
    {
        self.run_with(key, fingerprint, policy, |_| work).await
    }

    /// As [`run`](Self::run); the work sees its [`Claimed`].
    ///
    /// # Errors
    /// See [`RunError`].
    ///
    /// # Panics
    /// As [`run`](Self::run).
    pub async fn run_with<T, E, F>(
        &self,
        key: impl Into<ScopedKey>,
        fingerprint: Fingerprint,
        policy: &Policy,
        work: impl FnOnce(Claimed) -> F,
    ) -> Result<Ran<T>, RunError<E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Send + 'static,
    {
        policy.check().map_err(RunError::Policy)?;
        let ScopedKey { scope, key } = key.into();
        let id = RecordId::new(self.secret(), &scope, &key);
        let policy = Arc::new(policy.clone());
        let admittance = Admittance {
            engine: self,
            policy: &policy,
            id,
            fingerprint: Some(fingerprint),
            label: "run".into(),
        };
        let (owner, entered) = match admittance.ask().await {
            Admission::Won(owner, entered) => (owner, entered),
            Admission::Held(decision, record) => return held(decision, &record),
            Admission::Failed(error) => return Err(RunError::Store(error)),
            Admission::Closing => return Err(RunError::Closing),
        };
        let lease = owner.lease();
        let claimed = Claimed {
            id,
            scope,
            key,
            fence: lease.fence,
            attempt: lease.attempt,
        };
        let work = match catch_unwind(AssertUnwindSafe(|| work(claimed))) {
            Ok(work) => work,
            Err(panic) => {
                let _ = self.spawn(owner.release()).await;
                resume_unwind(panic);
            }
        };
        // Detached: whoever waits for it may go away.
        let task = execute(owner, work).instrument(tracing::Span::current());
        let task = self.spawn(task);
        drop(entered);
        match task.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime is going down; what it did is unknown.
                Err(_) => Err(RunError::Unknown),
            },
        }
    }
}

async fn execute<T, E, F>(owner: Owner, work: F) -> Result<Ran<T>, RunError<E>>
where
    F: Future<Output = Result<T, E>>,
    T: Serialize + DeserializeOwned,
{
    let attempt = owner.lease().attempt;
    let value = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => {
            owner.release().await;
            return Err(RunError::Failed(error));
        }
        Err(panic) => {
            owner.release().await;
            resume_unwind(panic);
        }
    };
    let result = match serde_json::to_vec(&value) {
        Ok(json) => Bytes::from(json),
        Err(error) => {
            if owner.binds_effects() {
                owner.undo("the result can't be encoded").await;
            } else {
                let keep = owner.policy().lifetime;
                owner.complete(Done::Unknown, keep).await;
            }
            return Err(RunError::Encode(error));
        }
    };
    let keep = owner.policy().lifetime;
    let done = if result.len() > owner.policy().max_response_body {
        Done::NotKept { status: 0 }
    } else {
        Done::Kept { status: 0, result }
    };
    match owner.complete(done, keep).await {
        Settled::Superseded(Some((decision, record))) => held(decision, &record),
        Settled::Superseded(None) => Err(RunError::Unknown),
        Settled::Uncommitted(error) => Err(RunError::Uncommitted(error)),
        settled => {
            let recorded = matches!(settled, Settled::Recorded);
            Ok(Ran {
                value,
                outcome: Outcome::Executed,
                attempt,
                recorded,
            })
        }
    }
}

fn held<T: DeserializeOwned, E>(
    decision: Decision,
    record: &Record,
) -> Result<Ran<T>, RunError<E>> {
    match (decision, &record.state) {
        (
            Decision::Replay,
            State::Completed {
                kept: Some(kept), ..
            },
        ) => {
            let value = serde_json::from_slice(kept).map_err(RunError::Decode)?;
            let (outcome, attempt) = (Outcome::Replayed, record.attempt);
            Ok(Ran {
                value,
                outcome,
                attempt,
                recorded: true,
            })
        }
        (Decision::InProgress, _) => Err(RunError::InProgress),
        (Decision::Mismatch, _) => Err(RunError::Mismatch),
        (Decision::NotKept, _) => Err(RunError::NotKept),
        _ => Err(RunError::Unknown),
    }
}

/// Boxed, for callers who collect errors of many kinds.
impl<E: Error + Send + Sync + 'static> RunError<E> {
    /// This error, boxed.
    #[must_use]
    pub fn boxed(self) -> BoxError {
        Box::new(self)
    }
}
