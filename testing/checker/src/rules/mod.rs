//! The rules.

mod answers;
mod executions;
mod losses;
mod store;
mod stuck;

use std::time::Duration;

use onlyonce_core::OnUnknown;

use crate::event::{Answer, Log, Op, Outcome, Refusal};
use crate::report::{Counts, Losses, Report, Violation};
use crate::subject::{Subject, Thing, by_digest};

/// What those who wrote the log had been promised.
#[derive(Clone, Copy, Debug)]
pub struct Promised {
    /// What becomes of a key whose owner vanished.
    pub on_unknown: OnUnknown,
    /// How long a record is kept after it was completed.
    pub lifetime: Duration,
}

/// Looks whether `log` keeps to every [`Rule`](crate::Rule).
///
/// The log must be at rest: nothing is under way any more, and every key has been asked for once
/// more at the end, so that what was lost has been noticed.
#[must_use]
pub fn check(log: &Log, promised: &Promised) -> Report {
    let mut violations = Vec::new();
    let mut lost = Losses::NONE;
    let mut held_in_vain = Vec::new();
    let mut counts = count(log);
    let digests = by_digest(log);
    let mut subjects = Subject::all(log);
    violations.extend(answers::shared_records(&subjects));
    counts.keys = subjects.len();
    for subject in &mut subjects {
        subject.lost = losses::find(subject, promised);
        for found in subject.lost.values().filter(|lost| lost.since.is_some()) {
            match found.what {
                Thing::Claim => lost.claims += 1,
                Thing::Record => lost.records += 1,
            }
        }
        let before = violations.len();
        violations.extend(losses::forgotten(subject));
        lost.executed_again += executions::check(subject, promised, &mut violations);
        store::check(subject, &mut violations);
        answers::check(subject, promised, &digests, &mut violations);
        stuck::check(subject, &mut violations);
        violations[before..].sort_by_key(|violation: &Violation| violation.rule);
        let last = subject.answers.iter().max_by_key(|last| last.request.at);
        let unknown = Outcome::Refused(Refusal::Unknown);
        if last.is_some_and(|last| last.response.outcome == unknown) {
            counts.keys_unknown += 1;
            if subject.executions.is_empty() {
                held_in_vain.push(subject.name.clone());
            }
        }
    }
    Report {
        violations,
        losses: lost,
        held_in_vain,
        counts,
    }
}

fn count(log: &Log) -> Counts {
    let mut counts = Counts {
        requests: log.requests.len(),
        executions: log.executions.len(),
        ..Counts::default()
    };
    for response in &log.responses {
        counts.add(response.outcome);
    }
    for call in &log.calls {
        match (&call.op, &call.ended) {
            (Op::Claim { .. }, Some((_, Answer::Won(_)))) => counts.acknowledged_claims += 1,
            (Op::Complete { .. }, Some((_, Answer::Applied))) => counts.acknowledged_records += 1,
            _ => {}
        }
    }
    counts
}
