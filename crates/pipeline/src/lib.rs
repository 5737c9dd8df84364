//! The request pipeline around the idempotency core, as tower layers.
//!
//! Each layer is a module with a feature of its own and works alone on any tower service; what
//! they share is always there: an answer's [`Code`], the chain of an [`Error`], how both are
//! shown to clients ([`Answers`]), and what is known of a request ([`context`]).
//!
//! # Order
//! From the outside in: access log, [`catch_panic`], [`context`], CORS, blocklist, read-only
//! mode, auth, idempotency, input filter, envelope, handler. Auth stands before the filter, so
//! that strangers can't probe what is valid; idempotency inside auth, as keys belong to a
//! caller, and outside of the envelope, so that it records what clients really get. A request
//! that a layer refuses goes no further in.

#[cfg(feature = "access-log")]
pub mod access_log;
mod answers;
#[cfg(feature = "auth")]
pub mod auth;
#[cfg(feature = "blocklist")]
pub mod blocklist;
mod body;
pub mod catch_panic;
#[cfg(feature = "client-addr")]
pub mod client_addr;
mod code;
pub mod context;
#[cfg(feature = "cors")]
pub mod cors;
#[cfg(feature = "envelope")]
pub mod envelope;
mod error;
#[cfg(any(feature = "filter", feature = "schema"))]
pub mod filter;
mod kind;
mod language;
#[cfg(any(feature = "auth", feature = "blocklist", feature = "read-only"))]
#[cfg_attr(
    not(feature = "auth"),
    expect(
        dead_code,
        unreachable_pub,
        reason = "the others need but a part of it"
    )
)]
mod path;
mod pattern;
mod pipeline;
mod problems;
#[cfg(feature = "read-only")]
pub mod read_only;
mod refusal;
mod telemetry;
mod text;

pub use answers::{AnswerNote, Answers, Asked, RoutePatternError, StatusMode, TemplateError};
pub use body::PipelineBody;
pub use code::Code;
pub use error::{Error, Frame, Wrap};
pub use kind::ContentKind;
pub use language::Language;
pub use pattern::foreign_pattern;
pub use pipeline::Pipeline;
pub use problems::{Problems, ProblemsFuture, ProblemsLayer};
pub use refusal::Refusal;
pub use telemetry::describe_metrics;
pub use text::Text;
