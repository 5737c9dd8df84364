//! Masters that go away, and slots that move.

use std::time::Duration;

use onlyonce_core::{Claim, Fenced, Renewal, Store as _, StoreErrorKind};
use onlyonce_redis::{RedisStore, Warning};
use onlyonce_servers::redis::{
    Cluster, Reply, start_cluster, start_redis_with, start_sentinel_group, version,
};

use crate::near::until;
use crate::support::{LONG, bid, complete, done, eventually, held, new_id, open, result_of, win};

const LIMIT: Duration = Duration::from_secs(2);

/// The master is killed: within seconds the new one goes on, and with `replicas` nothing that was
/// acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_group_fails_over() {
    let mut group = start_sentinel_group();
    let url = format!("{}?replicas=1", group.url());
    let store = open(RedisStore::builder(&url).timeout(LIMIT)).await;
    let mut finished = Vec::new();
    for _ in 0..50 {
        let bid = bid(new_id());
        let lease = win(&store, &bid).await;
        complete(&store, &lease, "kept").await;
        finished.push(bid);
    }
    let under_way = bid(new_id());
    let lease = win(&store, &under_way).await;
    let watch = store.watch(&under_way.id).await.unwrap();

    group.servers[0].kill();
    let renewal = Renewal {
        extend: LONG,
        fingerprint: None,
    };
    let renewed = eventually("the renewal", || store.renew(&lease, &renewal)).await;
    assert_eq!(renewed, Fenced::Applied);
    let told = tokio::time::timeout(Duration::from_secs(10), watch).await;
    told.expect("who watched on the old master is told");
    for bid in &finished {
        assert_eq!(result_of(&held(&store, bid).await), Some(&b"kept"[..]));
    }
    let fresh = bid(new_id());
    let newer = win(&store, &fresh).await;
    assert!(newer.fence > lease.fence, "fences go on");
    complete(&store, &lease, "after the failover").await;

    // The old master comes back, and takes itself for the master still: nobody asks it.
    group.servers[0].start();
    complete(&store, &newer, "kept").await;
    let again = open(RedisStore::builder(&url).timeout(LIMIT)).await;
    assert!(result_of(&held(&again, &under_way).await).is_some());
}

/// The new master is looked at as the old one was at the start, and what was said of that one is
/// over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_master_is_examined() {
    let mut group = start_sentinel_group();
    for server in &group.servers {
        server
            .client()
            .expect_ok(&["CONFIG", "SET", "appendfsync", "always"]);
    }
    for replica in &group.servers[1..] {
        let mut client = replica.client();
        client.expect_ok(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    }
    let store = open(RedisStore::builder(&group.url()).timeout(LIMIT)).await;
    let old = group.servers[0].address();
    let found = store.warnings();
    assert!(
        matches!(&found[..], [Warning::ReplicasNotAwaited { server, connected: 2 }] if **server == *old),
        "{found:?}"
    );
    group.servers[0].kill();
    let bid = bid(new_id());
    let claimed = eventually("a claim on the new master", || store.claim(&bid)).await;
    assert!(matches!(claimed, Claim::Won(_)));
    until("the Sentinels know of it", || group.master().is_some()).await;
    let new = group.servers[group.master().expect("there is one")].address();
    // One replica is left to it, which has to find it first.
    let seen = std::cell::RefCell::new(Vec::new());
    let looking = until("the new master is known for what it is", || {
        let found = store.warnings();
        let is = |expected: fn(&Warning) -> bool| found.iter().any(expected);
        let known = is(|one| matches!(one, Warning::Evicting { .. }))
            && is(|one| matches!(one, Warning::NotPersistent { .. }))
            && is(|one| matches!(one, Warning::ReplicasNotAwaited { connected: 1, .. }))
            && found.iter().all(|warning| warning.server() == new);
        seen.replace(found);
        known
    });
    let limit = Duration::from_secs(50);
    let known = tokio::time::timeout(limit, looking).await;
    assert!(known.is_ok(), "of {new}: {:#?}", seen.borrow());
}

/// Users are no part of what is replicated: whoever takes over may not know ours, or not let it do
/// all. Requests go on as far as they can.
#[tokio::test]
async fn a_server_that_lets_us_do_less_is_named_and_requests_go_on() {
    let server = start_redis_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut client = server.client();
    let rules = ["on", ">hunter2", "~oo:*", "resetchannels", "&oo:*", "+@all"];
    client.expect_ok(&[&["ACL", "SETUSER", "app"][..], &rules].concat());
    let url = format!("redis://app:hunter2@{}", server.address());
    let store = open(RedisStore::builder(&url).timeout(LIMIT)).await;
    assert_eq!(store.warnings(), []);
    client.expect_ok(&["ACL", "SETUSER", "app", "-role"]);
    client.command(&["CLIENT", "KILL", "USER", "app"]);
    let bid = bid(new_id());
    let claimed = eventually("a claim", || store.claim(&bid)).await;
    let Claim::Won(lease) = claimed else {
        panic!("nobody else uses the key");
    };
    until("it is said what is missing", || {
        let found = store.warnings();
        matches!(&found[..], [Warning::Unfit { why, .. }] if why.contains("`+role`"))
    })
    .await;
    complete(&store, &lease, "kept").await;
    client.expect_ok(&["ACL", "SETUSER", "app", "+role"]);
    until("it is over", || store.warnings().is_empty()).await;
}

