//! How the store on Redis compares with the same scripts called bare and with the plainest commands
//! that could do their work, on the same server in the same run, and as records gather.
//!
//! `cargo bench -p onlyonce-benches --bench redis [-- pairs|records]`; starts servers of its own.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]

#[expect(dead_code, reason = "each program uses its part")]
mod records;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use onlyonce_core::{Claim, Fenced, Store as _};
use onlyonce_redis::RedisStore;
use onlyonce_servers::redis::{Redis, start_redis_with};
use records::{DAY, attempt, completion};
use redis::aio::MultiplexedConnection;
use redis::{Client, ScriptInvocation};

const RUN: Duration = Duration::from_secs(2);
const BODY: usize = 300;
const TURNS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(all());
}

async fn all() {
    // Cargo adds `--bench` to what was typed.
    let part = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    match part.as_deref() {
        None => {
            pairs().await;
            as_records_gather().await;
        }
        Some("pairs") => pairs().await,
        Some("records") => as_records_gather().await,
        Some(other) => panic!("there is no part `{other}`: `pairs` or `records`"),
    }
}

async fn pairs() {
    for (what, arguments) in [
        ("nothing on disk", &["--appendonly", "no"][..]),
        (
            "appendfsync always",
            &["--appendonly", "yes", "--appendfsync", "always"],
        ),
    ] {
        println!("{what}:");
        let server = start_redis_with(arguments);
        let bench = Bench::on(&server).await;
        for in_flight in [1, 8, 64] {
            bench.compare(in_flight).await;
        }
    }
}

/// The contenders, on one server.
struct Bench {
    store: RedisStore,
    bare: Arc<Bare>,
    number: AtomicU64,
}

impl Bench {
    async fn on(server: &Redis) -> Self {
        let builder = RedisStore::builder(&server.url()).timeout(Duration::from_secs(30));
        Self {
            store: builder.connect().await.unwrap(),
            bare: Arc::new(Bare::connect(server).await),
            number: AtomicU64::new(0),
        }
    }

    async fn compare(&self, in_flight: usize) {
        // In turns, as a machine has better and worse moments.
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            let plain = self.run(in_flight, Contender::Plain).await;
            let scripts = self.run(in_flight, Contender::Scripts).await;
            let store = self.run(in_flight, Contender::Store).await;
            turns.push([store, scripts, plain]);
        }
        println!("{in_flight:>3} in flight");
        for (place, name) in ["the store", "its scripts, bare", "SET NX GET, SET"]
            .into_iter()
            .enumerate()
        {
            let of =
                |pick: fn(&Figures) -> f64| median(turns.iter().map(|turn| pick(&turn[place])));
            println!(
                "    {name:<18} {:>7.0} pairs a second; p50 {:.3} ms, p99 {:.3} ms a step",
                of(|figures| figures.rate),
                of(|figures| figures.p50) * 1e3,
                of(|figures| figures.p99) * 1e3,
            );
        }
        let ratio = |to: usize, pick: fn(&Figures) -> f64| {
            median(turns.iter().map(|turn| pick(&turn[0]) / pick(&turn[to])))
        };
        println!(
            "    ratio of rates: to its scripts {:.2}, to plain commands {:.2}; of p99: {:.2}, {:.2}",
            ratio(1, |figures| figures.rate),
            ratio(2, |figures| figures.rate),
            ratio(1, |figures| figures.p99),
            ratio(2, |figures| figures.p99),
        );
    }

    async fn run(&self, in_flight: usize, contender: Contender) -> Figures {
        run(in_flight, || {
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let (store, bare) = (self.store.clone(), Arc::clone(&self.bare));
            async move {
                match contender {
                    Contender::Store => pair(&store, number).await,
                    Contender::Scripts => bare.scripts(number).await,
                    Contender::Plain => bare.plain(number).await,
                }
            }
        })
        .await
    }
}

#[derive(Clone, Copy)]
enum Contender {
    Store,
    Scripts,
    Plain,
}

