//! What the store let its owners do.

use std::time::Duration;

use crate::event::{Answer, Call, Moment, Op};
use crate::report::{Rule, Violation};
use crate::subject::Subject;

/// Times are in whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

pub(super) fn check(subject: &Subject<'_>, violations: &mut Vec<Violation>) {
    old_fences(subject, violations);
    live_leases(subject, violations);
}

/// A write that took effect though its fence was known to be old when it began.
fn old_fences(subject: &Subject<'_>, violations: &mut Vec<Violation>) {
    for call in &subject.calls {
        let (Some(fence), Some((_, Answer::Applied))) = (fence_of(call.op), &call.ended) else {
            continue;
        };
        let newer = subject.sightings().find(|(_, at, seen)| {
            *at < call.began && seen.fence > fence && !subject.excused(seen.fence, call.began)
        });
        if let Some((_, _, seen)) = newer {
            let (began, newer) = (call.began.order, seen.fence);
            let what = format!("the write at {began} took effect, though fence {newer} was known");
            violations.push(subject.violation(Rule::OldFence, &what));
        }
    }
}

/// A take-over while the owner's lease must have been live: a store counts it from when it was
/// asked or later.
fn live_leases(subject: &Subject<'_>, violations: &mut Vec<Violation>) {
    for (call, at, seen) in subject.sightings() {
        let took_over = matches!(&call.ended, Some((_, Answer::Won(_)))) && seen.attempt > 1;
        if !took_over {
            continue;
        }
        let earlier = subject.sightings().map(|(_, _, earlier)| earlier.fence);
        let Some(owner) = earlier.filter(|fence| *fence < seen.fence).max() else {
            continue;
        };
        if subject.lost.contains_key(&owner) {
            continue;
        }
        let live_until = live_until(subject, owner, at);
        if live_until.is_some_and(|live| at.time + ROUNDING < live) {
            let what = format!(
                "fence {} was given at {} while the lease of {owner} had not run out",
                seen.fence, at.order
            );
            violations.push(subject.violation(Rule::LiveLease, &what));
        }
    }
}

/// Until when the lease under this fence was live for sure, as seen at `now`; `None` if its owner
/// may have given it up.
fn live_until(subject: &Subject<'_>, owner: u64, now: Moment) -> Option<Duration> {
    let before = |call: &&&Call| call.began < now;
    let mut spans = Vec::new();
    for call in subject.calls.iter().filter(before) {
        let acknowledged = call.ended.as_ref().filter(|(at, _)| *at < now);
        match (call.op, acknowledged.map(|(_, answer)| answer)) {
            (Op::Release { fence }, _) if fence == owner => return None,
            (Op::Renew { fence, extend }, _) if fence == owner && extend.is_zero() => return None,
            (Op::Claim { lease }, Some(Answer::Won(seen))) if seen.fence == owner => {
                spans.push(call.began.time + lease);
            }
            (Op::Renew { fence, extend }, Some(Answer::Applied)) if fence == owner => {
                spans.push(call.began.time + extend);
            }
            _ => {}
        }
    }
    spans.into_iter().max()
}

fn fence_of(op: Op) -> Option<u64> {
    match op {
        Op::Claim { .. } => None,
        Op::Renew { fence, .. } | Op::Complete { fence } | Op::Release { fence } => Some(fence),
    }
}
