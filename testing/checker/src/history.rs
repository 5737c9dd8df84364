//! Where load generators write.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onlyonce_core::{Clock, RecordId, SystemClock, Timestamp};

use crate::event::{
    Answer, Call, CallId, Digest, Execution, ExecutionId, Finish, Incident, Log, Moment, Name, Op,
    Outcome, Request, RequestId, Response,
};

/// A log that many tasks write to. Cloning gives the same log.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    began: Timestamp,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    log: Log,
    order: u64,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The key, and whose it is.
    pub name: Name,
    /// Where the key's record lies.
    pub record: RecordId,
    /// What is asked for.
    pub fingerprint: Arc<str>,
}

/// What a handler knows of its execution.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Which request it runs for.
    pub request: RequestId,
    /// Under which record's claim.
    pub record: RecordId,
    /// What it was told of earlier executions.
    pub attempt: u32,
    /// Its claim's fence.
    pub fence: u64,
}

impl History {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::on(SystemClock::new())
    }

    /// An empty log that has its times from `clock`.
    #[must_use]
    pub fn on(clock: impl Clock) -> Self {
        Self(Arc::new(Inner {
            began: clock.now(),
            clock: Arc::new(clock),
            book: Mutex::default(),
        }))
    }

    /// A request is about to be sent.
    #[must_use]
    pub fn request(&self, asked: Asked) -> RequestId {
        let Asked {
            name,
            record,
            fingerprint,
        } = asked;
        let (mut book, at) = self.open();
        let id = RequestId(book.log.requests.len());
        book.log.requests.push(Request {
            id,
            name,
            record,
            fingerprint,
            at,
        });
        id
    }

    /// Its answer has come.
    pub fn response(&self, request: RequestId, outcome: Outcome, status: u16, digest: Digest) {
        let (mut book, at) = self.open();
        book.log.responses.push(Response {
            request,
            outcome,
            status,
            digest,
            at,
        });
    }

    /// A handler begins.
    #[must_use]
    pub fn started(&self, running: Running) -> ExecutionId {
        let Running {
            request,
            record,
            attempt,
            fence,
        } = running;
        let (mut book, started) = self.open();
        let id = ExecutionId(book.log.executions.len());
        book.log.executions.push(Execution {
            request,
            record,
            attempt,
            fence,
            started,
            ended: None,
        });
        id
    }

    /// It ends.
    pub fn finished(&self, execution: ExecutionId, finish: Finish) {
        let (mut book, at) = self.open();
        book.log.executions[execution.0].ended = Some((at, finish));
    }

    /// An engine is about to call its store.
    #[must_use]
    pub fn calls(&self, node: &Arc<str>, record: RecordId, op: Op) -> CallId {
        let (mut book, began) = self.open();
        let id = CallId(book.log.calls.len());
        book.log.calls.push(Call {
            node: Arc::clone(node),
            record,
            op,
            began,
            ended: None,
        });
        id
    }

    /// The store has answered.
    pub fn answered(&self, call: CallId, answer: Answer) {
        let (mut book, at) = self.open();
        book.log.calls[call.0].ended = Some((at, answer));
    }

    /// Something is about to happen to the store by which it may lose what it has acknowledged,
    /// until [`over`](Self::over).
    pub fn incident(&self, what: &str) {
        let (mut book, began) = self.open();
        book.log.incidents.push(Incident {
            what: what.into(),
            began,
            ended: None,
        });
    }

    /// What is acknowledged from now on cannot fall to the incidents that have begun.
    pub fn over(&self) {
        let (mut book, at) = self.open();
        for incident in &mut book.log.incidents {
            incident.ended.get_or_insert(at);
        }
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> Log {
        self.open().0.log.clone()
    }

    /// How much of something is in the log so far.
    pub fn count(&self, count: impl FnOnce(&Log) -> usize) -> usize {
        count(&self.open().0.log)
    }

    /// The book, with the next moment in it. Under one lock: the order of entries is that of
    /// moments.
    fn open(&self) -> (MutexGuard<'_, Book>, Moment) {
        let inner = &self.0;
        let mut book = inner.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.order += 1;
        let time: Duration = inner.clock.now().since(inner.began);
        let order = book.order;
        (book, Moment { order, time })
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("History")
    }
}
