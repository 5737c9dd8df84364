//! What clients were told.

use std::collections::BTreeMap;

use onlyonce_core::OnUnknown;

use crate::event::{Digest, Execution, Finish, Outcome, Refusal};
use crate::report::{Rule, Violation};
use crate::rules::Promised;
use crate::subject::{Answered, Subject};

type Digests<'a> = BTreeMap<Digest, &'a Execution>;

/// Two keys must not have one record.
pub(super) fn shared_records(subjects: &[Subject<'_>]) -> Vec<Violation> {
    let mut owners: BTreeMap<[u8; 32], &Subject<'_>> = BTreeMap::new();
    let mut violations = Vec::new();
    for subject in subjects {
        for request in &subject.requests {
            let owner = owners.entry(*request.record.as_bytes()).or_insert(subject);
            if owner.name != subject.name {
                let what = format!("{} has the record of {}", request.id, owner.name);
                violations.push(subject.violation(Rule::Isolation, &what));
            }
        }
    }
    violations
}

pub(super) fn check(
    subject: &Subject<'_>,
    promised: &Promised,
    digests: &Digests<'_>,
    violations: &mut Vec<Violation>,
) {
    for execution in &subject.executions {
        let request = &subject.log.requests[execution.request.0];
        if execution.record != request.record {
            let what = format!("{} was executed under another key's claim", request.id);
            violations.push(subject.violation(Rule::Isolation, &what));
        }
    }
    for answered in &subject.answers {
        let fault = match answered.response.outcome {
            Outcome::Executed { .. } | Outcome::Replayed => origin(subject, answered, digests),
            Outcome::Refused(why) => cause(subject, answered, why),
            Outcome::ConnectionError => None,
        };
        if let Some((rule, what)) = fault {
            let what = format!("{} {what}", answered.request.id);
            violations.push(subject.violation(rule, &what));
        }
    }
    for first in &subject.answers {
        let Some(execution) = recorded(first, digests) else {
            continue;
        };
        let seen = Seen {
            subject,
            promised,
            digests,
            first,
            execution,
        };
        // One later answer that is wrong makes all the others wrong that contradict it.
        let wrong = subject.answers.iter().find_map(|later| seen.undone(later));
        if let Some((rule, what)) = wrong {
            violations.push(subject.violation(rule, &what));
            return;
        }
    }
}

/// Where an answer must come from: an execution for this very request, or for one like it.
fn origin(
    subject: &Subject<'_>,
    answered: &Answered<'_>,
    digests: &Digests<'_>,
) -> Option<(Rule, &'static str)> {
    let Answered { request, response } = answered;
    let execution = digests.get(&response.digest);
    let Some((execution, (ended, finish))) = execution.and_then(|it| Some((*it, it.ended?))) else {
        return Some((Rule::Invented, "was told what no execution had answered"));
    };
    let executed = &subject.log.requests[execution.request.0];
    let wrong = if executed.name != request.name {
        (Rule::Isolation, "was told another key's answer")
    } else if executed.fingerprint != request.fingerprint {
        (Rule::Isolation, "was told the answer to another request")
    } else if finish.status != response.status {
        (Rule::Invented, "was told another status than was answered")
    } else if response.at < ended {
        (Rule::Invented, "was told the answer before there was one")
    } else if response.outcome == Outcome::Replayed && !finish.kept {
        (Rule::Invented, "was told again what is not recorded")
    } else if response.outcome != Outcome::Replayed && executed.id != request.id {
        (Rule::Invented, "was told that it was executed, and was not")
    } else {
        return None;
    };
    Some(wrong)
}

/// What must have been there for a refusal.
fn cause(
    subject: &Subject<'_>,
    answered: &Answered<'_>,
    why: Refusal,
) -> Option<(Rule, &'static str)> {
    let Answered { request, response } = answered;
    let before = || subject.requests.iter().filter(|it| it.at < response.at);
    let another = || before().any(|it| it.id != request.id);
    let executed = || {
        let mut executions = subject.executions.iter();
        executions.any(|it| it.started < response.at)
    };
    let (there_is, what) = match why {
        Refusal::Mismatch => (
            before().any(|it| it.fingerprint != request.fingerprint),
            "was refused as another request than the first, and is the same",
        ),
        Refusal::InProgress => (another(), "was refused for another request; there is none"),
        Refusal::Unknown => (
            another() || executed(),
            "was refused as unknown, and nothing had happened",
        ),
        Refusal::NotKept => (
            executed(),
            "was refused as executed, and nothing was executed",
        ),
        Refusal::Unavailable => (true, ""),
    };
    (!there_is).then_some((Rule::NoCause, what))
}

/// The execution whose recorded answer this is.
fn recorded<'a>(answered: &Answered<'_>, digests: &Digests<'a>) -> Option<&'a Execution> {
    let is_recorded = matches!(
        answered.response.outcome,
        Outcome::Executed { recorded: true } | Outcome::Replayed
    );
    let execution = digests.get(&answered.response.digest).copied();
    execution.filter(|_| is_recorded)
}

/// A client has seen a recorded answer.
struct Seen<'a> {
    subject: &'a Subject<'a>,
    promised: &'a Promised,
    digests: &'a Digests<'a>,
    first: &'a Answered<'a>,
    execution: &'a Execution,
}

impl Seen<'_> {
    /// What is wrong with `later` because of it.
    fn undone(&self, later: &Answered<'_>) -> Option<(Rule, String)> {
        let (first, response) = (self.first.response, later.response);
        let lifetime = self.promised.lifetime;
        if response.at <= first.at
            || self.subject.excused(self.execution.fence, response.at)
            || self.execution.may_have_expired(lifetime, response.at)
        {
            return None;
        }
        let sent_later = later.request.at > first.at;
        let request = &self.subject.log.requests[self.execution.request.0];
        let is_same = later.request.fingerprint == request.fingerprint;
        let (one, other) = (first.request, response.request);
        match response.outcome {
            Outcome::Executed { .. } | Outcome::Replayed => {
                let same = (response.digest, response.status) == (first.digest, first.status);
                (!same && !self.is_beside(later)).then(|| {
                    let what = format!("{other} was told something else than {one} before it");
                    (Rule::OneAnswer, what)
                })
            }
            Outcome::Refused(Refusal::Unavailable) | Outcome::ConnectionError => None,
            Outcome::Refused(Refusal::Mismatch) if !is_same => None,
            Outcome::Refused(why) => sent_later.then(|| {
                let what = format!("{other} was refused ({why:?}) after {one} had its answer");
                (Rule::NoGoingBack, what)
            }),
        }
    }

    /// Whether `later` is the answer of an execution of its own that says itself that it is not
    /// recorded, and had begun before: it could not be taken back any more.
    fn is_beside(&self, later: &Answered<'_>) -> bool {
        let Some(execution) = self.digests.get(&later.response.digest) else {
            return false;
        };
        let unrecorded = later.response.outcome == Outcome::Executed { recorded: false };
        if !unrecorded || execution.started > self.first.response.at {
            return false;
        }
        let kept = execution.finish().is_some_and(|Finish { kept, .. }| kept);
        let was_lost = self.subject.excused(execution.fence, later.response.at);
        // With `retry`, a vanished owner that cannot reach the store tells what it did.
        !kept || was_lost || self.promised.on_unknown == OnUnknown::Retry
    }
}
