//! How often a key was executed.

use onlyonce_core::OnUnknown;

use crate::event::Execution;
use crate::report::{Rule, Violation};
use crate::rules::Promised;
use crate::subject::Subject;

/// Gives the number of executions that losses excuse.
pub(super) fn check(
    subject: &Subject<'_>,
    promised: &Promised,
    violations: &mut Vec<Violation>,
) -> usize {
    let mut executions = subject.executions.clone();
    executions.sort_by_key(|execution| (execution.fence, execution.started));
    let mut excused = 0;
    for pair in executions.windows(2) {
        let &[first, second] = pair else { continue };
        if first.fence == second.fence {
            let what = tell(first, second, "under one claim");
            violations.push(subject.violation(Rule::OneExecution, &what));
        } else if is_over(first, second, promised) {
        } else if subject.excused(first.fence, second.started) {
            excused += 1;
        } else {
            match promised.on_unknown {
                OnUnknown::Hold => {
                    let what = tell(first, second, "though its outcome is to be held");
                    violations.push(subject.violation(Rule::OneExecution, &what));
                }
                OnUnknown::Retry if second.attempt <= first.attempt => {
                    let what = tell(first, second, "which it was not told of");
                    violations.push(subject.violation(Rule::OneExecution, &what));
                }
                OnUnknown::Retry => {}
            }
        }
    }
    for second in &executions {
        let request = &subject.log.requests[second.request.0];
        let overtaken = executions
            .iter()
            .find(|first| first.started < request.at && first.fence > second.fence);
        if let Some(first) = overtaken {
            let what = format!(
                "{} was sent after {} had begun, and has the smaller fence: {} after {}",
                second.request, first.request, second.fence, first.fence
            );
            violations.push(subject.violation(Rule::FencesGrow, &what));
        }
    }
    excused
}

/// Whether the first one's key was free again when the second one began.
fn is_over(first: &Execution, second: &Execution, promised: &Promised) -> bool {
    let released = first
        .ended
        .is_some_and(|(at, finish)| !finish.kept && at < second.started);
    released || first.may_have_expired(promised.lifetime, second.started)
}

fn tell(first: &Execution, second: &Execution, how: &str) -> String {
    let (one, other) = (first.request, second.request);
    format!("{other} was executed after {one}, {how}")
}
