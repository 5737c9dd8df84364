//! What operators can ask of a store.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::{Record, RecordId, StoreError};

/// Listing, showing, resolving and forgetting records: the operators' side of a store.
///
/// Object-safe by boxed futures, since only admin tools call it and one allocation is nothing
/// to them.
pub trait Inspect: Send + Sync + 'static {
    /// Live records in the order of their identifiers, a page at a time.
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>>;

    /// The record with this identifier, if it is live.
    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>>;

    /// Settles a record whose outcome is unknown: one that is held, or whose lease has run out.
    ///
    /// The record gets a new fence, so that a late owner changes nothing any more. It expires when
    /// it would have.
    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved>;

    /// Removes a record, unless an owner is at work on it.
    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved>;

    /// How many live records there are in each state.
    fn count(&self) -> InspectFuture<'_, Counts>;
}

/// The future that [`Inspect`] returns.
pub type InspectFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Which records to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Start behind this identifier; `None` starts at the beginning.
    pub after: Option<RecordId>,
    /// At most this many.
    pub limit: usize,
    /// Only these.
    pub filter: Filter,
}

impl Default for Page {
    /// The first hundred records of any state.
    fn default() -> Self {
        Self {
            after: None,
            limit: 100,
            filter: Filter::default(),
        }
    }
}

/// Narrows a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only records in this state.
    pub state: Option<StateKind>,
}

impl Filter {
    /// Whether `record` passes.
    #[must_use]
    pub fn admits(&self, record: &Record) -> bool {
        self.state.is_none_or(|kind| kind == StateKind::of(record))
    }
}

/// A record's state, without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StateKind {
    /// An owner is at work.
    InProgress,
    /// Held, or its owner's lease has run out: somebody should look.
    Unknown,
    /// Executed, with its response.
    Completed,
    /// Executed; the response was not kept.
    NotKept,
}

impl StateKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::InProgress,
        Self::Unknown,
        Self::Completed,
        Self::NotKept,
    ];

    /// The state of `record`. An expired lease counts as unknown.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        use crate::State;
        match &record.state {
            State::InProgress { lease_left } if !lease_left.is_zero() => Self::InProgress,
            State::InProgress { .. } | State::Unknown => Self::Unknown,
            State::Completed { kept: Some(_), .. } => Self::Completed,
            State::Completed { kept: None, .. } => Self::NotKept,
        }
    }

    /// Its name: `in-progress`, `unknown`, `completed` or `not-kept`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in-progress",
            Self::Unknown => "unknown",
            Self::Completed => "completed",
            Self::NotKept => "not-kept",
        }
    }
}

/// One line of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The record's identifier.
    pub id: RecordId,
    /// What is known of it. The kept result may be large and is left out of listings: an empty
    /// one stands for it, so that the record's state is still what it is.
    pub record: Record,
}

/// How an operator settles an unknown outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It was executed. Without a result, retries get 409 `response-not-kept`.
    Completed {
        /// The status to report.
        status: u16,
        /// The encoded response to replay from now on, if the operator has one.
        result: Option<Bytes>,
    },
    /// It was not executed: the next request executes.
    NotExecuted,
}

/// What became of a resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Resolved {
    /// Done.
    Applied,
    /// There is no such live record.
    NotFound,
    /// An owner is at work on it, or (for a resolution) it is completed already.
    Refused,
}

/// How many live records there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Owners at work.
    pub in_progress: u64,
    /// Outcomes that somebody should look at.
    pub unknown: u64,
    /// Executed, with their responses.
    pub completed: u64,
    /// Executed; the response was not kept.
    pub not_kept: u64,
    /// Bytes that the records take in the store, by its own reckoning.
    pub bytes: u64,
}

impl Counts {
    /// Adds one record in state `kind`.
    pub fn add(&mut self, kind: StateKind) {
        match kind {
            StateKind::InProgress => self.in_progress += 1,
            StateKind::Unknown => self.unknown += 1,
            StateKind::Completed => self.completed += 1,
            StateKind::NotKept => self.not_kept += 1,
        }
    }
}
