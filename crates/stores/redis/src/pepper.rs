//! The secret of all who share the servers, on the servers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use onlyonce_core::{
    InspectFuture, KeptSecret, Operation, Pepper, RecordId, StoreError, StoreErrorKind,
};
use redis::Value;

use crate::RedisStore;
use crate::call::{Step, strange};
use crate::store::Inner;

/// It lies with the records of this identifier's tag: in a Cluster every key needs a slot.
const HOME: RecordId = RecordId::from_bytes([0; 32]);

/// What this process goes by.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    kept: Mutex<Option<KeptSecret>>,
    /// The servers keep another one by now.
    lost: AtomicBool,
}

/// Kept under `oo:{000}secret`, without expiry.
///
/// Servers that lose their data lose it, too. So whoever got it here puts it back when it connects
/// again. Where somebody else was faster, with another one, this store takes no claims any more
/// ([`Misconfigured`](StoreErrorKind::Misconfigured)): it has to be connected anew.
impl Pepper for RedisStore {
    fn keep<'a>(&'a self, offer: Option<&'a KeptSecret>) -> InspectFuture<'a, Option<KeptSecret>> {
        Box::pin(async move {
            let kept = self.0.keep(offer).await?;
            if let Some(kept) = &kept {
                self.0.keeping.learn(kept);
            }
            Ok(kept)
        })
    }

    fn place(&self) -> String {
        format!("the key `{}`", self.0.caller.places.secret(&HOME))
    }
}

impl Keeping {
    fn learn(&self, kept: &KeptSecret) {
        let mut known = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(known) if known != kept => self.lost.store(true, Ordering::SeqCst),
            Some(_) => {}
            None => *known = Some(kept.clone()),
        }
    }

    fn known(&self) -> Option<KeptSecret> {
        let known = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Whether records are still found under the secret of this process.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if !self.lost.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(StoreError::new(
            Operation::Claim,
            StoreErrorKind::Misconfigured,
            "Redis has lost its data, and others have begun anew with another secret: start this \
             process anew, or what it executes is executed by the others again",
        ))
    }
}

impl Inner {
    async fn keep(&self, offer: Option<&KeptSecret>) -> Result<Option<KeptSecret>, StoreError> {
        const OPERATION: Operation = Operation::Open;
        let key = self.caller.places.secret(&HOME);
        let offer = offer.map(KeptSecret::encode).unwrap_or_default();
        let answer = self
            .caller
            .run(&Step {
                operation: OPERATION,
                id: &HOME,
                script: &self.scripts.secret,
                arguments: &[b"", key.as_bytes(), &offer],
                replicated: true,
                repeatable: true,
            })
            .await?;
        match answer {
            Value::Nil | Value::Boolean(false) => Ok(None),
            Value::BulkString(kept) => KeptSecret::decode(&kept).map(Some).map_err(|error| {
                let message = format!("Redis holds no secret in the key `{key}`");
                StoreError::new(OPERATION, StoreErrorKind::Corrupt, message).with_source(error)
            }),
            _ => Err(strange(OPERATION)),
        }
    }

    /// Sees to it that the servers keep what this process goes by: they may have lost it.
    pub(crate) async fn keep_again(&self) -> Result<(), StoreError> {
        let Some(known) = self.keeping.known() else {
            return Ok(());
        };
        if let Some(kept) = self.keep(Some(&known)).await? {
            self.keeping.learn(&kept);
        }
        self.keeping.check()
    }
}
