//! What a store had acknowledged and does not have any more.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Answer, Moment, Op, Sighting, Stage};
use crate::report::{Rule, Violation};
use crate::rules::Promised;
use crate::subject::{Lost, Subject, Thing};

/// All losses of this key, by fence.
pub(super) fn find(subject: &Subject<'_>, promised: &Promised) -> BTreeMap<u64, Lost> {
    let won = subject
        .sightings()
        .filter(|(call, ..)| matches!(&call.ended, Some((_, Answer::Won(_)))));
    let fences: BTreeSet<u64> = won.map(|(_, _, seen)| seen.fence).collect();
    let lost = fences.into_iter().filter_map(|fence| {
        let claimed = Claimed::new(subject, fence, promised)?;
        Some((fence, claimed.lost()?))
    });
    lost.collect()
}

/// Losses without an incident to blame.
pub(super) fn forgotten(subject: &Subject<'_>) -> Vec<Violation> {
    let lost = subject.lost.iter().filter(|(_, lost)| lost.since.is_none());
    let tell = |(fence, lost): (&u64, &Lost)| {
        let what = match lost.what {
            Thing::Claim => "claim",
            Thing::Record => "record",
        };
        let what = format!("the {what} under fence {fence} was acknowledged, and is gone");
        subject.violation(Rule::Forgotten, &what)
    };
    lost.map(tell).collect()
}

/// One claim that was won, and what became of it.
struct Claimed<'a> {
    subject: &'a Subject<'a>,
    promised: &'a Promised,
    fence: u64,
    /// When the claim was acknowledged.
    won: Moment,
    /// When its record was.
    recorded: Option<Moment>,
    /// When it was asked to end without one.
    given_back: Option<Moment>,
}

impl<'a> Claimed<'a> {
    fn new(subject: &'a Subject<'a>, fence: u64, promised: &'a Promised) -> Option<Self> {
        let won = subject.sightings().find_map(|(call, at, seen)| {
            let is_won = matches!(&call.ended, Some((_, Answer::Won(_))));
            (is_won && seen.fence == fence).then_some(at)
        })?;
        let mut calls = subject.calls.iter();
        let recorded = calls.find_map(|call| match (call.op, &call.ended) {
            (Op::Complete { fence: of }, Some((at, Answer::Applied))) if of == fence => Some(*at),
            _ => None,
        });
        let mut calls = subject.calls.iter();
        let given_back = calls.find_map(|call| match call.op {
            Op::Release { fence: of } if of == fence => Some(call.began),
            _ => None,
        });
        Some(Self {
            subject,
            promised,
            fence,
            won,
            recorded,
            given_back,
        })
    }

    fn lost(&self) -> Option<Lost> {
        let (what, acknowledged, noticed) = match self.recorded {
            Some(recorded) => (Thing::Record, recorded, self.record_is_missed(recorded)),
            None => (Thing::Claim, self.won, self.claim_is_missed()),
        };
        let noticed = noticed?;
        let incidents = &self.subject.log.incidents;
        let blamed = incidents.iter().find(|incident| {
            let before_its_end = incident.ended.is_none_or(|ended| acknowledged < ended);
            before_its_end && incident.began < noticed
        });
        Some(Lost {
            what,
            since: blamed.map(|incident| incident.began),
        })
    }

    /// When a claim that began after the record was acknowledged showed something else.
    fn record_is_missed(&self, recorded: Moment) -> Option<Moment> {
        self.later_sightings(recorded).find_map(|(at, seen)| {
            let is_there = seen.fence == self.fence && seen.stage == Stage::Settled;
            (!is_there).then_some(at)
        })
    }

    /// When it turned out that the claim was gone, though nobody had given it back, and nobody had
    /// taken over.
    fn claim_is_missed(&self) -> Option<Moment> {
        let by_claims = self.later_sightings(self.won).find_map(|(at, seen)| {
            let is_other = seen.fence != self.fence;
            (is_other && !self.is_given_back(at) && !self.is_succeeded(seen.fence)).then_some(at)
        });
        by_claims.or_else(|| self.completion_is_refused())
    }

    /// When its own completion was refused without anybody having taken over.
    fn completion_is_refused(&self) -> Option<Moment> {
        let mut calls = self.subject.calls.iter();
        let refused = calls.find_map(|call| match (call.op, &call.ended) {
            (Op::Complete { fence }, Some((at, Answer::Superseded))) if fence == self.fence => {
                Some(*at)
            }
            _ => None,
        })?;
        (!self.is_given_back(refused) && !self.is_succeeded(u64::MAX)).then_some(refused)
    }

    fn is_given_back(&self, by: Moment) -> bool {
        self.given_back.is_some_and(|began| began < by)
    }

    /// Whether somebody has taken over, with a fence up to this one: whoever does goes on counting
    /// the attempts. What becomes of the record is the successor's business from then on.
    fn is_succeeded(&self, up_to: u64) -> bool {
        self.subject
            .sightings()
            .any(|(_, _, seen)| seen.attempt > 1 && seen.fence > self.fence && seen.fence <= up_to)
    }

    /// What claims showed that began after `since`, as long as nothing can have expired.
    fn later_sightings(&self, since: Moment) -> impl Iterator<Item = (Moment, Sighting)> {
        let expires = since.time + self.promised.lifetime;
        self.subject
            .sightings()
            .filter(move |(call, at, _)| call.began > since && at.time < expires)
            .map(|(_, at, seen)| (at, seen))
    }
}
