//! Proves from a log of requests, executions and answers that the invariants of Onlyonce held.
//!
//! A test sends load from many tasks, and writes what happens into a [`History`]: each request
//! before it is sent, each answer after it has come, each execution's begin and end. A
//! [`Recorder`] around the store adds each call to it, and the test itself adds the
//! [incidents](History::incident) that it brought about. Afterwards [`check`] reads the log alone,
//! and gives a [`Report`]:
//!
//! - every [`Violation`] of a [`Rule`], with the story of its key;
//! - apart from these the [`Losses`]: claims and records that a store had acknowledged, and that an
//!   incident took from it. A loss in the course of an incident excuses the execution after it, and
//!   nothing else; without an incident it is a violation.
//!
//! # How the answers of a key are judged
//! Between two losses, releases or expiries a key goes one way: absent, at work, settled. Answers to
//! requests that were under way at the same time can be put in any order, but what one answer has
//! shown, no request sent later may find undone. For something that goes one way, it is enough to
//! look at pairs: if no two answers contradict each other, moments can be found (one dimension,
//! intervals that all meet in pairs) at which the claim and the record may have taken effect so that
//! all the answers are right. That is linearizability, in quadratic time, with a pair to show for
//! each fault.
//!
//! Order is the order of entries in the log: a request is entered before it is sent, an answer after
//! it has come, so that what the log has in order has really been in order.

mod event;
mod history;
mod recorder;
mod report;
mod rules;
mod subject;

pub use event::{
    Answer, Call, CallId, Digest, Execution, ExecutionId, Finish, Incident, Log, Moment, Name, Op,
    Outcome, Refusal, Request, RequestId, Response, Sighting, Stage,
};
pub use history::{Asked, History, Running};
pub use recorder::Recorder;
pub use report::{Counts, Losses, Report, Rule, Violation};
pub use rules::{Promised, check};
pub use subject::story;
