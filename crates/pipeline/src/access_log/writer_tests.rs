use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use onlyonce_core::{ManualClock, Timestamp};

use super::super::{Ending, MemorySink, RowId, RowQuery, RowSummary, SinkError, SinkFuture};
use super::*;

pub(crate) fn row(created: u64) -> AccessRow {
    let created = Timestamp::from_millis(created);
    AccessRow {
        id: RowId::new(created),
        trace_id: String::new(),
        module: "m".to_owned(),
        method: "GET".to_owned(),
        scheme: "http".to_owned(),
        host: String::new(),
        path: "/m".to_owned(),
        query: String::new(),
        headers: Vec::new(),
        body: String::new(),
        ip: None,
        user: None,
        code: None,
        message: String::new(),
        stack: Vec::new(),
        status: 200,
        user_agent: String::new(),
        duration: Duration::ZERO,
        ending: Ending::Complete,
        responded: created,
        created,
        outcome: None,
        key_hash: None,
    }
}

/// Does as the test says, and notes the sizes of the batches that came.
#[derive(Default)]
struct Scripted {
    inner: Option<MemorySink>,
    failures: AtomicU32,
    hangs: bool,
    batches: Mutex<Vec<usize>>,
    purges: AtomicU32,
}

impl RowSink for Scripted {
    fn write<'a>(&'a self, rows: &'a [AccessRow]) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            self.batches.lock().unwrap().push(rows.len());
            if self.hangs {
                std::future::pending::<()>().await;
            }
            let failing = self
                .failures
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                });
            if failing.is_ok() {
                return Err(SinkError::new("written", "the disk is full"));
            }
            match &self.inner {
                Some(inner) => inner.write(rows).await,
                None => Ok(()),
            }
        })
    }

    fn list<'a>(&'a self, _: &'a RowQuery) -> SinkFuture<'a, Vec<RowSummary>> {
        unreachable!()
    }

    fn find(&self, _: RowId) -> SinkFuture<'_, Option<AccessRow>> {
        unreachable!()
    }

    fn purge(&self, before: Timestamp, most: usize) -> SinkFuture<'_, u64> {
        self.purges.fetch_add(1, Ordering::SeqCst);
        match &self.inner {
            Some(inner) => inner.purge(before, most),
            None => Box::pin(async { Ok(0) }),
        }
    }
}

impl Scripted {
    fn batches(&self) -> Vec<usize> {
        self.batches.lock().unwrap().clone()
    }
}

fn options() -> WriterOptions {
    WriterOptions {
        retention: None,
        ..WriterOptions::default()
    }
}

