//! The store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Done, Effects, EntryState, Fence, Fenced, Lease,
    OnUnknown, Operation, RecordId, Renewal, Store, StoreError, StoreErrorKind, Watchers,
};
use redis::Value;

use crate::announce::Announcements;
use crate::attend::Attendant;
use crate::builder::Builder;
use crate::call::{Caller, Step, strange};
use crate::pepper::Keeping;
use crate::place::Places;
use crate::scripts::{Scripts, Source};
use crate::value;
use crate::warning::Warning;

/// Records on Redis or Valkey. Cloning is cheap and gives the same store.
///
/// See the [crate's documentation](crate) for URLs, settings and guarantees.
#[derive(Clone)]
pub struct RedisStore(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) caller: Caller,
    pub(crate) scripts: Scripts,
    pub(crate) watchers: Watchers,
    pub(crate) announcements: Announcements,
    /// Announcements by shard, as in a Cluster of version 7.
    pub(crate) sharded: bool,
    pub(crate) attendant: Attendant,
    pub(crate) keeping: Keeping,
    #[cfg(test)]
    pub(crate) clock: Option<crate::tests::TestClock>,
}

impl RedisStore {
    /// Connects to the servers of a URL, with the defaults of [`builder`](Self::builder).
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder(url).connect().await
    }

    /// Makes a store with settings of one's own, which win over those in the URL.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// Reads a URL without connecting anywhere: for a look at settings.
    ///
    /// # Errors
    /// [`Misconfigured`](onlyonce_core::StoreErrorKind::Misconfigured), with the remedy.
    pub fn check_url(url: &str) -> Result<(), StoreError> {
        Builder::new(url).check().map(drop)
    }

    /// The URL as it may be shown: `[hidden]` stands for users, passwords and all options but
    /// `prefix`, `replicas` and `timeout_ms`.
    #[must_use]
    pub fn shown_url(url: &str) -> String {
        crate::url::shown(url)
    }

    /// What may lose records, or refuse them.
    ///
    /// Connecting looks at every server that takes writes. One that is connected to later, such as
    /// the new master after a failover, is looked at soon after: what is found then is logged, and
    /// takes the place of what was known of it. Servers that take no writes any more are dropped.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        self.0.attendant.warnings().clone()
    }

    /// How many watches are open, over all records.
    #[must_use]
    pub fn open_watches(&self) -> usize {
        self.0.watchers.len()
    }
}

impl Store for RedisStore {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.0.keeping.check()?;
        let retry: &[u8] = match attempt.on_unknown {
            OnUnknown::Retry => b"1",
            OnUnknown::Hold => b"0",
        };
        let answer = self
            .0
            .run(
                Operation::Claim,
                &attempt.id,
                &self.0.scripts.claim,
                &[
                    attempt.nonce.as_bytes(),
                    &value::fingerprint(attempt.fingerprint.as_ref()),
                    value::millis(attempt.lease).as_bytes(),
                    value::millis(attempt.keep).as_bytes(),
                    retry,
                    attempt.label.as_bytes(),
                ],
            )
            .await?;
        claim_of(attempt, answer)
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        let answer = self
            .0
            .run(
                Operation::Renew,
                &lease.id,
                &self.0.scripts.renew,
                &[
                    &value::fence(lease.fence),
                    value::millis(renewal.extend).as_bytes(),
                    &value::learnt(renewal.fingerprint.as_ref()),
                ],
            )
            .await?;
        fenced(Operation::Renew, &answer)
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let state = match &completion.done {
            Done::Kept { status, result } => EntryState::Completed {
                status: *status,
                kept: Some(result.clone()),
            },
            Done::NotKept { status } => EntryState::Completed {
                status: *status,
                kept: None,
            },
            Done::Unknown => EntryState::Unknown,
        };
        let answer = self
            .0
            .run(
                Operation::Complete,
                &lease.id,
                &self.0.scripts.complete,
                &[
                    &value::fence(lease.fence),
                    &value::learnt(completion.fingerprint.as_ref()),
                    value::millis(keep).as_bytes(),
                    &value::tail(state),
                    self.0.publish(),
                    self.0.caller.places.key(&lease.id).as_bytes(),
                ],
            )
            .await?;
        fenced(Operation::Complete, &answer)
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        let answer = self
            .0
            .run(
                Operation::Release,
                &lease.id,
                &self.0.scripts.release,
                &[
                    &value::fence(lease.fence),
                    self.0.publish(),
                    self.0.caller.places.key(&lease.id).as_bytes(),
                ],
            )
            .await?;
        fenced(Operation::Release, &answer)
    }

    /// Listens to the record's channel. When the connection breaks, the watch resolves: whoever
    /// waits looks at the record again.
    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        let routes = &self.0.caller.routes;
        let unavailable = |fault: crate::error::Fault| fault.give_up(Operation::Watch);
        let node = routes.node(Operation::Watch, Places::slot(id)).await;
        let node = node.map_err(unavailable)?;
        let watched = node.subscriber().watch(id).await;
        if watched.is_err() {
            routes.doubt(&node);
        }
        watched
    }
}

