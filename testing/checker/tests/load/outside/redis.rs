//! Failover of a Sentinel group and of a shard of a Cluster, with and without `replicas`.

use onlyonce_checker::{History, Losses};
use onlyonce_core::OnUnknown;
use onlyonce_redis::RedisStore;
use onlyonce_servers::redis::{Redis, Reply, start_cluster, start_sentinel_group};

use crate::clock::{eventually, opened};
use crate::generator::{Load, STORE_TIMEOUT, acknowledged, executions, policies, requests};

const HOLD: OnUnknown = OnUnknown::Hold;

async fn stores(url: &str, replicas: usize) -> [RedisStore; 2] {
    let open = || {
        opened(async || {
            let builder = RedisStore::builder(url).replicas(replicas);
            builder.timeout(STORE_TIMEOUT).connect().await
        })
    };
    [open().await, open().await]
}

/// Cuts the master off from its replicas, lets it answer for a moment, and kills it.
///
/// Frozen alone, a replica would find what it has missed in its socket when it wakes.
async fn kill(load: &Load, master: &mut Redis, replicas: &[&Redis], awaited: usize) {
    for replica in replicas {
        replica.freeze();
    }
    let cut = master
        .client()
        .command(&["CLIENT", "KILL", "TYPE", "replica"]);
    assert!(matches!(cut, Reply::Number(1..)), "{cut:?}");
    if awaited == 0 {
        load.more("the master acknowledges", 60, acknowledged).await;
    } else {
        load.more("requests come in vain", 60, requests).await;
    }
    master.kill();
    for replica in replicas {
        replica.thaw();
    }
}

async fn sentinel_group_fails_over(replicas: usize) -> Losses {
    let mut group = start_sentinel_group();
    let history = History::new();
    let load = Load::start(
        stores(&group.url(), replicas).await,
        &history,
        policies(HOLD),
    );
    load.more("some of it is done", 100, executions).await;
    history.incident("the master is cut off and killed");
    {
        let (master, others) = group.servers.split_first_mut().unwrap();
        let others: Vec<&Redis> = others.iter().collect();
        kill(&load, master, &others, replicas).await;
    }
    eventually("another is the master", || group.master().is_some()).await;
    history.over();
    load.more("it goes on", 100, executions).await;
    let report = load.judge(HOLD).await;
    super::tell(
        &format!("Sentinel group, its master killed under load, replicas = {replicas}"),
        report,
        &history,
    )
}

async fn cluster_shard_fails_over(replicas: usize) -> Losses {
    let mut cluster = start_cluster();
    let history = History::new();
    let load = Load::start(
        stores(&cluster.url(), replicas).await,
        &history,
        policies(HOLD),
    );
    load.more("some of it is done", 100, executions).await;
    history.incident("the master of a shard is cut off and killed");
    {
        let (masters, others) = cluster.servers.split_at_mut(3);
        kill(&load, &mut masters[0], &[&others[0]], replicas).await;
    }
    eventually("its replica is the master", || {
        let mut client = cluster.servers[3].client();
        let said = client.command(&["INFO", "replication"]);
        said.text().contains("role:master")
    })
    .await;
    history.over();
    // Where a replica is waited for, the shard needs one again.
    cluster.servers[0].start();
    load.more("it goes on", 100, executions).await;
    let report = load.judge(HOLD).await;
    super::tell(
        &format!("Cluster, the master of a shard killed under load, replicas = {replicas}"),
        report,
        &history,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_group_loses_what_no_replica_has() {
    let losses = sentinel_group_fails_over(0).await;
    assert!(losses.claims + losses.records > 0, "{losses}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_44_sentinel_group_loses_nothing_that_a_replica_has() {
    assert_eq!(sentinel_group_fails_over(1).await, Losses::NONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_shard_loses_what_its_replica_does_not_have() {
    let losses = cluster_shard_fails_over(0).await;
    assert!(losses.claims + losses.records > 0, "{losses}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_44_cluster_shard_loses_nothing_that_its_replica_has() {
    assert_eq!(cluster_shard_fails_over(1).await, Losses::NONE);
}
