//! The blocklist on a real server.

#![cfg(feature = "blocklist")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::net::IpAddr;
use std::time::Duration;

use onlyonce_core::{Clock as _, SystemClock};
use onlyonce_pipeline::blocklist::{
    Blocklist, BlocklistOptions, BlocklistStore as _, Draft, Entry, EntryId, Status,
};
use onlyonce_pipeline_redis::RedisBlocklist;
use onlyonce_redis::RedisStore;
use onlyonce_servers::redis::{start_cluster, start_redis, start_redis_with};

const PERSISTENT: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn open(url: &str) -> RedisBlocklist {
    let store = RedisStore::builder(url).timeout(Duration::from_secs(10));
    RedisBlocklist::new(&store.connect().await.unwrap())
}

/// A node that never looks by itself: what it knows it was told.
async fn node(url: &str) -> Blocklist {
    let options = BlocklistOptions::new()
        .with_poll(Duration::from_secs(3600))
        .with_flush(Duration::from_millis(20));
    Blocklist::load_with(open(url).await, options)
        .await
        .unwrap()
}

async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(30);
    let waited = tokio::time::timeout(limit, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"));
}

#[tokio::test]
async fn a_change_on_one_node_is_in_force_on_another() {
    let server = start_redis();
    let (here, there) = (node(&server.url()).await, node(&server.url()).await);
    let draft = Draft::new("203.0.113.0/24").with_remark("探测");
    let entry = here.add(&draft).await.unwrap();
    assert_eq!(here.find(ip("203.0.113.9")), Some(entry.id));
    until("added", async || {
        there.find(ip("203.0.113.9")) == Some(entry.id)
    })
    .await;

    let off = draft.clone().with_status(Status::Off);
    let changed = there.update(entry.id, &off).await.unwrap().unwrap();
    assert_eq!(
        (changed.created, changed.remark),
        (entry.created, entry.remark)
    );
    until("off", async || here.find(ip("203.0.113.9")).is_none()).await;
    there.update(entry.id, &draft).await.unwrap();
    until("on", async || here.find(ip("203.0.113.9")).is_some()).await;

    assert!(there.remove(entry.id).await.unwrap());
    until("removed", async || here.find(ip("203.0.113.9")).is_none()).await;
    assert!(!here.remove(entry.id).await.unwrap());
    assert_eq!(here.update(entry.id, &draft).await.unwrap(), None);
}

#[tokio::test]
async fn hits_of_all_nodes_add_up() {
    let server = start_redis();
    let (here, there) = (node(&server.url()).await, node(&server.url()).await);
    let entry = here.add(&Draft::new("203.0.113.0/24")).await.unwrap();
    until("added", async || there.find(ip("203.0.113.9")).is_some()).await;
    for _ in 0..3 {
        assert!(here.hit(ip("203.0.113.9")).is_some());
        assert!(there.hit(ip("203.0.113.1")).is_some());
    }
    let all = [Entry {
        hits: 6,
        ..entry.clone()
    }];
    until("six", async || here.entries(None, 10).await.unwrap() == all).await;
    let store = open(&server.url()).await;
    store
        .add_hits(&[(entry.id, 1), (EntryId(99), 1)])
        .await
        .unwrap();
    assert_eq!(
        store.look_up(&[entry.id, EntryId(99)]).await.unwrap()[0].hits,
        7
    );
}

/// While the server is away the last state is in force; afterwards nodes hear of changes again.
#[tokio::test]
async fn a_server_that_comes_back_is_listened_to_again() {
    let mut server = start_redis_with(&PERSISTENT);
    let (here, there) = (node(&server.url()).await, node(&server.url()).await);
    here.add(&Draft::new("203.0.113.1")).await.unwrap();
    until("added", async || there.find(ip("203.0.113.1")).is_some()).await;
    server.kill();
    assert!(there.find(ip("203.0.113.1")).is_some());
    server.start();
    // A connection that broke is told of by the first who uses it.
    until("added again", async || {
        here.add(&Draft::new("203.0.113.2")).await.is_ok()
    })
    .await;
    until("heard of", async || there.find(ip("203.0.113.2")).is_some()).await;
    assert!(there.find(ip("203.0.113.1")).is_some());
}

