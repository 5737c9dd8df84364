//! What the checker found.

use std::fmt;

use crate::event::{Name, Outcome, Refusal};

/// All that [`check`](crate::check) found in a log.
#[derive(Clone, Debug)]
pub struct Report {
    /// What must not happen, and did.
    pub violations: Vec<Violation>,
    /// What the store lost in the course of an incident.
    pub losses: Losses,
    /// Keys whose last word is that nobody knows, though nothing was executed under them. No
    /// violation, but a nuisance: they are held for nothing.
    pub held_in_vain: Vec<Name>,
    /// How much there was to look at.
    pub counts: Counts,
}

impl Report {
    /// Whether a rule was broken in this way.
    #[must_use]
    pub fn breaks(&self, rule: Rule) -> bool {
        let mut violations = self.violations.iter();
        violations.any(|violation| violation.rule == rule)
    }

    /// The report, if nothing in it must not be.
    ///
    /// # Panics
    /// With the stories, if something is.
    #[must_use]
    #[track_caller]
    pub fn expect_none(self) -> Self {
        assert!(self.violations.is_empty(), "{self}");
        self
    }
}

/// A rule that the log must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// At most one execution, as long as nothing released, expired or lost its record (invariant
    /// 1).
    OneExecution,
    /// Nobody takes over while a lease is live (invariant 1).
    LiveLease,
    /// Once a recorded response was seen, no other is given (invariant 2).
    OneAnswer,
    /// What an answer has shown, no request sent later finds undone (invariant 2).
    NoGoingBack,
    /// A later owner has a greater fence (invariant 3).
    FencesGrow,
    /// A write with an old fence changes nothing (invariant 3).
    OldFence,
    /// What was acknowledged stays (invariant 4).
    Forgotten,
    /// An answer is of its own scope, key and fingerprint (invariant 5).
    Isolation,
    /// An answer is one that an execution has given, in full, and had ended with before.
    Invented,
    /// A refusal has a cause.
    NoCause,
    /// Every request is answered, and every key comes to an end (invariant 6).
    Stuck,
}

impl Rule {
    /// The rule in a sentence.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneExecution => "a key is executed once",
            Self::LiveLease => "nobody takes over while a lease is live",
            Self::OneAnswer => "once a recorded response was seen, no other is given",
            Self::NoGoingBack => "what an answer has shown, no later request finds undone",
            Self::FencesGrow => "a later owner has a greater fence",
            Self::OldFence => "a write with an old fence changes nothing",
            Self::Forgotten => "what was acknowledged stays",
            Self::Isolation => "an answer is of its own scope, key and fingerprint",
            Self::Invented => "an answer is that of an execution that had ended",
            Self::NoCause => "a refusal has a cause",
            Self::Stuck => "every request is answered, and every key comes to an end",
        }
    }
}

/// A rule was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// On which key.
    pub name: Name,
    /// What happened, and everything else that happened to the key, in order.
    pub story: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, name, story } = self;
        writeln!(f, "{name}: not so: {}", rule.as_str())?;
        write!(f, "{story}")
    }
}

/// What a store had acknowledged, and lost in the course of an incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Claims that were not completed yet.
    pub claims: usize,
    /// Records.
    pub records: usize,
    /// Executions that came about because of it, beyond the first of their key.
    pub executed_again: usize,
}

impl Losses {
    /// Nothing.
    pub const NONE: Self = Self {
        claims: 0,
        records: 0,
        executed_again: 0,
    };
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            claims,
            records,
            executed_again,
        } = self;
        write!(
            f,
            "lost acknowledged claims: {claims}, lost acknowledged records: {records}, \
             executed again because of it: {executed_again}"
        )
    }
}

/// How much there was in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub keys: usize,
    pub requests: usize,
    pub executions: usize,
    pub acknowledged_claims: usize,
    pub acknowledged_records: usize,
    pub executed: usize,
    pub replayed: usize,
    pub in_progress: usize,
    pub mismatch: usize,
    pub unknown: usize,
    pub not_kept: usize,
    pub unavailable: usize,
    pub connection_errors: usize,
    /// Keys whose last word is that nobody knows.
    pub keys_unknown: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Executed { .. } => &mut self.executed,
            Outcome::Replayed => &mut self.replayed,
            Outcome::ConnectionError => &mut self.connection_errors,
            Outcome::Refused(Refusal::InProgress) => &mut self.in_progress,
            Outcome::Refused(Refusal::Mismatch) => &mut self.mismatch,
            Outcome::Refused(Refusal::Unknown) => &mut self.unknown,
            Outcome::Refused(Refusal::NotKept) => &mut self.not_kept,
            Outcome::Refused(Refusal::Unavailable) => &mut self.unavailable,
        };
        *counter += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} keys ({} end as unknown), {} requests, {} executions, {} claims and {} records \
             acknowledged; answers: {} executed, {} replayed, {} in progress, {} mismatch, \
             {} unknown, {} not kept, {} unavailable, {} none",
            self.keys,
            self.keys_unknown,
            self.requests,
            self.executions,
            self.acknowledged_claims,
            self.acknowledged_records,
            self.executed,
            self.replayed,
            self.in_progress,
            self.mismatch,
            self.unknown,
            self.not_kept,
            self.unavailable,
            self.connection_errors,
        )
    }
}

/// Stories are long; the first few tell enough.
const STORIES: usize = 3;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.counts)?;
        writeln!(f, "{}", self.losses)?;
        writeln!(f, "held in vain: {}", self.held_in_vain.len())?;
        write!(f, "violations: {}", self.violations.len())?;
        for violation in self.violations.iter().take(STORIES) {
            write!(f, "\n\n{violation}")?;
        }
        match self.violations.len().saturating_sub(STORIES) {
            0 => Ok(()),
            more => write!(f, "\n\nand {more} more"),
        }
    }
}
