//! Histories written by hand: good ones, and a bad one for each rule.
#![expect(
    clippy::unwrap_used,
    reason = "a test says best what is wrong by its line"
)]

mod script;

use std::time::Duration;

use onlyonce_checker::{Losses, Name, Outcome, Refusal, Rule, Stage};
use onlyonce_core::OnUnknown;

use script::{LEASE, LIFETIME, Script};

const EXECUTED: Outcome = Outcome::Executed { recorded: true };
const UNRECORDED: Outcome = Outcome::Executed { recorded: false };
const IN_PROGRESS: Outcome = Outcome::Refused(Refusal::InProgress);
const UNKNOWN: Outcome = Outcome::Refused(Refusal::Unknown);
const UNAVAILABLE: Outcome = Outcome::Refused(Refusal::Unavailable);
const MISMATCH: Outcome = Outcome::Refused(Refusal::Mismatch);

/// A request that is executed, with all that belongs to it.
fn once(script: &mut Script, name: &str, asks: &str, fence: u64, body: &str) {
    let request = script.sent(name, asks);
    script.won(name, fence, 1);
    script.executes(request, fence, 1, body);
    script.completed(name, fence);
    script.told(request, EXECUTED, body);
}

fn replay(script: &mut Script, name: &str, asks: &str, fence: u64, body: &str) {
    let request = script.sent(name, asks);
    script.held(name, fence, 1, Stage::Settled);
    script.told(request, Outcome::Replayed, body);
}

#[test]
fn a_quiet_history_is_good() {
    let mut script = Script::new();
    let (first, early) = (script.sent("a/k", "10"), script.sent("a/k", "10"));
    script.won("a/k", 1, 1);
    script.held("a/k", 1, 1, Stage::InProgress);
    script.told(early, IN_PROGRESS, "refused");
    script.executes(first, 1, 1, "one");
    // A retry sees the record before the first one has its answer; that one never gets it.
    script.completed("a/k", 1);
    replay(&mut script, "a/k", "10", 1, "one");
    script.told(first, Outcome::ConnectionError, "");
    let other = script.sent("a/k", "11");
    script.told(other, MISMATCH, "refused");
    replay(&mut script, "a/k", "10", 1, "one");
    // Another scope's key of the same name has nothing to do with it.
    once(&mut script, "b/k", "10", 2, "two");
    let report = script.check().expect_none();
    assert_eq!(report.losses, Losses::NONE);
    assert_eq!((report.counts.keys, report.counts.executions), (2, 2));
    assert_eq!((report.counts.executed, report.counts.replayed), (1, 2));
}

#[test]
fn what_is_not_stored_is_executed_again() {
    let mut script = Script::new();
    let first = script.sent("a/k", "10");
    script.won("a/k", 1, 1);
    script.fails(first, 1, 1, "failed");
    script.released("a/k", 1);
    script.told(first, UNRECORDED, "failed");
    once(&mut script, "a/k", "10", 2, "two");
    script.is_good();
}

#[test]
fn what_has_expired_is_executed_again() {
    let mut script = Script::new();
    once(&mut script, "a/k", "10", 1, "one");
    script.later(LIFETIME);
    once(&mut script, "a/k", "10", 2, "two");
    script.is_good();
}

#[test]
fn a_vanished_owner_is_succeeded() {
    let mut script = Script::with(OnUnknown::Retry);
    let first = script.sent("a/k", "10");
    script.won("a/k", 1, 1);
    let execution = script.begins(first, 1, 1);
    script.later(LEASE);
    let second = script.sent("a/k", "10");
    script.won("a/k", 2, 2);
    script.executes(second, 2, 2, "two");
    script.completed("a/k", 2);
    script.told(second, EXECUTED, "two");
    script.ends(execution, "one");
    script.superseded("a/k", 1);
    script.told(first, Outcome::Replayed, "two");
    let report = script.check().expect_none();
    assert_eq!(report.losses, Losses::NONE);
}

#[test]
fn a_successor_may_release_what_it_took_over() {
    let mut script = Script::with(OnUnknown::Retry);
    let first = script.sent("a/k", "10");
    script.won("a/k", 1, 1);
    let execution = script.begins(first, 1, 1);
    script.later(LEASE);
    let second = script.sent("a/k", "10");
    script.won("a/k", 2, 2);
    script.fails(second, 2, 2, "failed");
    script.released("a/k", 2);
    script.told(second, UNRECORDED, "failed");
    once(&mut script, "a/k", "10", 3, "three");
    script.ends(execution, "one");
    script.superseded("a/k", 1);
    script.told(first, Outcome::Replayed, "three");
    script.is_good();
}

