//! How the store on PostgreSQL compares with the plainest statements that could do its work, on the
//! same server in the same run, and as records gather.
//!
//! `cargo bench -p onlyonce-benches --bench postgres`; starts a server of its own.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]

#[expect(dead_code, reason = "each program uses its part")]
mod records;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use onlyonce_core::{Claim, Fenced, Store as _};
use onlyonce_postgres::PostgresStore;
use onlyonce_servers::postgres::start_postgres;
use records::{DAY, attempt, completion};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};

const RUN: Duration = Duration::from_secs(3);
const BODY: usize = 300;
const CONNECTIONS: usize = 8;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(all());
}

async fn all() {
    let server = start_postgres();
    let url = server.url();
    let builder = PostgresStore::builder(&url)
        .connections(CONNECTIONS)
        .timeout(Duration::from_secs(30))
        .migrate(true);
    let store = builder.connect().await.unwrap();
    let clients = raw(&url).await;
    clients[0]
        .batch_execute(
            "CREATE TABLE raw (id bytea PRIMARY KEY, state int, nonce bytea, result bytea)",
        )
        .await
        .unwrap();
    let number = Arc::new(AtomicU64::new(0));

    for in_flight in [1, 8, 64] {
        // In turns, as a machine has better and worse moments.
        let mut rates = Vec::new();
        for _ in 0..3 {
            let plain = run(in_flight, |task| {
                let client = Arc::clone(&clients[task % CONNECTIONS]);
                let number = number.fetch_add(1, Ordering::Relaxed);
                async move { plain_pair(&client, number).await }
            });
            let plain = plain.await;
            let ours = run(in_flight, |_| {
                let (store, number) = (store.clone(), number.fetch_add(1, Ordering::Relaxed));
                async move { pair(&store, number).await }
            });
            let ours = ours.await;
            rates.push((ours.rate / plain.rate, ours, plain));
        }
        rates.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, ours, plain) = &rates[1];
        println!(
            "{in_flight:>3} in flight: store {ours}; plain statements {plain}; ratio {ratio:.2}"
        );
    }

    let mut stores = Vec::new();
    for (schema, live) in [("small", 10_000), ("large", 1_000_000)] {
        let builder = PostgresStore::builder(&url)
            .schema(schema)
            .connections(CONNECTIONS)
            .timeout(Duration::from_secs(30))
            .migrate(true);
        stores.push(builder.connect().await.unwrap());
        fill(&clients[0], schema, live).await;
    }
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let mut rates = Vec::new();
        for store in &stores {
            let ours = run(64, |_| {
                let (store, number) = (store.clone(), number.fetch_add(1, Ordering::Relaxed));
                async move { pair(&store, number).await }
            });
            rates.push(ours.await.rate);
        }
        println!(
            "10^4 live records: {:.0} pairs a second; 10^6: {:.0}",
            rates[0], rates[1]
        );
        ratios.push(rates[1] / rates[0]);
    }
    ratios.sort_by(f64::total_cmp);
    println!("ratio, median of five: {:.2}", ratios[2]);
}

/// Records as they lie there when they are done, by the server itself.
async fn fill(client: &Client, schema: &str, count: i64) {
    let insert = "INSERT INTO onlyonce.record
        (id, state, status, attempt, fence, created, expires, sweep, nonce, label, result)
        SELECT decode(md5(n::text || clock_timestamp()) || md5(n::text), 'hex'), 2, 201, 1, 1, t.now,
               t.now + 86400000, onlyonce.sweep_of(t.now + 86400000), decode(md5(n::text), 'hex'),
               'POST /v1/charges', decode(repeat('78', 300), 'hex')
        FROM generate_series(1, $1::bigint) n, (SELECT onlyonce.millis(NULL) AS now OFFSET 0) t";
    let insert = insert.replace("onlyonce.", &format!("{schema}."));
    let inserted = client.query_typed(&insert, &[(&count, Type::INT8)]).await;
    inserted.unwrap();
    client
        .batch_execute(&format!("VACUUM ANALYZE {schema}.record"))
        .await
        .unwrap();
}

async fn raw(url: &str) -> Vec<Arc<Client>> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        clients.push(Arc::new(client));
    }
    clients
}

struct Figures {
    rate: f64,
    p50: Duration,
    p99: Duration,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, p50, p99 } = self;
        write!(f, "{rate:.0} pairs a second (p50 {p50:.2?}, p99 {p99:.2?})")
    }
}

async fn run<F>(in_flight: usize, pair: impl Fn(usize) -> F) -> Figures
where
    F: Future<Output = ()> + Send + 'static,
{
    let start = Instant::now();
    let tasks = (0..in_flight).map(async |task| {
        let mut times = Vec::new();
        while start.elapsed() < RUN {
            let begun = Instant::now();
            tokio::spawn(pair(task)).await.unwrap();
            times.push(begun.elapsed());
        }
        times
    });
    let times = futures_util::future::join_all(tasks).await;
    let mut times: Vec<Duration> = times.into_iter().flatten().collect();
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    Figures {
        rate,
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
    }
}

async fn pair(store: &PostgresStore, number: u64) {
    let Claim::Won(lease) = store.claim(&attempt(number)).await.unwrap() else {
        panic!("nobody else uses the key");
    };
    let done = store.complete(&lease, &completion(BODY), DAY).await;
    assert_eq!(done.unwrap(), Fenced::Applied);
}

async fn plain_pair(client: &Client, number: u64) {
    let attempt = attempt(number);
    let (id, nonce) = (&attempt.id.as_bytes()[..], &attempt.nonce.as_bytes()[..]);
    let result = vec![b'x'; BODY];
    let insert = "INSERT INTO raw VALUES ($1, 0, $2, NULL) ON CONFLICT (id) DO NOTHING RETURNING 1";
    let inserted = client
        .query_typed(insert, &[(&id, Type::BYTEA), (&nonce, Type::BYTEA)])
        .await;
    assert_eq!(inserted.unwrap().len(), 1);
    let update = "UPDATE raw SET state = 2, result = $3 WHERE id = $1 AND nonce = $2 RETURNING 1";
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] = [
        (&id, Type::BYTEA),
        (&nonce, Type::BYTEA),
        (&result, Type::BYTEA),
    ];
    let updated = client.query_typed(update, &parameters).await;
    assert_eq!(updated.unwrap().len(), 1);
}
