//! Stores that cheat, and whether the checker notices.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onlyonce_checker::{History, Losses, Report, Rule};
use onlyonce_core::{
    Attempt, Changes, Claim, Completion, Fenced, Inspect as _, Lease, OnUnknown, RecordId, Renewal,
    Resolved, Store, StoreError,
};
use onlyonce_memory::MemoryStore;

use crate::generator::{Load, executions, policies};

const HOLD: OnUnknown = OnUnknown::Hold;

/// What the store does wrong, with every tenth record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Has forgotten a record once it was acknowledged.
    ForgetsRecords,
    /// Has forgotten a claim once it was acknowledged.
    ForgetsClaims,
    /// Says that everything written under a claim took effect, and has thrown the claim away.
    ObeysOldFences,
    /// Has one record for all keys whose identifiers begin alike.
    MixesRecordsUp,
}

/// A good store, made bad.
#[derive(Clone)]
struct Cheat {
    store: Arc<MemoryStore>,
    fault: Fault,
    /// Those that it has cheated on: once is enough.
    done: Arc<Mutex<HashSet<RecordId>>>,
}

impl Cheat {
    /// Whether to cheat on this record now.
    fn cheats(&self, fault: Fault, id: &RecordId) -> bool {
        self.fault == fault
            && id.as_bytes()[31].is_multiple_of(10)
            && self.done.lock().unwrap().insert(*id)
    }

    fn place(&self, attempt: &Attempt) -> Attempt {
        let mut attempt = attempt.clone();
        if self.fault == Fault::MixesRecordsUp {
            let mut bytes = [0; 32];
            bytes[0] = attempt.id.as_bytes()[0];
            attempt.id = RecordId::from_bytes(bytes);
        }
        attempt
    }
}

impl Store for Cheat {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        let claim = self.store.claim(&self.place(attempt)).await;
        if let Ok(Claim::Won(lease)) = &claim
            && (self.cheats(Fault::ForgetsClaims, &attempt.id)
                || self.cheats(Fault::ObeysOldFences, &attempt.id))
        {
            assert_eq!(self.store.release(lease).await?, Fenced::Applied);
        }
        claim
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        self.store.renew(lease, renewal).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let completed = self.store.complete(lease, completion, keep).await;
        if self.cheats(Fault::ForgetsRecords, &lease.id) {
            assert_eq!(self.store.forget(&lease.id).await?, Resolved::Applied);
        }
        if self.fault == Fault::ObeysOldFences {
            return Ok(Fenced::Applied);
        }
        completed
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        self.store.release(lease).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.store.watch(id).await
    }
}

async fn run(fault: Fault, incident: bool) -> Report {
    let store = Cheat {
        store: Arc::new(MemoryStore::new()),
        fault,
        done: Arc::default(),
    };
    let history = History::new();
    if incident {
        history.incident("planted");
    }
    let load = Load::start([store.clone(), store], &history, policies(HOLD));
    load.more("enough of it is done", 150, executions).await;
    load.judge(HOLD).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_store_has_no_faults() {
    let report = run(Fault::None, false).await.expect_none();
    assert_eq!(report.losses, Losses::NONE);
    let counts = report.counts;
    assert!(counts.replayed > counts.keys, "{report}");
    assert!(counts.in_progress > 0 && counts.mismatch > 0, "{report}");
    assert!(counts.connection_errors > 0, "{report}");
    // Nothing went wrong: there is nothing that nobody knows.
    assert_eq!(counts.keys_unknown, 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_forgets_records_is_found_out() {
    let report = run(Fault::ForgetsRecords, false).await;
    assert!(report.breaks(Rule::Forgotten), "{report}");
    assert!(report.breaks(Rule::OneExecution), "{report}");
    assert!(report.breaks(Rule::OneAnswer), "{report}");

    // The same in an incident that takes things is no violation, and a number.
    let report = run(Fault::ForgetsRecords, true).await.expect_none();
    assert!(report.losses.records > 0, "{report}");
    assert!(report.losses.executed_again > 0, "{report}");
    assert_eq!(report.losses.claims, 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_forgets_claims_is_found_out() {
    let report = run(Fault::ForgetsClaims, false).await;
    assert!(report.breaks(Rule::Forgotten), "{report}");
    assert!(report.breaks(Rule::OneExecution), "{report}");
    let report = run(Fault::ForgetsClaims, true).await.expect_none();
    assert!(report.losses.claims > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_10_a_store_that_obeys_old_fences_is_found_out() {
    let report = run(Fault::ObeysOldFences, false).await;
    assert!(report.breaks(Rule::OldFence), "{report}");
    assert!(report.breaks(Rule::OneAnswer), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_mixes_records_up_is_found_out() {
    let report = run(Fault::MixesRecordsUp, false).await;
    assert!(report.breaks(Rule::Isolation), "{report}");
}