#[test]
fn what_an_incident_took_is_counted_and_no_violation() {
    let mut script = Script::new();
    once(&mut script, "a/kept", "10", 1, "kept");
    once(&mut script, "a/record", "10", 2, "first");
    let claimed = script.sent("a/claim", "10");
    script.won("a/claim", 3, 1);
    let execution = script.begins(claimed, 3, 1);
    script.history.incident("the master dies");
    script.history.over();
    replay(&mut script, "a/kept", "10", 1, "kept");
    once(&mut script, "a/record", "10", 4, "second");
    once(&mut script, "a/claim", "10", 5, "second claim");
    script.ends(execution, "first claim");
    script.superseded("a/claim", 3);
    script.told(claimed, Outcome::Replayed, "second claim");
    let report = script.check().expect_none();
    let expected = Losses {
        claims: 1,
        records: 1,
        executed_again: 2,
    };
    assert_eq!(report.losses, expected);
}

#[test]
fn a_record_that_fell_back_to_its_claim_is_lost() {
    let mut script = Script::new();
    once(&mut script, "a/k", "10", 1, "one");
    script.history.incident("the master dies");
    script.history.over();
    let late = script.sent("a/k", "10");
    script.held("a/k", 1, 1, Stage::InProgress);
    script.told(late, UNKNOWN, "refused");
    let report = script.check().expect_none();
    let expected = Losses {
        records: 1,
        ..Losses::NONE
    };
    assert_eq!(report.losses, expected);
    assert_eq!(report.counts.keys_unknown, 1);
}

#[test]
fn keys_that_are_held_for_nothing_are_named() {
    let mut script = Script::new();
    let first = script.sent("a/k", "10");
    script.won("a/k", 1, 1);
    script.told(first, Outcome::ConnectionError, "");
    script.later(LEASE);
    let second = script.sent("a/k", "10");
    script.held("a/k", 1, 1, Stage::InProgress);
    script.told(second, UNKNOWN, "refused");
    // This one was executed, and is rightly held.
    let third = script.sent("a/l", "10");
    let _ = script.begins(third, 2, 1);
    script.told(third, Outcome::ConnectionError, "");
    let fourth = script.sent("a/l", "10");
    script.told(fourth, UNKNOWN, "refused");
    let report = script.check().expect_none();
    assert_eq!(report.held_in_vain, [Name::new("a", "k")]);
    assert_eq!(report.counts.keys_unknown, 2);
}

#[test]
fn an_incident_excuses_nothing_from_after_it() {
    let mut script = Script::new();
    script.history.incident("the master dies");
    script.history.over();
    once(&mut script, "a/k", "10", 1, "one");
    once(&mut script, "a/k", "10", 2, "two");
    let report = script.check();
    assert_eq!(report.losses, Losses::NONE);
    script.breaks(&[Rule::OneExecution, Rule::OneAnswer, Rule::Forgotten]);
}

#[test]
fn an_incident_excuses_no_fault_of_the_engine() {
    // The store has kept the claim; the engine executes all the same.
    let mut script = Script::new();
    once(&mut script, "a/k", "10", 1, "one");
    script.history.incident("the master dies");
    script.history.over();
    let second = script.sent("a/k", "10");
    script.held("a/k", 1, 1, Stage::Settled);
    script.executes(second, 2, 1, "two");
    script.told(second, UNRECORDED, "two");
    script.breaks(&[Rule::OneExecution, Rule::OneAnswer]);
}

#[test]
fn hold_executes_once() {
    let mut script = Script::new();
    let (first, second) = (script.sent("a/k", "10"), script.sent("a/k", "10"));
    script.executes(first, 1, 1, "one");
    script.executes(second, 2, 2, "two");
    script.told(first, Outcome::ConnectionError, "");
    script.told(second, EXECUTED, "two");
    script.breaks(&[Rule::OneExecution]);
}

#[test]
fn retry_executes_again_as_another_attempt() {
    let mut script = Script::with(OnUnknown::Retry);
    let (first, second) = (script.sent("a/k", "10"), script.sent("a/k", "10"));
    script.executes(first, 1, 1, "one");
    script.executes(second, 2, 1, "two");
    script.told(first, Outcome::ConnectionError, "");
    script.told(second, EXECUTED, "two");
    script.breaks(&[Rule::OneExecution]);
}

