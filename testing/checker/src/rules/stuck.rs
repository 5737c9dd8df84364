//! Whether everything came to an end.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::{Rule, Violation};
use crate::subject::{Answered, Subject};

pub(super) fn check(subject: &Subject<'_>, violations: &mut Vec<Violation>) {
    let answered: BTreeSet<_> = subject.answers.iter().map(|it| it.request.id).collect();
    let unanswered = subject
        .requests
        .iter()
        .find(|request| !answered.contains(&request.id));
    if let Some(request) = unanswered {
        let what = format!("{} was never answered", request.id);
        violations.push(subject.violation(Rule::Stuck, &what));
    }
    let mut last: BTreeMap<&str, &Answered<'_>> = BTreeMap::new();
    for answered in &subject.answers {
        let latest = last
            .entry(&answered.request.fingerprint)
            .or_insert(answered);
        if latest.request.at < answered.request.at {
            *latest = answered;
        }
    }
    for Answered { request, response } in last.into_values() {
        if !response.outcome.is_final() {
            let what = format!("{} was the last to ask, and is not told an end", request.id);
            violations.push(subject.violation(Rule::Stuck, &what));
        }
    }
}