/// However the threads run while a store is made, there is one that looks after its server.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_store_is_attended() {
    let server = start_redis_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut stores = Vec::new();
    for _ in 0..30 {
        stores.push(open(RedisStore::builder(&server.url()).timeout(LIMIT)).await);
    }
    let mut client = server.client();
    client.expect_ok(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    client.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    for (number, store) in stores.iter().enumerate() {
        let bid = bid(new_id());
        let _ = eventually("a claim", || store.claim(&bid)).await;
        until(
            &format!("store {number} says what has become wrong"),
            || {
                let found = store.warnings();
                matches!(&found[..], [Warning::Evicting { .. }])
            },
        )
        .await;
    }
}

/// A master of the Cluster is killed: its slots go on with its replica, the others never stop.
/// Then a slot moves to another master while it is in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_fails_over_and_moves_slots() {
    let mut cluster = start_cluster();
    let store = open(
        RedisStore::builder(&cluster.url())
            .timeout(LIMIT)
            .replicas(1),
    )
    .await;
    let mut bids = Vec::new();
    for _ in 0..60 {
        let bid = bid(new_id());
        let lease = win(&store, &bid).await;
        bids.push((bid, lease));
    }
    let mut watches = Vec::new();
    for (bid, _) in &bids {
        watches.push(store.watch(&bid.id).await.unwrap());
    }
    cluster.servers[0].kill();
    let completion = done("kept");
    // The new master of these slots has no replica left; the rest have theirs.
    let store_alone = open_when_up(&cluster).await;
    for (bid, lease) in &bids {
        let completed = eventually("the completion", || {
            store_alone.complete(lease, &completion, LONG)
        });
        assert_eq!(completed.await, Fenced::Applied);
        assert_eq!(
            result_of(&held(&store_alone, bid).await),
            Some(&b"kept"[..])
        );
    }
    for watch in watches {
        let told = tokio::time::timeout(Duration::from_secs(10), watch).await;
        told.expect("everybody who watched is told");
    }
    move_a_slot(&cluster, &store_alone).await;
}

async fn open_when_up(cluster: &Cluster) -> RedisStore {
    let url = cluster.url();
    eventually("the Cluster is whole again", || {
        RedisStore::builder(&url).timeout(LIMIT).connect()
    })
    .await
}

/// Records of one slot, moved key by key, and asked for at each step.
async fn move_a_slot(cluster: &Cluster, store: &RedisStore) {
    let (from, to) = (&cluster.servers[1], &cluster.servers[2]);
    let name = |server: &onlyonce_servers::redis::Redis| {
        let name = server.client().command(&["CLUSTER", "MYID"]);
        name.text().to_owned()
    };
    // A tag whose slot `from` serves: all records with it lie there.
    let (mut source, mut target) = (from.client(), to.client());
    let (tag, slot) = (0..0xfff_u16)
        .map(|tag| format!("{tag:03x}"))
        .find_map(|tag| {
            let slot = source.command(&["CLUSTER", "KEYSLOT", &format!("{{{tag}}}")]);
            let Reply::Number(slot) = slot else {
                return None;
            };
            (5462..10_000)
                .contains(&slot)
                .then(|| (tag, slot.to_string()))
        })
        .expect("some tag lies there");
    let record = || {
        let digits = new_id().to_string();
        let id = format!("{tag}{}", &digits[3..]);
        bid(id.parse().unwrap())
    };
    let (first, second) = (record(), record());
    let lease = win(store, &first).await;
    win(store, &second).await;
    let watch = store.watch(&first.id).await.unwrap();

    let (from_name, to_name) = (name(from), name(to));
    target.expect_ok(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_name]);
    source.expect_ok(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_name]);
    let to_port = to.port().to_string();
    let Reply::Array(keys) = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]) else {
        panic!("a list of keys");
    };
    assert_eq!(keys.len(), 3, "two records and a sequence: {keys:?}");
    for key in &keys {
        let moved = source.command(&["MIGRATE", "127.0.0.1", &to_port, key.text(), "0", "5000"]);
        assert_eq!(moved, Reply::Text("OK".into()));
    }
    // Both are with the new master, which does not have the slot yet.
    assert_eq!(held(store, &first).await.fence, lease.fence);
    // A new record and its sequence are two keys, of which one is still missing: it has to wait.
    let fresh = record();
    let error = store.claim(&fresh).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    for client in [&mut target, &mut source] {
        client.expect_ok(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_name]);
    }
    let soon = Duration::from_secs(10);
    if version() < 7 {
        // The whole Cluster hears of every change: who watches elsewhere misses nothing.
        drop(watch);
    } else {
        let told = tokio::time::timeout(soon, watch).await;
        told.expect("who watched where the slot was is told");
    }
    let watch = eventually("a watch where it is now", || store.watch(&first.id)).await;
    complete(store, &lease, "done").await;
    tokio::time::timeout(soon, watch).await.expect("told");
    let newer = win(store, &fresh).await;
    assert!(newer.fence > lease.fence, "the sequence moved along");
    let claim = store.claim(&second).await;
    assert!(
        matches!(claim, Ok(Claim::Won(_))),
        "still its own: {claim:?}"
    );
    assert!(result_of(&held(store, &first).await).is_some());
}