#[test]
fn one_claim_executes_once() {
    let mut script = Script::with(OnUnknown::Retry);
    let first = script.sent("a/k", "10");
    script.executes(first, 1, 1, "one");
    script.executes(first, 1, 1, "two");
    script.told(first, EXECUTED, "two");
    script.breaks(&[Rule::OneExecution]);
}

#[test]
fn a_failed_execution_is_over_before_the_next_begins() {
    let mut script = Script::new();
    let (first, second) = (script.sent("a/k", "10"), script.sent("a/k", "10"));
    let execution = script.begins(first, 1, 1);
    script.executes(second, 2, 1, "two");
    script.ends_unkept(execution, "failed");
    script.told(first, UNRECORDED, "failed");
    script.told(second, EXECUTED, "two");
    script.breaks(&[Rule::OneExecution]);
}

#[test]
fn nobody_takes_over_under_a_live_lease() {
    let mut script = Script::with(OnUnknown::Retry);
    let (first, second) = (script.sent("a/k", "10"), script.sent("a/k", "10"));
    script.won("a/k", 1, 1);
    script.later(LEASE / 2);
    script.renewed("a/k", 1);
    script.later(LEASE / 2);
    script.won("a/k", 2, 2);
    script.executes(second, 2, 2, "two");
    script.completed("a/k", 2);
    script.told(second, EXECUTED, "two");
    script.told(first, Outcome::Replayed, "two");
    script.breaks(&[Rule::LiveLease]);
}

#[test]
fn fences_grow() {
    let mut script = Script::new();
    let first = script.sent("a/k", "10");
    script.fails(first, 7, 1, "failed");
    script.told(first, UNRECORDED, "failed");
    let second = script.sent("a/k", "10");
    script.executes(second, 3, 1, "two");
    script.told(second, EXECUTED, "two");
    let report = script.check();
    assert!(report.breaks(Rule::FencesGrow), "{report}");
}

#[test]
fn an_old_fence_changes_nothing() {
    let mut script = Script::with(OnUnknown::Retry);
    let (first, second) = (script.sent("a/k", "10"), script.sent("a/k", "10"));
    script.won("a/k", 1, 1);
    let execution = script.begins(first, 1, 1);
    script.later(LEASE);
    script.won("a/k", 2, 2);
    let execution_two = script.begins(second, 2, 2);
    script.ends(execution, "one");
    script.completed("a/k", 1);
    script.ends(execution_two, "two");
    script.superseded("a/k", 2);
    script.told(first, EXECUTED, "one");
    script.told(second, Outcome::Replayed, "one");
    script.breaks(&[Rule::Forgotten, Rule::OldFence]);
}

#[test]
fn what_was_acknowledged_stays() {
    let mut script = Script::new();
    once(&mut script, "a/k", "10", 1, "one");
    let late = script.sent("a/k", "10");
    script.held("a/k", 1, 1, Stage::InProgress);
    script.told(late, Outcome::Replayed, "one");
    script.breaks(&[Rule::Forgotten]);

    let mut script = Script::new();
    let first = script.sent("a/k", "10");
    script.won("a/k", 1, 1);
    script.superseded("a/k", 1);
    script.told(first, UNKNOWN, "");
    script.breaks(&[Rule::NoCause, Rule::Forgotten]);
}

#[test]
fn one_answer_once_it_was_seen() {
    // As if a response had been recorded over another.
    let mut script = Script::with(OnUnknown::Retry);
    let (first, second) = (script.sent("a/k", "10"), script.sent("a/k", "10"));
    let execution = script.begins(first, 1, 1);
    script.executes(second, 2, 2, "two");
    script.told(second, EXECUTED, "two");
    script.ends(execution, "one");
    script.told(first, EXECUTED, "one");
    script.breaks(&[Rule::OneAnswer]);
}

#[test]
fn nothing_that_was_seen_is_undone() {
    for (undone, asks) in [(IN_PROGRESS, "10"), (UNKNOWN, "10"), (IN_PROGRESS, "11")] {
        let mut script = Script::new();
        once(&mut script, "a/k", "10", 1, "one");
        let late = script.sent("a/k", asks);
        script.told(late, undone, "refused");
        let end = script.sent("a/k", asks);
        script.told(end, UNAVAILABLE, "refused");
        replay(&mut script, "a/k", "10", 1, "one");
        let rules = match asks {
            "10" => vec![Rule::NoGoingBack],
            _ => vec![Rule::NoGoingBack, Rule::Stuck],
        };
        script.breaks(&rules);
    }
    // Sent before the first answer was seen, it could be told either.
    let mut script = Script::new();
    let early = script.sent("a/k", "10");
    once(&mut script, "a/k", "10", 1, "one");
    script.told(early, IN_PROGRESS, "refused");
    replay(&mut script, "a/k", "10", 1, "one");
    script.is_good();
}