fn start(sink: Scripted, options: WriterOptions) -> (Arc<Scripted>, RowWriter) {
    let sink = Arc::new(sink);
    let writer = RowWriter::start(Arc::clone(&sink) as Arc<dyn RowSink>, options);
    (sink, writer)
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn batches_end_by_count_or_by_time() {
    let (sink, writer) = start(
        Scripted::default(),
        WriterOptions {
            batch: 3,
            linger: Duration::from_secs(1),
            ..options()
        },
    );
    for _ in 0..7 {
        assert!(writer.queue().offer(|| row(1)));
    }
    sleep(Duration::from_millis(900)).await;
    assert_eq!(sink.batches(), [3, 3]);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(sink.batches(), [3, 3, 1]);
    assert_eq!(writer.queue().written(), 7);
    assert_eq!(writer.shutdown(LONG).await.lost, 0);
}

#[tokio::test(start_paused = true)]
async fn a_failing_sink_is_tried_again_and_then_given_up() {
    let (sink, writer) = start(
        Scripted {
            failures: AtomicU32::new(4),
            ..Scripted::default()
        },
        WriterOptions {
            attempts: 3,
            linger: Duration::ZERO,
            ..options()
        },
    );
    let queue = writer.queue();
    queue.offer(|| row(1));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        (sink.batches().len(), queue.written(), queue.dropped()),
        (3, 0, 1)
    );
    queue.offer(|| row(2));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        (sink.batches().len(), queue.written(), queue.dropped()),
        (5, 1, 1)
    );
    assert_eq!(writer.shutdown(LONG).await.lost, 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_answer_was_lost_is_not_there_twice() {
    let sink = MemorySink::new(10);
    let twice = [row(1), row(2)];
    sink.write(&twice).await.unwrap();
    sink.write(&twice).await.unwrap();
    assert_eq!(sink.list(&RowQuery::default()).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_never_answers_costs_rows_and_no_time() {
    let (sink, writer) = start(
        Scripted {
            hangs: true,
            ..Scripted::default()
        },
        WriterOptions {
            queue: 4,
            batch: 2,
            linger: Duration::ZERO,
            ..options()
        },
    );
    let queue = writer.queue();
    queue.offer(|| row(1));
    // The sink has its batch, and keeps it.
    while sink.batches().is_empty() {
        tokio::task::yield_now().await;
    }
    let before = Instant::now();
    let taken = (0..1000).filter(|_| queue.offer(|| row(1))).count();
    assert_eq!(taken, 4, "as many as there is room for");
    assert_eq!(queue.dropped(), 996);
    assert_eq!(Instant::now(), before, "nobody waited");
    // Each attempt times out; the batch is given up, and the next one has its turn.
    sleep(Duration::from_secs(120)).await;
    assert!(queue.dropped() > 996);
    let _ = writer.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_writes_what_waits() {
    let sink = Scripted {
        inner: Some(MemorySink::new(1000)),
        ..Scripted::default()
    };
    let (sink, writer) = start(
        sink,
        WriterOptions {
            batch: 10,
            linger: LONG,
            ..options()
        },
    );
    let queue = writer.queue();
    for _ in 0..25 {
        assert!(queue.offer(|| row(1)));
    }
    assert_eq!(
        writer.shutdown(Duration::from_secs(5)).await,
        Flushed { lost: 0 }
    );
    let kept = sink.inner.as_ref().unwrap();
    let kept = kept.list(&RowQuery::default()).await.unwrap();
    assert_eq!(kept.len(), 25);
    assert!(!queue.offer(|| row(1)), "it is closed");
    assert_eq!(queue.dropped(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_in_time_whatever_the_sink_does() {
    let (sink, writer) = start(
        Scripted {
            hangs: true,
            ..Scripted::default()
        },
        WriterOptions {
            timeout: LONG,
            linger: Duration::ZERO,
            ..options()
        },
    );
    for _ in 0..5 {
        writer.queue().offer(|| row(1));
    }
    while sink.batches().is_empty() {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    assert_eq!(
        writer.shutdown(Duration::from_secs(3)).await,
        Flushed { lost: 5 }
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_sit_out_a_long_backoff() {
    let (sink, writer) = start(
        Scripted {
            failures: AtomicU32::new(1),
            ..Scripted::default()
        },
        WriterOptions {
            backoff: Duration::from_secs(4),
            linger: Duration::ZERO,
            ..options()
        },
    );
    writer.queue().offer(|| row(1));
    while sink.batches().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        writer.shutdown(Duration::from_secs(5)).await,
        Flushed { lost: 0 }
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_shutdown_it_ends_with_the_last_queue() {
    let (sink, writer) = start(
        Scripted::default(),
        WriterOptions {
            linger: LONG,
            ..options()
        },
    );
    let queue = writer.queue();
    queue.offer(|| row(1));
    drop(writer);
    queue.offer(|| row(2));
    drop(queue);
    let ended = async {
        while Arc::strong_count(&sink) > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), ended)
        .await
        .expect("the task ends");
    assert_eq!(sink.batches().iter().sum::<usize>(), 2);
}

#[tokio::test(start_paused = true)]
async fn old_rows_go_by_steps_until_none_is_left() {
    let clock = Arc::new(ManualClock::new());
    let now = clock.now().as_millis();
    let day = 24 * 3600 * 1000;
    let sink = Scripted {
        inner: Some(MemorySink::new(10_000)),
        ..Scripted::default()
    };
    let old: Vec<_> = (0..2500).map(|n| row(now - day - 1 - n)).collect();
    let inner = sink.inner.as_ref().unwrap();
    inner.write(&old).await.unwrap();
    inner.write(&[row(now - day), row(now)]).await.unwrap();
    let options = WriterOptions {
        retention: Some(Duration::from_secs(24 * 3600)),
        ..options()
    };
    let sink = Arc::new(sink);
    let writer = RowWriter::start_with_clock(
        Arc::clone(&sink) as Arc<dyn RowSink>,
        options,
        clock.clone(),
    );
    sleep(Duration::from_secs(1)).await;
    let all = RowQuery {
        limit: 500,
        ..RowQuery::default()
    };
    let inner = sink.inner.as_ref().unwrap();
    assert_eq!(inner.list(&all).await.unwrap().len(), 2);
    assert_eq!(sink.purges.load(Ordering::SeqCst), 3);
    clock.advance(Duration::from_millis(1));
    sleep(Duration::from_secs(700)).await;
    assert_eq!(inner.list(&all).await.unwrap().len(), 1);
    assert_eq!(writer.shutdown(LONG).await.lost, 0);
}

#[tokio::test]
async fn a_row_that_cannot_be_made_takes_no_other_with_it() {
    let (sink, writer) = start(Scripted::default(), options());
    let queue = writer.queue();
    queue.offer(|| row(1));
    queue.offer(|| panic!("on purpose"));
    queue.offer(|| row(2));
    assert_eq!(writer.shutdown(LONG).await, Flushed { lost: 0 });
    assert_eq!((queue.written(), queue.dropped()), (2, 1));
    assert_eq!(sink.batches().iter().sum::<usize>(), 2);
}
