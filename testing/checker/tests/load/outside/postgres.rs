//! A crash of PostgreSQL.

use onlyonce_checker::{History, Losses};
use onlyonce_core::OnUnknown;
use onlyonce_postgres::PostgresStore;
use onlyonce_servers::postgres::start_postgres;

use crate::clock::opened;
use crate::generator::{Load, STORE_TIMEOUT, executions, requests};

const HOLD: OnUnknown = OnUnknown::Hold;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_loses_nothing_in_a_crash() {
    let mut server = start_postgres();
    let history = History::new();
    let url = server.url();
    let open = || {
        opened(async || {
            let builder = PostgresStore::builder(&url).migrate(true);
            builder.timeout(STORE_TIMEOUT).connect().await
        })
    };
    let load = Load::start([open().await, open().await], &history, HOLD);
    load.more("some of it is done", 100, executions).await;
    // No incident: what is acknowledged is on the disk, and a loss would be a fault.
    server.kill();
    load.more("requests come in vain", 60, requests).await;
    server.start();
    load.more("it goes on", 100, executions).await;
    let report = load.judge(HOLD).await;
    let losses = super::tell("PostgreSQL, killed and restarted under load", report);
    assert_eq!(losses, Losses::NONE);
}
