//! A history, written line by line.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_checker::{
    Answer, Asked, Digest, ExecutionId, Finish, History, Losses, Name, Op, Outcome, Promised,
    Report, RequestId, Rule, Running, Sighting, Stage, check,
};
use onlyonce_core::{ManualClock, OnUnknown, RecordId};

pub(crate) const LEASE: Duration = Duration::from_secs(2);
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);

pub(crate) struct Script {
    pub(crate) history: History,
    clock: Arc<ManualClock>,
    promised: Promised,
    records: HashMap<String, RecordId>,
    names: HashMap<RequestId, String>,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::with(OnUnknown::Hold)
    }

    pub(crate) fn with(on_unknown: OnUnknown) -> Self {
        let clock = Arc::new(ManualClock::new());
        Self {
            history: History::on(Arc::clone(&clock)),
            clock,
            promised: Promised {
                on_unknown,
                lifetime: LIFETIME,
            },
            records: HashMap::new(),
            names: HashMap::new(),
        }
    }

    pub(crate) fn check(&self) -> Report {
        check(&self.history.log(), &self.promised)
    }

    #[track_caller]
    pub(crate) fn is_good(&self) {
        let report = self.check().expect_none();
        assert_eq!(report.losses, Losses::NONE);
    }

    /// Exactly these rules are broken, in any order.
    #[track_caller]
    pub(crate) fn breaks(&self, rules: &[Rule]) {
        let report = self.check();
        let mut broken: Vec<_> = report.violations.iter().map(|it| it.rule).collect();
        broken.sort();
        let mut rules = rules.to_vec();
        rules.sort();
        assert_eq!(broken, rules, "{report}");
    }

    pub(crate) fn later(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Both names have the same record.
    pub(crate) fn share(&mut self, one: &str, other: &str) {
        let record = self.record(one);
        self.records.insert(other.to_owned(), record);
    }

    pub(crate) fn sent(&mut self, name: &str, asks: &str) -> RequestId {
        let (scope, key) = name.split_once('/').unwrap();
        let record = self.record(name);
        let id = self.history.request(Asked {
            name: Name::new(scope, key),
            record,
            fingerprint: asks.into(),
        });
        self.names.insert(id, name.to_owned());
        id
    }

    pub(crate) fn told(&self, request: RequestId, outcome: Outcome, body: &str) {
        let status = match outcome {
            Outcome::Executed { recorded: false } if body == "failed" => 500,
            Outcome::Executed { .. } | Outcome::Replayed => 201,
            Outcome::Refused(_) => 409,
            Outcome::ConnectionError => 0,
        };
        self.told_status(request, outcome, status, body);
    }

    pub(crate) fn told_status(
        &self,
        request: RequestId,
        outcome: Outcome,
        status: u16,
        body: &str,
    ) {
        let digest = Digest::of(body.as_bytes());
        self.history.response(request, outcome, status, digest);
    }

    pub(crate) fn begins(&mut self, request: RequestId, fence: u64, attempt: u32) -> ExecutionId {
        let name = self.names[&request].clone();
        let record = self.record(&name);
        self.history.started(Running {
            request,
            record,
            attempt,
            fence,
        })
    }

    pub(crate) fn ends(&self, execution: ExecutionId, body: &str) {
        self.finish(execution, 201, body);
    }

    pub(crate) fn ends_unkept(&self, execution: ExecutionId, body: &str) {
        self.finish(execution, 500, body);
    }

    pub(crate) fn executes(&mut self, request: RequestId, fence: u64, attempt: u32, body: &str) {
        let execution = self.begins(request, fence, attempt);
        self.ends(execution, body);
    }

    pub(crate) fn fails(&mut self, request: RequestId, fence: u64, attempt: u32, body: &str) {
        let execution = self.begins(request, fence, attempt);
        self.ends_unkept(execution, body);
    }

    pub(crate) fn won(&mut self, name: &str, fence: u64, attempt: u32) {
        let stage = Stage::InProgress;
        let seen = Sighting {
            fence,
            attempt,
            stage,
        };
        self.call(name, Op::Claim { lease: LEASE }, Answer::Won(seen));
    }

    pub(crate) fn held(&mut self, name: &str, fence: u64, attempt: u32, stage: Stage) {
        let seen = Sighting {
            fence,
            attempt,
            stage,
        };
        self.call(name, Op::Claim { lease: LEASE }, Answer::Held(seen));
    }

    pub(crate) fn renewed(&mut self, name: &str, fence: u64) {
        let extend = LEASE;
        self.call(name, Op::Renew { fence, extend }, Answer::Applied);
    }

    pub(crate) fn completed(&mut self, name: &str, fence: u64) {
        self.call(name, Op::Complete { fence }, Answer::Applied);
    }

    pub(crate) fn superseded(&mut self, name: &str, fence: u64) {
        self.call(name, Op::Complete { fence }, Answer::Superseded);
    }

    pub(crate) fn released(&mut self, name: &str, fence: u64) {
        self.call(name, Op::Release { fence }, Answer::Applied);
    }

    fn finish(&self, execution: ExecutionId, status: u16, body: &str) {
        let finish = Finish {
            status,
            digest: Digest::of(body.as_bytes()),
            kept: status < 500,
        };
        self.history.finished(execution, finish);
    }

    fn call(&mut self, name: &str, op: Op, answer: Answer) {
        let record = self.record(name);
        let call = self.history.calls(&"node".into(), record, op);
        self.history.answered(call, answer);
    }

    fn record(&mut self, name: &str) -> RecordId {
        let hash = *blake3::hash(name.as_bytes()).as_bytes();
        let record = RecordId::from_bytes(hash);
        *self.records.entry(name.to_owned()).or_insert(record)
    }
}
