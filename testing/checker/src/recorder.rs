//! A store that keeps a log of what it is asked, and of what it answers.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Fenced, Lease, RecordId, Renewal, State, Store, StoreError,
};

use crate::History;
use crate::event::{Answer, Op, Sighting, Stage};

/// A store, and the [`History`] of what one engine asks of it.
///
/// It changes nothing. A call that is dropped before the store has answered has no answer in the
/// log.
#[derive(Debug)]
pub struct Recorder<S> {
    store: S,
    history: History,
    node: Arc<str>,
}

impl<S: Store> Recorder<S> {
    /// Writes into `history` what the engine called `node` asks of `store`.
    pub fn new(store: S, history: &History, node: &str) -> Self {
        Self {
            store,
            history: history.clone(),
            node: node.into(),
        }
    }

    async fn call<T>(
        &self,
        record: &RecordId,
        op: Op,
        call: impl Future<Output = Result<T, StoreError>>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> Result<T, StoreError> {
        let id = self.history.calls(&self.node, *record, op);
        let result = call.await;
        let answer = match &result {
            Ok(value) => answer(value),
            Err(error) => Answer::Failed(error.to_string().into()),
        };
        self.history.answered(id, answer);
        result
    }
}

impl<S: Store> Store for Recorder<S> {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        let op = Op::Claim {
            lease: attempt.lease,
        };
        let call = self.store.claim(attempt);
        self.call(&attempt.id, op, call, seen).await
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        let op = Op::Renew {
            fence: lease.fence.get(),
            extend: renewal.extend,
        };
        let call = self.store.renew(lease, renewal);
        self.call(&lease.id, op, call, |fenced| written(*fenced))
            .await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let op = Op::Complete {
            fence: lease.fence.get(),
        };
        let call = self.store.complete(lease, completion, keep);
        self.call(&lease.id, op, call, |fenced| written(*fenced))
            .await
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        let op = Op::Release {
            fence: lease.fence.get(),
        };
        let call = self.store.release(lease);
        self.call(&lease.id, op, call, |fenced| written(*fenced))
            .await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.store.watch(id).await
    }
}

fn seen(claim: &Claim) -> Answer {
    match claim {
        Claim::Won(lease) => Answer::Won(Sighting {
            fence: lease.fence.get(),
            attempt: lease.attempt,
            stage: Stage::InProgress,
        }),
        Claim::Held(record) => Answer::Held(Sighting {
            fence: record.fence.get(),
            attempt: record.attempt,
            stage: match record.state {
                State::InProgress { .. } => Stage::InProgress,
                State::Unknown | State::Completed { .. } => Stage::Settled,
            },
        }),
    }
}

fn written(fenced: Fenced) -> Answer {
    match fenced {
        Fenced::Applied => Answer::Applied,
        Fenced::Superseded => Answer::Superseded,
    }
}
