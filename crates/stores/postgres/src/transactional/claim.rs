//! Claiming: beginning a transaction.

use std::time::Duration;

use onlyonce_core::{
    Attempt, Claim, Effects, Fence, Fingerprint, Lease, Operation, Record, State, StoreError,
};

use super::Inner;
use super::driver::Driver;
use crate::record;

const OPERATION: Operation = Operation::Claim;

impl<D: Driver> Inner<D> {
    pub(super) async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        if let Some(claim) = self.of_this_process(attempt) {
            return Ok(claim);
        }
        let refused = |failure: super::Failure| failure.into_error(OPERATION);
        let (transaction, found) = self.driver.begin(&attempt.id).await.map_err(refused)?;
        if !found.won {
            let claim = if found.busy {
                Claim::Held(in_progress(attempt, None))
            } else {
                Claim::Held(found.record.parse(OPERATION)?)
            };
            self.driver.rollback(transaction).await.map_err(refused)?;
            return Ok(claim);
        }
        let fence = record::fence(OPERATION, found.record.fence)?;
        self.executions.begin(attempt, fence, transaction);
        Ok(Claim::Won(lease(attempt, fence)))
    }

    /// What an execution of this process says: more than another one's, whose transaction nobody
    /// can look into.
    fn of_this_process(&self, attempt: &Attempt) -> Option<Claim> {
        let executions = self.executions.lock();
        let execution = executions.get(&attempt.id)?;
        if execution.ending.is_some() {
            return None;
        }
        Some(if execution.nonce == attempt.nonce {
            Claim::Won(lease(attempt, execution.fence))
        } else {
            Claim::Held(in_progress(attempt, execution.fingerprint))
        })
    }
}

fn lease(attempt: &Attempt, fence: Fence) -> Lease {
    Lease {
        id: attempt.id,
        fence,
        attempt: 1,
        effects: Effects::WithRecord,
    }
}

/// A record that is not there yet. It ends with its transaction, not with a lease.
fn in_progress(attempt: &Attempt, fingerprint: Option<Fingerprint>) -> Record {
    Record {
        fingerprint,
        attempt: 1,
        fence: Fence::new(0),
        state: State::InProgress {
            lease_left: attempt.lease,
        },
        age: Duration::ZERO,
        expires_in: attempt.keep,
        label: attempt.label.clone(),
    }
}
