//! Rows on their way to the sink, in the background.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::counter;
use onlyonce_core::{Clock, SystemClock};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{AccessRow, RowSink};

/// How rows are written. All bounds are at least 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// Rows that may wait. More are dropped and counted; no request ever waits. Default 1024.
    pub queue: usize,
    /// Rows in a batch, at most. Default 100.
    pub batch: usize,
    /// How long a row waits for others to share its batch. Default 1 s.
    pub linger: Duration,
    /// How long one call of the sink may take. Default 10 s.
    pub timeout: Duration,
    /// How often a batch is tried before it is given up. Default 6.
    pub attempts: u32,
    /// The wait after the first failure; it doubles with each, up to 10 s. Default 200 ms.
    pub backoff: Duration,
    /// Rows of requests older than this are removed; `None` keeps them for ever. Default 30 days.
    pub retention: Option<Duration>,
    /// How often old rows are looked for. Default 10 min.
    pub purge_every: Duration,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            queue: 1024,
            batch: 100,
            linger: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            attempts: 6,
            backoff: Duration::from_millis(200),
            retention: Some(Duration::from_secs(30 * 24 * 3600)),
            purge_every: Duration::from_secs(600),
        }
    }
}

const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// Rows removed in one step, so that writing is never held up for long.
const PURGE_STEP: usize = 1000;

/// Writes rows in the background until it is [shut down](Self::shutdown). Dropped, it writes what
/// waits and ends once all queues are gone.
#[must_use = "without `shutdown`, what waits at the end of the program is lost"]
pub struct RowWriter {
    queue: RowQueue,
    closing: watch::Sender<bool>,
    writing: JoinHandle<()>,
    _purging: AbortOnDrop,
}

/// The way into a [`RowWriter`]. Clones lead to the same one.
#[derive(Clone)]
pub struct RowQueue {
    rows: mpsc::Sender<Job>,
    counts: Arc<Counts>,
}

/// Makes a row, away from its request.
type Job = Box<dyn FnOnce() -> AccessRow + Send>;

#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
}

/// How the end of a [`RowWriter`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Flushed {
    /// Rows that were not written when the time was over.
    pub lost: u64,
}

impl RowWriter {
    /// Starts writing to `sink`, on this runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(sink: Arc<dyn RowSink>, options: WriterOptions) -> Self {
        Self::start_with_clock(sink, options, Arc::new(SystemClock::new()))
    }

    /// Starts writing; `clock` says how old rows are.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start_with_clock(
        sink: Arc<dyn RowSink>,
        options: WriterOptions,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(options.queue.max(1));
        let (closing, closed) = watch::channel(false);
        let counts = Arc::<Counts>::default();
        let purging = options.retention.map(|age| {
            let purge = purge(Arc::clone(&sink), clock, age, options.clone());
            tokio::spawn(purge)
        });
        let writer = Writer {
            sink,
            options,
            closing: closed,
            counts: Arc::clone(&counts),
        };
        Self {
            queue: RowQueue {
                rows: sender,
                counts,
            },
            closing,
            writing: tokio::spawn(writer.run(receiver)),
            _purging: AbortOnDrop(purging),
        }
    }

    /// The way in.
    #[must_use]
    pub fn queue(&self) -> RowQueue {
        self.queue.clone()
    }

    /// Takes no more rows, writes what waits, but not for longer than `limit`, and ends.
    ///
    /// # Cancellation safety
    /// Dropped half-way it goes on in the background.
    pub async fn shutdown(mut self, limit: Duration) -> Flushed {
        // The writer may have ended by itself: then there is nothing to close.
        let _ = self.closing.send(true);
        let counts = &self.queue.counts;
        if timeout(limit, &mut self.writing).await.is_err() {
            self.writing.abort();
        }
        let settled =
            counts.written.load(Ordering::Acquire) + counts.dropped.load(Ordering::Acquire);
        let lost = counts.taken.load(Ordering::Acquire).saturating_sub(settled);
        dropped("shutdown", lost);
        Flushed { lost }
    }
}

impl RowQueue {
    /// Puts a row in, if there is room; says whether there was. Never waits.
    pub fn offer(&self, row: impl FnOnce() -> AccessRow + Send + 'static) -> bool {
        let (reason, counts) = match self.rows.try_reserve() {
            Ok(place) => {
                // Before the writer can see it, so that no row is written that was not taken.
                self.counts.taken.fetch_add(1, Ordering::AcqRel);
                place.send(Box::new(row));
                return true;
            }
            Err(mpsc::error::TrySendError::Full(())) => ("full", &self.counts),
            Err(mpsc::error::TrySendError::Closed(())) => ("closed", &self.counts),
        };
        counts.taken.fetch_add(1, Ordering::AcqRel);
        counts.dropped.fetch_add(1, Ordering::AcqRel);
        dropped(reason, 1);
        false
    }

    /// How many rows were dropped: as the queue was full, or the sink failed for too long.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Acquire)
    }

    /// How many rows were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.counts.written.load(Ordering::Acquire)
    }
}