impl Inner {
    /// Runs a script on a record. The clock, which only tests set, comes before `arguments`.
    pub(crate) async fn run(
        &self,
        operation: Operation,
        id: &RecordId,
        script: &Source,
        arguments: &[&[u8]],
    ) -> Result<Value, StoreError> {
        let clock = self.injected_time();
        let mut all: Vec<&[u8]> = Vec::with_capacity(arguments.len() + 1);
        all.push(clock.as_bytes());
        all.extend(arguments);
        let (replicated, repeatable) = match operation {
            // What a claim sees is told to a client: it must not be forgotten either. A release
            // that is lost leaves the record in progress, which errs on the safe side.
            Operation::Claim | Operation::Renew | Operation::Complete => (true, true),
            _ => (false, false),
        };
        let step = Step {
            operation,
            id,
            script,
            arguments: &all,
            replicated,
            repeatable,
        };
        self.caller.run(&step).await
    }

    /// The channel on which it is announced that copies of a record are void, and what to say.
    pub(crate) fn announcement(&self, id: &RecordId) -> (String, String) {
        (self.caller.places.announcements(), id.to_string())
    }

    /// The command that announces a change.
    pub(crate) fn publish(&self) -> &'static [u8] {
        if self.sharded {
            b"SPUBLISH"
        } else {
            b"PUBLISH"
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "its twin for tests uses it")]
    fn injected_time(&self) -> String {
        String::new()
    }

    #[cfg(test)]
    fn injected_time(&self) -> String {
        let clock = self.clock.as_ref();
        clock.map_or_else(String::new, crate::tests::TestClock::argument)
    }
}

fn claim_of(attempt: &Attempt, answer: Value) -> Result<Claim, StoreError> {
    const OPERATION: Operation = Operation::Claim;
    let Value::Array(parts) = answer else {
        return Err(strange(OPERATION));
    };
    let Ok([won, second, third]) = <[Value; 3]>::try_from(parts) else {
        return Err(strange(OPERATION));
    };
    match (won, second, third) {
        (Value::Int(1), Value::BulkString(fence), Value::Int(number)) => {
            let fence = fence.try_into().map_err(|_| strange(OPERATION))?;
            Ok(Claim::Won(Lease {
                id: attempt.id,
                fence: Fence::new(u64::from_le_bytes(fence)),
                attempt: u32::try_from(number).map_err(|_| strange(OPERATION))?,
                effects: Effects::Apart,
            }))
        }
        (Value::Int(0), now, bytes) => {
            let record = value::record(OPERATION, &now, bytes)?;
            Ok(Claim::Held(record.ok_or_else(|| strange(OPERATION))?))
        }
        _ => Err(strange(OPERATION)),
    }
}

fn fenced(operation: Operation, answer: &Value) -> Result<Fenced, StoreError> {
    match value::number(operation, answer)? {
        1 => Ok(Fenced::Applied),
        0 => Ok(Fenced::Superseded),
        _ => Err(strange(operation)),
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("servers", &self.0.caller.routes)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// An error of connecting.
    pub(crate) fn misconfigured(message: impl Into<Box<str>>) -> StoreError {
        StoreError::new(Operation::Open, StoreErrorKind::Misconfigured, message)
    }
}
