//! Input that is sound before a handler sees it (HotGo's `PreFilter`).
//!
//! With the feature `filter`:
//! - [`Filtered<T>`](Filtered), an extractor of axum: parses the request's input into a `T`,
//!   checks the rules that `T` declares with [`garde`], and runs its [`Filter`]. The handler gets
//!   the filtered value. [`Validated<T>`](Validated) is the same without the last step.
//! - [`FilterLayer<T>`](FilterLayer), the same as a layer.
//!
//! With the feature `schema`: [`schema`], JSON Schema for services that are not ours.
//!
//! ```
//! # #[cfg(feature = "filter")] {
//! use axum::{Router, routing::post};
//! use onlyonce_pipeline::Answers;
//! use onlyonce_pipeline::envelope::{Envelope, EnvelopeLayer};
//! use onlyonce_pipeline::filter::Validated;
//!
//! #[derive(serde::Deserialize, garde::Validate)]
//! struct Charge {
//!     #[garde(range(min = 1))]
//!     amount: u64,
//! }
//!
//! async fn charge(Validated(charge): Validated<Charge>) -> Envelope<u64> {
//!     Envelope::new(charge.amount)
//! }
//!
//! let app: Router = Router::new()
//!     .route("/charges", post(charge))
//!     .layer(EnvelopeLayer::new(Answers::new()));
//! # let _ = app;
//! # }
//! ```
//!
//! # Where the input comes from
//! From the query, the body (JSON, or a form), and the route's parameters, as one set of fields.
//! Where two have a field of one name, the body's takes the place of the query's, and the route's
//! that of both: the route is what others, such as authorisation, have decided on. A JSON body
//! that is no object is the input alone.
//!
//! Query, form and route say everything in text, which stands for numbers, truths (`true`, `1`,
//! `on`) and variants as well; a name that is there several times (also as `name[]`) is a list. JSON
//! is typed: `"7"` is no number.
//!
//! # What a refusal says
//! | what | code | status |
//! |---|---|---|
//! | a field is missing or of another type | 51, the field and what is expected | 400 |
//! | a declared rule is broken: the first, in the order of the fields | 51, the field's message | 400 |
//! | the [`Filter`] refuses | the error's, or 68 | the code's |
//! | malformed JSON, or a field that is there twice | 66 | 400 |
//! | neither JSON nor a form | 66 | 415 |
//! | too long | 66 | 413 |
//!
//! Messages are in the language that the client asks for; a rule of one's own brings both with
//! [`rule_error`]. What was sent is not repeated: it may be a secret.
//!
//! Every refusal says [`NotExecuted`](onlyonce::Control::NotExecuted): the idempotency layer
//! outside gives the key back, free for the corrected request.
//!
//! # What it needs of the layers outside
//! The extractors: an [`EnvelopeLayer`](crate::envelope::EnvelopeLayer), which shows their errors;
//! without one a refusal is its status alone. The layers: nothing. Authentication stands outside
//! of either, so that strangers can't find out what is valid.

mod body;
#[cfg(feature = "filter")]
mod extract;
#[cfg(feature = "filter")]
mod field;
mod future;
#[cfg(feature = "filter")]
mod input;
mod json;
#[cfg(feature = "filter")]
mod layer;
mod refusal;
#[cfg(feature = "filter")]
mod rejection;
#[cfg(feature = "filter")]
mod rules;
#[cfg(feature = "schema")]
pub mod schema;
#[cfg(feature = "filter")]
mod service;
#[cfg(all(test, feature = "filter"))]
mod tests;

pub use body::FilterBody;
#[cfg(feature = "filter")]
pub use extract::{Filter, FilterContext, Filtered, Validated};
pub use future::ResponseFuture;
#[cfg(feature = "filter")]
pub use layer::FilterLayer;
#[cfg(feature = "filter")]
pub use rejection::FilterRejection;
#[cfg(feature = "filter")]
pub use rules::rule_error;
#[cfg(feature = "filter")]
pub use service::FilterService;
