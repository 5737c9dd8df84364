//! The contract of a store.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::{Completion, Fingerprint, Lease, Nonce, OnUnknown, Record, RecordId, StoreError};

/// Where records live.
///
/// Five operations, each **atomic** and, on a remote store, one round trip. Implementations
/// write plain `async fn`s; callers hold a [`SharedStore`](crate::SharedStore).
///
/// # Contract
/// - **Order.** Operations on one record are linearizable. An operation that returned `Ok` is
///   seen by every later one, and on a durable store survives a crash.
/// - **Time.** Durations go in and come out; the store counts them on one clock of its own,
///   which no client's clock can move. An expired record is as good as absent, at once, swept
///   or not. Deadlines are kept to the millisecond: at `now == deadline` it has passed.
/// - **Fences** come from one sequence for the whole store, which never goes back, not even
///   when records go or the store restarts. A store without one place for it (a cluster) has
///   several, and a record always draws from the same one.
/// - **Repetition.** Every operation may be sent again after a lost reply: a claim by its nonce,
///   a completion by its fence. A store that sends a claim again by itself makes sure that the
///   earlier one can't come after the answer, or it would win again what was released meanwhile,
///   for nobody; where it can't, it fails, and leaves that to its caller, who looks for it.
/// - **Cancellation.** Dropping a returned future may or may not leave the operation's effect,
///   never half of it, and leaves the store fit for use. An effect that is left may come later
///   than the drop, and than calls made after it, by as long as a call may take.
/// - **Errors.** A record that can't be decoded is an error, never a miss. After an error of
///   kind `Unavailable` or `Timeout` the effect may or may not have happened.
///
/// The transitions themselves are written once, as pure functions on [`Entry`](crate::Entry);
/// a store that can hold a lock across a read and a write needs nothing else. The
/// `onlyonce-conformance` crate tests all of the above.
pub trait Store: Send + Sync + 'static {
    /// Claims a key: makes this request its owner, or says what is known of it.
    ///
    /// - absent or expired: [`Claim::Won`] as attempt 1, with a new fence;
    /// - in progress under the same nonce: [`Claim::Won`] again, same fence and attempt, with
    ///   the lease counted anew;
    /// - in progress, lease run out, `on_unknown` is `Retry`, and [`decide`](crate::decide) says
    ///   so: [`Claim::Won`] with a new fence, attempt + 1, this nonce and this fingerprint;
    /// - else [`Claim::Held`], and nothing is changed.
    ///
    /// An in-progress record is kept for `attempt.keep` beyond the end of its lease.
    ///
    /// # Errors
    /// [`Full`](crate::StoreErrorKind::Full) when a bounded store holds nothing but live records.
    fn claim(&self, attempt: &Attempt) -> impl Future<Output = Result<Claim, StoreError>> + Send;

    /// Extends the lease: it now ends `renewal.extend` from now.
    ///
    /// [`Fenced::Applied`] while the record is in progress under this fence, even if the lease
    /// had run out and nobody took over; else [`Fenced::Superseded`], and nothing is changed.
    ///
    /// # Errors
    /// When the store fails.
    fn renew(
        &self,
        lease: &Lease,
        renewal: &Renewal,
    ) -> impl Future<Output = Result<Fenced, StoreError>> + Send;

    /// Ends the claim with a result, to be kept for `keep` from now.
    ///
    /// [`Fenced::Applied`] while the record is in progress under this fence, and again when this
    /// owner has already completed it (nothing is changed then: the first result stands);
    /// else [`Fenced::Superseded`], and nothing is changed. `Applied` means durable.
    ///
    /// # Errors
    /// When the store fails.
    fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> impl Future<Output = Result<Fenced, StoreError>> + Send;

    /// Ends the claim as if it had never been: the next request executes as attempt 1.
    ///
    /// [`Fenced::Applied`] while the record is in progress under this fence; else
    /// [`Fenced::Superseded`], and nothing is changed.
    ///
    /// # Errors
    /// When the store fails.
    fn release(&self, lease: &Lease) -> impl Future<Output = Result<Fenced, StoreError>> + Send;

    /// Watches a record: the returned [`Changes`] resolves when it has been completed or
    /// released (also resolved or forgotten) since this call returned.
    ///
    /// It may resolve without cause, and on a remote store a notification may be lost: callers
    /// also poll, slowly. Dropping it ends the watch.
    ///
    /// # Errors
    /// When the store fails.
    fn watch(&self, id: &RecordId) -> impl Future<Output = Result<Changes, StoreError>> + Send;
}

/// One request's bid for a key.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Where the record lies.
    pub id: RecordId,
    /// Names this request; the same when the claim is sent again.
    pub nonce: Nonce,
    /// What the request asks for; `None` while its body is still to be read.
    pub fingerprint: Option<Fingerprint>,
    /// How long the owner may work before it renews.
    pub lease: Duration,
    /// How long the record is kept after its lease ran out without a result.
    pub keep: Duration,
    /// Whether a vanished owner is succeeded.
    pub on_unknown: OnUnknown,
    /// What the operator sees in listings, such as `POST /v1/charges`. Never the key.
    pub label: Box<str>,
}

/// The answer to a claim.
#[derive(Clone, Debug)]
#[must_use]
pub enum Claim {
    /// This request owns the key now.
    Won(Lease),
    /// The key has a record, and this request does not own it.
    Held(Record),
}

/// A longer lease.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    /// How long the lease lasts, from now.
    pub extend: Duration,
    /// The request's fingerprint, if it has become known since the claim. `None` leaves what the
    /// record has.
    pub fingerprint: Option<Fingerprint>,
}

/// Whether a write under a fence took effect. An outcome, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Fenced {
    /// The record was this owner's, and has been changed.
    Applied,
    /// The record is another's by now, or gone; nothing was changed.
    Superseded,
}

/// Resolves once, at the next change of a watched record.
///
/// Dropping it ends the watch.
#[must_use = "futures do nothing unless awaited"]
pub struct Changes(Pin<Box<dyn Future<Output = ()> + Send + 'static>>);

impl Changes {
    /// Changes announced by the end of `future`.
    pub fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for Changes {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes")
    }
}
