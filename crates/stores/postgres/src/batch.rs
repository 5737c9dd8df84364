//! Steps of concurrent requests, in one statement and one commit.
//!
//! A step that comes alone goes at once. Steps that come while as many statements are under way as
//! may be gather, and go together with the next: no step ever waits for others to come.

use std::sync::{Arc, Mutex, PoisonError};

use onlyonce_core::{
    Attempt, Claim, Completion, Done, Fenced, Lease, OnUnknown, Operation, RecordId, StoreError,
    StoreErrorKind,
};
use tokio::sync::oneshot;
use tokio_postgres::types::Type;

use crate::error::strange;
use crate::query::{Borrowed, Parameter};
use crate::record::corrupt;
use crate::store::{Inner, claim_of, fence_number, fingerprint_bytes, millis};

/// Steps in one statement.
const MOST: usize = 64;
/// Bytes of results in one statement, unless a single one is longer.
const MOST_BYTES: usize = 1 << 20;

/// What can go together with others of its kind.
pub(crate) trait Step: Send + Sync + Sized + 'static {
    type Answer: Send + 'static;
    const OPERATION: Operation;

    fn id(&self) -> &RecordId;

    /// Bytes that it carries.
    fn weight(&self) -> usize;

    /// Does all of them, in their order, or none; an answer for each.
    fn run(
        inner: &Inner,
        connection: Option<Borrowed>,
        steps: &[&Self],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, StoreError>> + Send;

    /// Where they gather.
    fn gate(inner: &Inner) -> &Gate<Self>;
}

/// Where steps of one kind gather.
pub(crate) struct Gate<S: Step> {
    waiting: Mutex<Waiting<S>>,
    /// Statements that may be under way at a time.
    flights: usize,
}

struct Waiting<S: Step> {
    steps: Vec<Ticket<S>>,
    under_way: usize,
}

struct Ticket<S: Step> {
    step: S,
    answer: oneshot::Sender<Result<S::Answer, StoreError>>,
}

impl<S: Step> Gate<S> {
    pub(crate) fn new(flights: usize) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                steps: Vec::new(),
                under_way: 0,
            }),
            flights,
        }
    }

    /// Whether there are steps to go; if not, it ends a flight.
    fn calls(&self) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody waits for these any more.
        waiting.steps.retain(|ticket| !ticket.answer.is_closed());
        if waiting.steps.is_empty() {
            // Under the lock: whoever comes from now on departs by itself.
            waiting.under_way -= 1;
        }
        !waiting.steps.is_empty()
    }

    /// The next steps to go, if others have not taken them all.
    fn board(&self) -> Vec<Ticket<S>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.steps.retain(|ticket| !ticket.answer.is_closed());
        let mut bytes = 0;
        let count = waiting
            .steps
            .iter()
            .take(MOST)
            .take_while(|ticket| {
                let first = bytes == 0;
                bytes += ticket.step.weight() + 1;
                first || bytes <= MOST_BYTES
            })
            .count();
        waiting.steps.drain(..count).collect()
    }
}

/// Gives its place back even if it ends in a panic.
struct Flight<'g, S: Step>(&'g Gate<S>);

impl<S: Step> Drop for Flight<'_, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut waiting = self
                .0
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            waiting.under_way -= 1;
        }
    }
}

