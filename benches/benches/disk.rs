//! How the store compares with the disk under it, measured in one run.
//!
//! `cargo bench -p onlyonce-benches --bench disk [-- FOLDER]`; the folder's disk is measured.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]

mod records;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use onlyonce_core::{Claim, Fenced, Store};
use onlyonce_disk::{DiskStore, Durability};
use records::{DAY, attempt, completion, resident};

const RUN: Duration = Duration::from_secs(3);
const BODY: usize = 300;

fn main() {
    // Cargo adds `--bench` to what was typed.
    let base = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let base = base.map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let base = base.join("onlyonce-throughput");
    let _ = std::fs::remove_dir_all(&base);
    std::fs::create_dir_all(&base).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();

    let mut flush = raw_flush(&base, 0);
    println!("the disk, appending 4 KiB + fdatasync: {flush}");
    println!(
        "the disk, the same in a file of zeros: {}",
        raw_flush(&base, 64 << 20)
    );
    for in_flight in [1, 8, 64, 256] {
        let store = Arc::new(DiskStore::open(base.join(format!("at-{in_flight}"))).unwrap());
        let pairs = runtime.block_on(pairs(&store, in_flight, RUN));
        let stats = store.stats();
        // Others use the disk too, and more or less of it: the mean of before and after.
        let after = raw_flush(&base, 0);
        let (rate, p50) = ((flush.rate + after.rate) / 2.0, (flush.p50 + after.p50) / 2);
        flush = after;
        println!(
            "claim + complete, {in_flight:>3} in flight: {pairs}; {:.3} flushes a pair; \
             {:.1} times the disk's rate; a step's p99 is {:.1} flushes (p50)",
            stats.flushes as f64 / pairs.count as f64,
            pairs.rate / rate,
            pairs.p99.as_secs_f64() / p50.as_secs_f64(),
        );
        store.close().unwrap();
        println!("   the disk again: {flush}");
    }
    let relaxed = Durability::Relaxed {
        every: Duration::from_millis(100),
    };
    let store = DiskStore::builder(base.join("relaxed"))
        .durability(relaxed)
        .open();
    let store = Arc::new(store.unwrap());
    let pairs_relaxed = runtime.block_on(pairs(&store, 64, RUN));
    println!("relaxed (100 ms), 64 in flight: {pairs_relaxed}");
    drop(store);

    // Keys kept, memory, opening.
    let path = base.join("kept");
    let before = resident();
    let store = Arc::new(DiskStore::open(&path).unwrap());
    runtime.block_on(fill(&store, 1_000_000));
    let kept = store.stats().records;
    println!(
        "{kept} kept keys: {} bytes of memory each, {} bytes on the disk each",
        (resident() - before) / kept,
        store.stats().allocated_bytes / kept,
    );
    let replays = runtime.block_on(replays(&store, kept));
    println!("replays, 64 in flight: {replays}");
    store.close().unwrap();
    drop(store);
    let before = (Instant::now(), resident());
    let store = DiskStore::open(&path).unwrap();
    println!(
        "opened with {} records in {:?} (page cache warm), {} bytes of memory each",
        store.stats().records,
        before.0.elapsed(),
        resident().saturating_sub(before.1) / kept,
    );
    drop(store);
    let _ = std::fs::remove_dir_all(&base);
}

struct Figures {
    count: u64,
    rate: f64,
    p50: Duration,
    p99: Duration,
}

impl Figures {
    fn of(mut times: Vec<Duration>, per: usize, took: Duration) -> Self {
        times.sort_unstable();
        let count = (times.len() / per) as u64;
        Self {
            count,
            rate: count as f64 / took.as_secs_f64(),
            p50: times[times.len() / 2],
            p99: times[times.len() * 99 / 100],
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, p50, p99, .. } = self;
        write!(f, "{rate:.0} a second, p50 {p50:?}, p99 {p99:?}")
    }
}

/// Writes page after page, each with a flush, into a file that has `length` bytes of zeros.
fn raw_flush(base: &Path, length: usize) -> Figures {
    let path = base.join("raw");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    file.write_all_at(&vec![0; length], 0).unwrap();
    file.sync_all().unwrap();
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < Duration::from_secs(1) {
        let step = Instant::now();
        file.write_all_at(&[7; 4096], times.len() as u64 * 4096)
            .unwrap();
        file.sync_data().unwrap();
        times.push(step.elapsed());
    }
    let figures = Figures::of(times, 1, start.elapsed());
    std::fs::remove_file(path).unwrap();
    figures
}

async fn pairs(store: &Arc<DiskStore>, in_flight: u64, run: Duration) -> Figures {
    let start = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|task| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut number = 0;
                while start.elapsed() < run {
                    pair(&store, task << 40 | number, Some(&mut times)).await;
                    number += 1;
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    Figures::of(times, 2, start.elapsed())
}

async fn fill(store: &Arc<DiskStore>, count: u64) {
    let next = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..256)
        .map(|_| {
            let (store, next) = (Arc::clone(store), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    pair(&store, number, None).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn replays(store: &Arc<DiskStore>, count: u64) -> Figures {
    let start = Instant::now();
    let tasks: Vec<_> = (0..64_u64)
        .map(|task| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut number = task;
                while start.elapsed() < RUN {
                    number = (number * 6_364_136_223 + 1_442_695) % count;
                    let step = Instant::now();
                    let held = store.claim(&attempt(number)).await.unwrap();
                    assert!(matches!(held, Claim::Held(_)));
                    times.push(step.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    Figures::of(times, 1, start.elapsed())
}

async fn pair(store: &DiskStore, number: u64, mut times: Option<&mut Vec<Duration>>) {
    let attempt = attempt(number);
    let step = Instant::now();
    let Claim::Won(lease) = store.claim(&attempt).await.unwrap() else {
        panic!("nobody else uses the key");
    };
    times
        .iter_mut()
        .for_each(|times| times.push(step.elapsed()));
    let done = completion(BODY);
    let step = Instant::now();
    let fenced = store.complete(&lease, &done, DAY).await.unwrap();
    times
        .iter_mut()
        .for_each(|times| times.push(step.elapsed()));
    assert_eq!(fenced, Fenced::Applied);
}