/// Two servers, one with many records and one with few. What a turn leaves is removed behind it.
async fn as_records_gather() {
    let mut benches = Vec::new();
    for live in [10_000, 1_000_000] {
        let server = start_redis_with(&["--appendonly", "no"]);
        let bench = Bench::on(&server).await;
        bench.bare.fill(live).await;
        benches.push((bench, server));
    }
    let mut turns = Vec::new();
    // The first, in which tables of keys grow, counts for nothing.
    for turn in 0..=TURNS {
        let [few, many] = [&benches[0].0, &benches[1].0].map(async |bench| {
            let figures = bench.run(64, Contender::Store).await;
            let made = bench.number.load(Ordering::Relaxed);
            bench.bare.remove(made).await;
            figures
        });
        let (few, many) = (few.await, many.await);
        if turn == 0 {
            continue;
        }
        println!(
            "10^4 live records: {:.0} pairs a second, p99 of a step {:.3} ms; 10^6: {:.0}, {:.3} ms",
            few.rate,
            few.p99 * 1e3,
            many.rate,
            many.p99 * 1e3
        );
        turns.push((many.rate / few.rate, many.p99 / few.p99));
    }
    println!(
        "ratio, median of {TURNS}: {:.2}; of p99: {:.2}",
        median(turns.iter().map(|turn| turn.0)),
        median(turns.iter().map(|turn| turn.1)),
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Figures {
    rate: f64,
    p50: f64,
    p99: f64,
}

type Steps = [Duration; 2];

async fn run<F>(in_flight: usize, pair: impl Fn() -> F) -> Figures
where
    F: Future<Output = Steps> + Send + 'static,
{
    let start = Instant::now();
    let tasks = (0..in_flight).map(async |_| {
        let mut times = Vec::new();
        while start.elapsed() < RUN {
            times.extend(tokio::spawn(pair()).await.unwrap());
        }
        times
    });
    let times = futures_util::future::join_all(tasks).await;
    let took = start.elapsed();
    let mut times: Vec<Duration> = times.into_iter().flatten().collect();
    times.sort_unstable();
    Figures {
        rate: times.len() as f64 / 2.0 / took.as_secs_f64(),
        p50: times[times.len() / 2].as_secs_f64(),
        p99: times[times.len() * 99 / 100].as_secs_f64(),
    }
}

async fn pair(store: &RedisStore, number: u64) -> Steps {
    let (attempt, completion) = (attempt(number), completion(BODY));
    let begun = Instant::now();
    let Claim::Won(lease) = store.claim(&attempt).await.unwrap() else {
        panic!("nobody else uses the key");
    };
    let claimed = Instant::now();
    let done = store.complete(&lease, &completion, DAY).await;
    assert_eq!(done.unwrap(), Fenced::Applied);
    [claimed - begun, claimed.elapsed()]
}

/// A connection without a store around it.
struct Bare {
    connection: MultiplexedConnection,
    claim: redis::Script,
    complete: redis::Script,
    fill: redis::Script,
}

macro_rules! script {
    ($name:literal) => {
        redis::Script::new(concat!(
            include_str!("../../crates/stores/redis/src/scripts/record.lua"),
            include_str!(concat!(
                "../../crates/stores/redis/src/scripts/",
                $name,
                ".lua"
            )),
        ))
    };
}

/// Copies of a record under other identifiers.
const FILL: &str = "for n = ARGV[2], ARGV[3] do
    local digits = redis.sha1hex(n) .. redis.sha1hex('x' .. n):sub(1, 24)
    local key = 'oo:{' .. digits:sub(1, 3) .. '}' .. digits:sub(4)
    redis.call('SET', key, ARGV[1], 'PX', 86400000)
end";

impl Bare {
    async fn connect(server: &Redis) -> Self {
        let client = Client::open(server.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        Self {
            connection,
            claim: script!("claim"),
            complete: script!("complete"),
            fill: redis::Script::new(FILL),
        }
    }

    /// What the store sends, sent without it.
    async fn scripts(&self, number: u64) -> Steps {
        let mut connection = self.connection.clone();
        let attempt = attempt(number);
        let key = key("oo:", &attempt);
        let mut print = vec![1];
        print.extend(attempt.fingerprint.unwrap().digest());
        let mut tail = vec![2, 201, 0];
        tail.extend((BODY as u64).to_le_bytes());
        tail.extend([b'x'; BODY]);
        let mut claim = self.claim.key(&key);
        claim.key("oo:fence").arg("");
        claim.arg(attempt.nonce.as_bytes()).arg(print);
        claim
            .arg(10_000)
            .arg(86_400_000)
            .arg(0)
            .arg(&*attempt.label);
        let begun = Instant::now();
        let won: (i64, Vec<u8>, i64) = invoke(&claim, &mut connection).await;
        let claimed = Instant::now();
        assert_eq!((won.0, won.2), (1, 1));
        let mut complete = self.complete.key(&key);
        complete.key("oo:fence").arg("").arg(won.1).arg("");
        complete.arg(86_400_000).arg(tail).arg("PUBLISH").arg(&key);
        let begun_again = Instant::now();
        let done: i64 = invoke(&complete, &mut connection).await;
        assert_eq!(done, 1);
        [claimed - begun, begun_again.elapsed()]
    }

    /// No fence, no lease, nobody told: who comes first has it, and writes over it.
    async fn plain(&self, number: u64) -> Steps {
        let mut connection = self.connection.clone();
        let attempt = attempt(number);
        let key = key("plain:", &attempt);
        let mut claim = redis::cmd("SET");
        claim.arg(&key).arg(attempt.nonce.as_bytes());
        claim.arg("NX").arg("GET").arg("PX").arg(86_400_000);
        let mut complete = redis::cmd("SET");
        complete.arg(&key).arg(vec![b'x'; BODY]);
        complete.arg("PX").arg(86_400_000);
        let begun = Instant::now();
        let before: Option<Vec<u8>> = claim.query_async(&mut connection).await.unwrap();
        let claimed = Instant::now();
        assert_eq!(before, None);
        let done: String = complete.query_async(&mut connection).await.unwrap();
        assert_eq!(done, "OK");
        [claimed - begun, claimed.elapsed()]
    }

    /// Records as they lie there when they are done, by the server itself.
    async fn fill(&self, count: u64) {
        const BATCH: u64 = 10_000;
        let mut connection = self.connection.clone();
        let _ = self.scripts(u64::MAX).await;
        let one = redis::cmd("GET")
            .arg(key("oo:", &attempt(u64::MAX)))
            .query_async::<Vec<u8>>(&mut connection)
            .await
            .unwrap();
        for first in (1..=count).step_by(BATCH as usize) {
            let mut fill = self.fill.prepare_invoke();
            fill.arg(&one).arg(first).arg(count.min(first + BATCH - 1));
            let () = invoke(&fill, &mut connection).await;
        }
        let live: u64 = redis::cmd("DBSIZE")
            .query_async(&mut connection)
            .await
            .unwrap();
        // With the one they are copies of, and the sequence.
        assert_eq!(live, count + 2);
    }

    /// Removes the records of these first numbers, those that are there.
    async fn remove(&self, numbers: u64) {
        let mut connection = self.connection.clone();
        for first in (0..numbers).step_by(1_000) {
            let mut remove = redis::cmd("UNLINK");
            for number in first..numbers.min(first + 1_000) {
                remove.arg(key("oo:", &attempt(number)));
            }
            let () = remove.query_async(&mut connection).await.unwrap();
        }
    }
}

async fn invoke<T: redis::FromRedisValue>(
    script: &ScriptInvocation<'_>,
    connection: &mut MultiplexedConnection,
) -> T {
    script.invoke_async(connection).await.unwrap()
}

fn key(prefix: &str, attempt: &onlyonce_core::Attempt) -> String {
    let digits = attempt.id.to_string();
    format!("{prefix}{{{}}}{}", &digits[..3], &digits[3..])
}