#[test]
fn answers_stay_within_their_scope_and_fingerprint() {
    let mut script = Script::new();
    once(&mut script, "a/k", "10", 1, "one");
    let stranger = script.sent("b/k", "10");
    script.told(stranger, Outcome::Replayed, "one");
    script.breaks(&[Rule::Isolation]);

    let mut script = Script::new();
    once(&mut script, "a/k", "10", 1, "one");
    let other = script.sent("a/k", "11");
    script.told(other, Outcome::Replayed, "one");
    script.breaks(&[Rule::Isolation]);

    let mut script = Script::new();
    script.share("a/k", "b/k");
    once(&mut script, "a/k", "10", 1, "one");
    let stranger = script.sent("b/k", "10");
    script.told(stranger, UNKNOWN, "refused");
    let report = script.check();
    assert!(report.breaks(Rule::Isolation), "{report}");
}

#[test]
fn answers_come_from_executions() {
    let mut script = Script::new();
    let first = script.sent("a/k", "10");
    script.told(first, EXECUTED, "one");
    script.breaks(&[Rule::Invented]);

    // Recorded before it was there in full.
    let mut script = Script::new();
    let (first, second) = (script.sent("a/k", "10"), script.sent("a/k", "10"));
    let execution = script.begins(first, 1, 1);
    script.told(second, Outcome::Replayed, "one");
    script.ends(execution, "one");
    script.told(first, EXECUTED, "one");
    script.breaks(&[Rule::Invented]);

    // What says "try again" is not to be kept.
    let mut script = Script::new();
    let first = script.sent("a/k", "10");
    script.fails(first, 1, 1, "failed");
    script.told(first, UNRECORDED, "failed");
    let second = script.sent("a/k", "10");
    script.told_status(second, Outcome::Replayed, 500, "failed");
    script.breaks(&[Rule::Invented]);
}

#[test]
fn refusals_have_a_cause() {
    let cases = [
        IN_PROGRESS,
        UNKNOWN,
        MISMATCH,
        Outcome::Refused(Refusal::NotKept),
    ];
    for refused in cases {
        let mut script = Script::new();
        let first = script.sent("a/k", "10");
        script.told(first, refused, "refused");
        let report = script.check();
        assert!(report.breaks(Rule::NoCause), "{refused:?}: {report}");
    }
    // An identical retry is no other request.
    let mut script = Script::new();
    once(&mut script, "a/k", "10", 1, "one");
    let retry = script.sent("a/k", "10");
    script.told(retry, MISMATCH, "refused");
    script.breaks(&[Rule::NoGoingBack, Rule::NoCause]);
}

#[test]
fn everything_comes_to_an_end() {
    let mut script = Script::new();
    let _ = script.sent("a/k", "10");
    script.breaks(&[Rule::Stuck]);

    let mut script = Script::new();
    let (first, second) = (script.sent("a/k", "10"), script.sent("a/k", "10"));
    script.told(first, Outcome::ConnectionError, "");
    script.told(second, IN_PROGRESS, "refused");
    script.later(LIFETIME);
    script.breaks(&[Rule::Stuck]);
}

#[test]
fn a_violation_tells_its_story() {
    let mut script = Script::new();
    once(&mut script, "a/k", "10", 1, "one");
    script.later(Duration::from_millis(1500));
    script.history.incident("the master dies");
    once(&mut script, "a/k", "10", 2, "two");
    script.history.over();
    let mut script_two = Script::new();
    once(&mut script_two, "a/k", "10", 1, "one");
    let stranger = script_two.sent("b/k", "10");
    script_two.told(stranger, Outcome::Replayed, "one");
    let report = script_two.check();
    let expected = "b/k: not so: an answer is of its own scope, key and fingerprint\n  \
                    r1 was told another key's answer\n         \
                    9      0 ms  r1 is sent: \"10\"\n        \
                    10      0 ms  r1 is answered: replayed, 201 #";
    let told = report.violations.first().unwrap().to_string();
    assert!(told.starts_with(expected), "{told}");
    let report = script.check().expect_none();
    assert!(report.to_string().contains("lost acknowledged records: 1"));
}
