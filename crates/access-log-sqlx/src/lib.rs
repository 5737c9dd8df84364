//! Keeps the rows of the access log in SQLite or PostgreSQL.
//!
//! [`SqliteSink`] needs nothing but a file; [`PostgresSink`] is for several gateways or services
//! that share one log. Both are a [`RowSink`](onlyonce_pipeline::access_log::RowSink) for the
//! access log of `onlyonce-pipeline`.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use onlyonce_access_log_sqlx::SqliteSink;
//! use onlyonce_pipeline::access_log::{AccessLogLayer, RowQuery, RowSink, RowWriter, WriterOptions};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("access-log.db");
//! let sink = Arc::new(SqliteSink::open(path).await?);
//! let writer = RowWriter::start(sink.clone(), WriterOptions::default());
//! let layer = AccessLogLayer::new().with_rows(writer.queue());
//! // … serve with the layer, and at the end:
//! let flushed = writer.shutdown(Duration::from_secs(5)).await;
//! let newest = sink.list(&RowQuery::default()).await?;
//! # assert_eq!((flushed.lost, newest.len()), (0, 0));
//! # let _ = layer;
//! # Ok(()) }
//! ```
//!
//! # The schema
//! One table, `onlyonce_access_log`, made and brought up to date when a sink is opened. Rows are
//! found by their identifiers, which are in the order of time: a page of a listing costs the same
//! at any depth, and retention removes the oldest end. Each filter has an index, but for parts
//! of a path in the middle.

mod columns;
mod outcome;
mod postgres;
mod sqlite;
mod statement;

pub use postgres::PostgresSink;
pub use sqlite::SqliteSink;
