//! A line and a row for each request.
//!
//! [`AccessLogLayer`] stands outside of everything. When an answer's body has ended, or its
//! client has hung up, it writes a line ([`Lines`]) and keeps a row ([`RowQueue`]): in the
//! background both, so that no request ever waits for a disk or a database.
//!
//! # Example
//! ```
//! use onlyonce_pipeline::access_log::{
//!     AccessLogLayer, LineFormat, Lines, MemorySink, RecordBodyLayer, RowWriter, WriterOptions,
//! };
//! use onlyonce_pipeline::context::ContextLayer;
//! use std::sync::Arc;
//! use std::time::Duration;
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! let sink = Arc::new(MemorySink::new(10_000));
//! let writer = RowWriter::start(sink, WriterOptions::default());
//! let layers = ServiceBuilder::new()
//!     .layer(
//!         AccessLogLayer::new()
//!             .with_lines(Lines::stdout(LineFormat::Text)?)
//!             .with_rows(writer.queue()),
//!     )
//!     .layer(RecordBodyLayer::new())
//!     .layer(ContextLayer::new());
//! # let _ = layers.service(tower::service_fn(async |_: http::Request<()>| {
//! #     Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
//! # }));
//! // … serve, and at the end:
//! let flushed = writer.shutdown(Duration::from_secs(5)).await;
//! assert_eq!(flushed.lost, 0);
//! # Ok(()) }
//! ```
//!
//! # What it shows
//! The trace ID, the module, the client's address and the user are those of the
//! [`Context`](crate::context::Context) that a layer inside makes; without one it makes a trace
//! ID of its own. Code, message and stack are those of the response's
//! [`AnswerNote`](crate::AnswerNote), the idempotency layer's part is that of its
//! [`Verdict`](onlyonce::Verdict). The request's body is kept where a [`RecordBodyLayer`] stands
//! inside (or a body of your own feeds [`BodyRecorder`]).
//!
//! # What it does not show
//! Secrets ([`Redaction`]). What of a body cannot be searched for secrets is not kept at all:
//! XML, several parts, JSON that is longer than the limit or malformed.
//!
//! No line can be forged: characters that break lines, move a terminal's cursor or turn the
//! direction of writing are escaped in every field.

mod body;
mod entry;
mod escape;
mod future;
mod layer;
mod line;
mod lines;
mod memory;
mod names;
mod paths;
mod pending;
mod recorder;
mod redact;
mod row;
mod rules;
mod service;
mod sink;
mod writer;

pub use body::LoggedBody;
pub use escape::visible;
pub use future::ResponseFuture;
pub use layer::{AccessLogLayer, Peer};
pub use line::LineFormat;
pub use lines::Lines;
pub use memory::MemorySink;
pub use paths::{Paths, PathsError};
pub use recorder::{BodyRecorder, RecordBody, RecordBodyLayer, RecordedBody};
pub use redact::{REDACTED, Redaction};
pub use row::{AccessRow, Ending, RowId, RowIdError};
pub use rules::Rules;
pub use service::AccessLog;
pub use sink::{MAX_PAGE, RowFilter, RowQuery, RowSink, RowSummary, SinkError, SinkFuture};
pub use writer::{Flushed, RowQueue, RowWriter, WriterOptions};

#[cfg(test)]
mod tests;