impl Inner {
    /// Does a step, with others or alone.
    ///
    /// # Cancellation safety
    /// A step that has been dropped while it waited is not done; one that is under way goes on.
    pub(crate) async fn together<S: Step>(
        self: &Arc<Self>,
        step: S,
    ) -> Result<S::Answer, StoreError> {
        let (answer, answered) = oneshot::channel();
        let gate = S::gate(self);
        let departs = {
            let mut waiting = gate.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.steps.push(Ticket { step, answer });
            let departs = waiting.under_way < gate.flights;
            waiting.under_way += usize::from(departs);
            departs
        };
        if departs {
            let inner = Arc::clone(self);
            tokio::spawn(async move {
                let gate = S::gate(&inner);
                let _flight = Flight(gate);
                while gate.calls() {
                    // The connection first: what has been given up by the time that there is one
                    // must not be sent. It would come later than those who gave it up reckon with.
                    let connecting = inner.caller.connection(S::OPERATION);
                    let connection = inner.caller.in_time(S::OPERATION, connecting).await;
                    inner.fly(connection, gate.board()).await;
                }
            });
        }
        let gone = || {
            StoreError::new(
                S::OPERATION,
                StoreErrorKind::Unavailable,
                "the step was given up",
            )
        };
        self.caller
            .in_time(S::OPERATION, async {
                answered.await.unwrap_or_else(|_| Err(gone()))
            })
            .await
    }

    async fn fly<S: Step>(
        &self,
        connection: Result<Borrowed, StoreError>,
        mut tickets: Vec<Ticket<S>>,
    ) {
        if tickets.is_empty() {
            if let Ok(connection) = connection {
                connection.give_back();
            }
            return;
        }
        // In one order everywhere: two statements never wait for each other.
        tickets.sort_by(|one, two| one.step.id().as_bytes().cmp(two.step.id().as_bytes()));
        let steps: Vec<&S> = tickets.iter().map(|ticket| &ticket.step).collect();
        let done = match connection {
            Ok(connection) => S::run(self, Some(connection), &steps).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(answers) => {
                for (ticket, answer) in tickets.into_iter().zip(answers) {
                    let _ = ticket.answer.send(Ok(answer));
                }
            }
            Err(error) if tickets.len() == 1 => {
                if let Some(ticket) = tickets.pop() {
                    let _ = ticket.answer.send(Err(error));
                }
            }
            // The connection broke, or the server takes nothing just now: the same for all.
            Err(error) if error.is_retryable() => {
                for ticket in tickets {
                    let told = StoreError::new(S::OPERATION, error.kind(), shared_message(&error));
                    let _ = ticket.answer.send(Err(told));
                }
            }
            // What is wrong with one is no concern of the others.
            Err(_) => {
                for ticket in tickets {
                    if ticket.answer.is_closed() {
                        continue;
                    }
                    let answer = S::run(self, None, &[&ticket.step]).await;
                    let answer = answer
                        .and_then(|mut answers| answers.pop().ok_or_else(|| corrupt(S::OPERATION)));
                    let _ = ticket.answer.send(answer);
                }
            }
        }
    }
}