struct Writer {
    sink: Arc<dyn RowSink>,
    options: WriterOptions,
    closing: watch::Receiver<bool>,
    counts: Arc<Counts>,
}

impl Writer {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let most = self.options.batch.max(1);
        let mut waiting = Vec::with_capacity(most);
        loop {
            let more = self.gather(&mut jobs, &mut waiting, most).await;
            if !waiting.is_empty() {
                let rows = self.rows(waiting.split_off(0)).await;
                if !rows.is_empty() {
                    self.write(&rows).await;
                }
            } else if !more {
                return;
            }
        }
    }

    /// The next batch: full, or as much as came while its first row lingered. Says whether there
    /// can be more.
    async fn gather(
        &mut self,
        jobs: &mut mpsc::Receiver<Job>,
        waiting: &mut Vec<Job>,
        most: usize,
    ) -> bool {
        let first = tokio::select! {
            biased;
            () = closed(&mut self.closing) => {
                // What is in the queue can still be had.
                jobs.close();
                jobs.recv().await
            }
            first = jobs.recv() => first,
        };
        let Some(first) = first else { return false };
        waiting.push(first);
        let end = Instant::now() + self.options.linger;
        while waiting.len() < most {
            let next = tokio::select! {
                biased;
                next = timeout_at(end, jobs.recv()) => next,
                () = closed(&mut self.closing) => {
                    while waiting.len() < most && let Ok(next) = jobs.try_recv() {
                        waiting.push(next);
                    }
                    return true;
                }
            };
            match next {
                Ok(Some(next)) => waiting.push(next),
                Ok(None) | Err(_) => break,
            }
        }
        true
    }

    /// Makes the rows where nothing else waits: looking up an error's places takes its time.
    async fn rows(&self, jobs: Vec<Job>) -> Vec<AccessRow> {
        let count = jobs.len();
        let making = move || -> Vec<_> {
            let made = |job: Job| catch_unwind(AssertUnwindSafe(job)).ok();
            jobs.into_iter().filter_map(made).collect()
        };
        let rows = tokio::task::spawn_blocking(making)
            .await
            .unwrap_or_default();
        let lost = (count - rows.len()) as u64;
        self.counts.dropped.fetch_add(lost, Ordering::AcqRel);
        dropped("failed", lost);
        rows
    }

    async fn write(&mut self, rows: &[AccessRow]) {
        let count = rows.len() as u64;
        let mut pause = self.options.backoff;
        for attempt in 1..=self.options.attempts.max(1) {
            match timeout(self.options.timeout, self.sink.write(rows)).await {
                Ok(Ok(())) => {
                    self.counts.written.fetch_add(count, Ordering::AcqRel);
                    counter!("onlyonce_access_log_rows_written_total").increment(count);
                    return;
                }
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, attempt, rows = count, "access log not written");
                }
                Err(_) => {
                    let limit = self.options.timeout;
                    tracing::warn!(
                        attempt,
                        rows = count,
                        ?limit,
                        "access log not written in time"
                    );
                }
            }
            counter!("onlyonce_access_log_write_failures_total").increment(1);
            if attempt < self.options.attempts {
                // A shutdown has no time to lose; it has a limit of its own.
                let pause = pause.min(LONGEST_BACKOFF);
                tokio::select! {
                    () = sleep(pause) => {}
                    () = closed(&mut self.closing) => sleep(pause.min(self.options.backoff)).await,
                }
            }
            pause = pause.saturating_mul(2);
        }
        self.counts.dropped.fetch_add(count, Ordering::AcqRel);
        dropped("failed", count);
    }
}

/// Resolves when the writer is told to end; never, when whoever could tell it has gone.
async fn closed(closing: &mut watch::Receiver<bool>) {
    if closing.wait_for(|closing| *closing).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn purge(
    sink: Arc<dyn RowSink>,
    clock: Arc<dyn Clock>,
    age: Duration,
    options: WriterOptions,
) {
    let every = options.purge_every.max(Duration::from_secs(1));
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    loop {
        let now = clock.now().as_millis();
        let before = onlyonce_core::Timestamp::from_millis(now.saturating_sub(age));
        loop {
            match timeout(options.timeout, sink.purge(before, PURGE_STEP)).await {
                Ok(Ok(0)) => break,
                Ok(Ok(count)) => {
                    counter!("onlyonce_access_log_rows_purged_total").increment(count);
                    if count < PURGE_STEP as u64 {
                        break;
                    }
                    // Batches of rows get their turn in between.
                    sleep(Duration::from_millis(20)).await;
                }
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "old rows of the access log not removed");
                    break;
                }
                Err(_) => {
                    tracing::warn!("old rows of the access log not removed in time");
                    break;
                }
            }
        }
        sleep(every).await;
    }
}

fn dropped(reason: &'static str, rows: u64) {
    if rows > 0 {
        counter!("onlyonce_access_log_rows_dropped_total", "reason" => reason).increment(rows);
    }
}

#[derive(Debug)]
struct AbortOnDrop(Option<JoinHandle<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl fmt::Debug for RowWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowWriter").finish_non_exhaustive()
    }
}

impl fmt::Debug for RowQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowQueue")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
