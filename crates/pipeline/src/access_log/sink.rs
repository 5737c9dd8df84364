//! Where rows are kept.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use onlyonce_core::{BoxError, Timestamp};
use serde::Serialize;

use super::{AccessRow, RowId};

/// Where rows are kept, and found again.
///
/// Object-safe by boxed futures: one allocation for a batch is nothing.
///
/// # Contract
/// - **Repetition.** A batch may be written again when nobody knows what became of it: a row
///   whose identifier is there already is left as it is.
/// - **Cancellation.** A future may be dropped at any time; a batch is then written or not.
/// - **Order.** Identifiers order rows by time; listings begin with the greatest.
pub trait RowSink: Send + Sync + 'static {
    /// Writes all of `rows`, or none.
    fn write<'a>(&'a self, rows: &'a [AccessRow]) -> SinkFuture<'a, ()>;

    /// The newest rows that fit, in the order of their identifiers backwards.
    fn list<'a>(&'a self, query: &'a RowQuery) -> SinkFuture<'a, Vec<RowSummary>>;

    /// One row.
    fn find(&self, id: RowId) -> SinkFuture<'_, Option<AccessRow>>;

    /// Removes up to `most` rows of requests that came before `before`, and says how many there
    /// were. The caller repeats it: no one call should hold up writing for long.
    fn purge(&self, before: Timestamp, most: usize) -> SinkFuture<'_, u64>;
}

/// The future that [`RowSink`] returns.
pub type SinkFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SinkError>> + Send + 'a>>;

/// A sink's failure.
#[derive(Debug, thiserror::Error)]
#[error("the access log could not be {action}")]
#[non_exhaustive]
pub struct SinkError {
    action: &'static str,
    source: BoxError,
}

impl SinkError {
    /// What could not be done (`written`, `read`, `opened`), and why.
    pub fn new(action: &'static str, source: impl Into<BoxError>) -> Self {
        Self {
            action,
            source: source.into(),
        }
    }
}

/// Most rows in one listing.
pub const MAX_PAGE: usize = 500;

/// Which rows to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowQuery {
    /// Only rows that fit all of this.
    pub filter: RowFilter,
    /// Only rows older than this one: the last of the page before.
    pub before: Option<RowId>,
    /// At most this many, and never more than [`MAX_PAGE`].
    pub limit: usize,
}

impl Default for RowQuery {
    /// The newest fifty.
    fn default() -> Self {
        Self {
            filter: RowFilter::default(),
            before: None,
            limit: 50,
        }
    }
}

impl RowQuery {
    /// How many rows a sink gives at most.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.limit.clamp(1, MAX_PAGE)
    }
}

/// What rows must fit. `None` lets all through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowFilter {
    /// The trace ID, whole.
    pub trace_id: Option<String>,
    /// How the path begins, if this begins with `/`; else what it contains, which takes a look
    /// at every row in the range.
    pub path: Option<String>,
    /// The module, whole.
    pub module: Option<String>,
    /// The method, whole.
    pub method: Option<String>,
    /// The user's ID, whole.
    pub user: Option<String>,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// When the request came, at the earliest.
    pub from: Option<Timestamp>,
    /// When the request came, before this.
    pub until: Option<Timestamp>,
    /// The answer's code.
    pub code: Option<i32>,
    /// How long it took, at least.
    pub min_duration: Option<Duration>,
}

impl RowFilter {
    /// Whether a row fits.
    #[must_use]
    pub fn fits(&self, row: &AccessRow) -> bool {
        fn is<T: PartialEq + ?Sized>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        let path = self.path.as_deref().is_none_or(|part| {
            if part.starts_with('/') {
                row.path.starts_with(part)
            } else {
                row.path.contains(part)
            }
        });
        path && is(self.trace_id.as_ref(), Some(&row.trace_id))
            && is(self.module.as_ref(), Some(&row.module))
            && is(self.method.as_ref(), Some(&row.method))
            && is(self.user.as_ref(), row.user.as_ref())
            && is(self.ip.as_ref(), row.ip.as_ref())
            && is(self.code.as_ref(), row.code.as_ref())
            && self.from.is_none_or(|from| row.created >= from)
            && self.until.is_none_or(|until| row.created < until)
            && self.min_duration.is_none_or(|least| row.duration >= least)
    }
}

/// A row in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSummary {
    /// Names the row.
    pub id: RowId,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// The first segment of the path.
    pub module: String,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The user's ID.
    pub user: Option<String>,
    /// The answer's code.
    pub code: Option<i32>,
    /// The answer's status.
    pub status: u16,
    /// From the request's head to the end of the answer.
    pub duration: Duration,
    /// When the request came.
    pub created: Timestamp,
    /// What the idempotency layer did.
    pub outcome: Option<String>,
}

impl From<&AccessRow> for RowSummary {
    fn from(row: &AccessRow) -> Self {
        Self {
            id: row.id,
            trace_id: row.trace_id.clone(),
            module: row.module.clone(),
            method: row.method.clone(),
            path: row.path.clone(),
            ip: row.ip,
            user: row.user.clone(),
            code: row.code,
            status: row.status,
            duration: row.duration,
            created: row.created,
            outcome: row.outcome.clone(),
        }
    }
}

impl Serialize for RowId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