/// The whole chain as text: an error has one owner.
fn shared_message(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Step for Attempt {
    type Answer = Claim;
    const OPERATION: Operation = Operation::Claim;

    fn id(&self) -> &RecordId {
        &self.id
    }

    fn weight(&self) -> usize {
        self.label.len()
    }

    async fn run(
        inner: &Inner,
        connection: Option<Borrowed>,
        steps: &[&Self],
    ) -> Result<Vec<Claim>, StoreError> {
        let ids: Vec<&[u8]> = steps.iter().map(|step| &step.id.as_bytes()[..]).collect();
        let nonces: Vec<&[u8]> = steps
            .iter()
            .map(|step| &step.nonce.as_bytes()[..])
            .collect();
        let prints: Vec<Option<Vec<u8>>> = steps
            .iter()
            .map(|step| step.fingerprint.as_ref().map(fingerprint_bytes))
            .collect();
        let leases: Vec<i64> = steps.iter().map(|step| millis(step.lease)).collect();
        let keeps: Vec<i64> = steps.iter().map(|step| millis(step.keep)).collect();
        let retries: Vec<bool> = steps
            .iter()
            .map(|step| step.on_unknown == OnUnknown::Retry)
            .collect();
        let labels: Vec<&[u8]> = steps.iter().map(|step| step.label.as_bytes()).collect();
        let parameters: [Parameter<'_>; 7] = [
            (&ids, Type::BYTEA_ARRAY),
            (&nonces, Type::BYTEA_ARRAY),
            (&prints, Type::BYTEA_ARRAY),
            (&leases, Type::INT8_ARRAY),
            (&keeps, Type::INT8_ARRAY),
            (&retries, Type::BOOL_ARRAY),
            (&labels, Type::BYTEA_ARRAY),
        ];
        let statement = &inner.statements.claim;
        // Never sent twice from here: the first might come after the answer to the second, and win
        // again what has been released meanwhile. Whoever asked knows what it sends, and looks for it.
        let rows = inner.call_on(connection, Self::OPERATION, false, statement, &parameters);
        let rows = rows.await?;
        if rows.len() != steps.len() {
            return Err(corrupt(Self::OPERATION));
        }
        let pairs = steps.iter().zip(&rows);
        pairs.map(|(step, row)| claim_of(step, row)).collect()
    }

    fn gate(inner: &Inner) -> &Gate<Self> {
        &inner.claims
    }
}

/// A completion and whose it is.
pub(crate) struct Ending {
    pub(crate) lease: Lease,
    pub(crate) completion: Completion,
    pub(crate) keep: std::time::Duration,
}

impl Step for Ending {
    type Answer = Fenced;
    const OPERATION: Operation = Operation::Complete;

    fn id(&self) -> &RecordId {
        &self.lease.id
    }

    fn weight(&self) -> usize {
        match &self.completion.done {
            Done::Kept { result, .. } => result.len(),
            Done::NotKept { .. } | Done::Unknown => 0,
        }
    }

    async fn run(
        inner: &Inner,
        connection: Option<Borrowed>,
        steps: &[&Self],
    ) -> Result<Vec<Fenced>, StoreError> {
        let ids: Vec<&[u8]> = steps
            .iter()
            .map(|step| &step.lease.id.as_bytes()[..])
            .collect();
        let fences: Vec<i64> = steps
            .iter()
            .map(|step| fence_number(step.lease.fence))
            .collect();
        let mut states: Vec<i16> = Vec::with_capacity(steps.len());
        let mut statuses: Vec<Option<i32>> = Vec::with_capacity(steps.len());
        let mut results: Vec<Option<&[u8]>> = Vec::with_capacity(steps.len());
        for step in steps {
            let (state, status, result) = match &step.completion.done {
                Done::Unknown => (1, None, None),
                Done::Kept { status, result } => (2, Some(*status), Some(&result[..])),
                Done::NotKept { status } => (3, Some(*status), None),
            };
            states.push(state);
            statuses.push(status.map(i32::from));
            results.push(result);
        }
        let prints: Vec<Option<Vec<u8>>> = steps
            .iter()
            .map(|step| step.completion.fingerprint.as_ref().map(fingerprint_bytes))
            .collect();
        let keeps: Vec<i64> = steps.iter().map(|step| millis(step.keep)).collect();
        let parameters: [Parameter<'_>; 7] = [
            (&ids, Type::BYTEA_ARRAY),
            (&fences, Type::INT8_ARRAY),
            (&states, Type::INT2_ARRAY),
            (&statuses, Type::INT4_ARRAY),
            (&prints, Type::BYTEA_ARRAY),
            (&results, Type::BYTEA_ARRAY),
            (&keeps, Type::INT8_ARRAY),
        ];
        let statement = &inner.statements.complete;
        let rows = inner.call_on(connection, Self::OPERATION, true, statement, &parameters);
        let rows = rows.await?;
        if rows.len() != steps.len() {
            return Err(corrupt(Self::OPERATION));
        }
        rows.iter()
            .map(|row| {
                let applied = row.try_get(0).map_err(|e| strange(Self::OPERATION, e))?;
                Ok(if applied {
                    Fenced::Applied
                } else {
                    Fenced::Superseded
                })
            })
            .collect()
    }

    fn gate(inner: &Inner) -> &Gate<Self> {
        &inner.endings
    }
}