/// A replica that took over has lost the last change, and has had another since: both are the
/// change of the same number.
#[tokio::test]
async fn a_server_that_took_over_is_not_taken_for_the_one_before() {
    let server = start_redis();
    let here = node(&server.url()).await;
    here.add(&Draft::new("203.0.113.1")).await.unwrap();
    let mut client = server.client();
    let entries = "oo:{blocklist}:entries";
    client.command(&["HSET", entries, "1", r#"{"ip":"203.0.113.2"}"#]);
    client.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until("read anew", async || here.find(ip("203.0.113.2")).is_some()).await;
    assert_eq!(here.find(ip("203.0.113.1")), None);
}

/// A listing may come to nothing on its way to the book, and each blocklist on a store has its own:
/// what was known before a loss is told of as everything, however often it is asked for.
#[tokio::test]
async fn what_was_known_before_a_loss_is_never_built_on() {
    let server = start_redis();
    let store = open(&server.url()).await;
    let now = SystemClock::new().now();
    let (old, _) = store.add(&Draft::new("203.0.113.1"), now).await.unwrap();
    assert!(!store.list(Some(old)).await.unwrap().complete);
    until("noticed", async || {
        server
            .client()
            .command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        store.list(Some(old)).await.unwrap().complete
    })
    .await;
    assert!(store.list(Some(old)).await.unwrap().complete, "again");
    let twin = store.clone();
    assert!(twin.list(Some(old)).await.unwrap().complete, "to a clone");
    let (new, _) = store.add(&Draft::new("203.0.113.2"), now).await.unwrap();
    assert_ne!(new.epoch, old.epoch, "numbers say nothing of each other");
    until("built on again", async || {
        let known = store.list(None).await.unwrap().revision;
        !store.list(Some(known)).await.unwrap().complete
    })
    .await;
}

#[tokio::test]
async fn what_others_wrote_wrongly_is_left_out() {
    let server = start_redis();
    let here = node(&server.url()).await;
    let good = here.add(&Draft::new("203.0.113.1")).await.unwrap();
    let mut client = server.client();
    for (name, entry) in [
        ("70", r#"{"ip":"10.0.0.300"}"#),
        ("71", "no JSON"),
        ("72", "{}"),
        ("seventy", r#"{"ip":"10.0.0.1"}"#),
        ("73", r#"{"ip":"10.0.0.2"}"#),
    ] {
        client.command(&["HSET", "oo:{blocklist}:entries", name, entry]);
    }
    let there = node(&server.url()).await;
    assert_eq!(there.find(ip("203.0.113.1")), Some(good.id));
    assert_eq!(there.find(ip("10.0.0.2")), Some(EntryId(73)));
    assert_eq!(there.find(ip("10.0.0.1")), None);
    let mut left_out: Vec<_> = there
        .unreadable()
        .into_iter()
        .filter_map(|one| one.id)
        .collect();
    left_out.sort_unstable();
    assert_eq!(left_out, [70, 71, 72].map(EntryId));
    // They can be mended, removed, and their names are not given again.
    there
        .update(EntryId(71), &Draft::new("10.0.0.71"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(there.find(ip("10.0.0.71")), Some(EntryId(71)));
    assert!(there.remove(EntryId(70)).await.unwrap());
    client.command(&["HSET", "oo:{blocklist}:meta", "last", "72"]);
    let next = there.add(&Draft::new("10.0.0.4")).await.unwrap();
    assert_eq!(next.id, EntryId(74));
}

/// A list that was emptied, and one that began anew, are not taken for the old one.
#[tokio::test]
async fn a_flushed_server_is_a_new_list() {
    let server = start_redis();
    let store = open(&server.url()).await;
    let now = SystemClock::new().now();
    let (old, _) = store.add(&Draft::new("203.0.113.1"), now).await.unwrap();
    let told = store.list(Some(old)).await.unwrap();
    assert!(!told.complete && told.entries.is_empty());
    server.client().expect_ok(&["FLUSHALL"]);
    let told = store.list(Some(old)).await.unwrap();
    assert!(told.complete && told.entries.is_empty());
    let (new, entry) = store.add(&Draft::new("203.0.113.2"), now).await.unwrap();
    assert_ne!(new.epoch, old.epoch);
    let told = store.list(Some(old)).await.unwrap();
    assert!(told.complete);
    assert_eq!(told.entries, [entry]);
}

/// More entries than a page, and more changes than the log holds.
#[tokio::test]
async fn who_missed_too_much_reads_everything() {
    let server = start_redis();
    let store = open(&server.url()).await;
    let now = SystemClock::new().now();
    let (first, _) = store.add(&Draft::new("203.0.113.1"), now).await.unwrap();
    let mut client = server.client();
    // As 10,000 changes would leave it.
    let script = "for n = 2, 3000 do \
                  redis.call('HSET', KEYS[1], n, '{\"ip\":\"10.0.' .. math.floor(n/250) .. '.' .. n%250 .. '\"}') \
                  end \
                  redis.call('HSET', KEYS[2], 'revision', 20000, 'floor', 10000, 'last', 3000) return 1";
    let keys = ["oo:{blocklist}:entries", "oo:{blocklist}:meta"];
    client.command(&["EVAL", script, "2", keys[0], keys[1]]);
    let told = store.list(Some(first)).await.unwrap();
    assert!(told.complete);
    assert_eq!((told.entries.len(), told.revision.number), (3000, 20_000));
    let later = store.add(&Draft::new("203.0.113.2"), now).await.unwrap();
    let told = store.list(Some(told.revision)).await.unwrap();
    assert!(!told.complete);
    assert_eq!((told.revision, told.entries), (later.0, vec![later.1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_write_at_once_come_to_the_same_state() {
    let server = start_redis();
    let nodes = [node(&server.url()).await, node(&server.url()).await];
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_u8 {
        let node = nodes[usize::from(writer) % 2].clone();
        writers.spawn(async move {
            for round in 0..25_u8 {
                let one = node
                    .add(&Draft::new(format!("10.{writer}.{round}.1")))
                    .await
                    .unwrap();
                assert_eq!(
                    node.find(ip(&format!("10.{writer}.{round}.1"))),
                    Some(one.id)
                );
                if round % 2 == 0 {
                    assert!(node.remove(one.id).await.unwrap());
                    assert_eq!(node.find(ip(&format!("10.{writer}.{round}.1"))), None);
                }
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    for node in &nodes {
        until("the same state", async || node.stats().entries == 4 * 12).await;
        for (writer, round) in (0..4).flat_map(|writer| (0..25).map(move |round| (writer, round))) {
            let found = node.find(ip(&format!("10.{writer}.{round}.1")));
            assert_eq!(found.is_some(), round % 2 == 1, "10.{writer}.{round}.1");
        }
    }
}

#[tokio::test]
async fn a_cluster_serves_as_well() {
    let cluster = start_cluster();
    let (here, there) = (node(&cluster.url()).await, node(&cluster.url()).await);
    let entry = here.add(&Draft::new("203.0.113.0/24")).await.unwrap();
    until("added", async || {
        there.find(ip("203.0.113.9")) == Some(entry.id)
    })
    .await;
    assert!(there.remove(entry.id).await.unwrap());
    until("removed", async || here.find(ip("203.0.113.9")).is_none()).await;
}
