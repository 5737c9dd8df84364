//! A crash of PostgreSQL.

use std::time::Duration;

use onlyonce_checker::{History, Losses};
use onlyonce_core::OnUnknown;
use onlyonce_postgres::PostgresStore;
use onlyonce_servers::postgres::start_postgres;

use crate::clock::opened;
use crate::generator::{Load, executions, failures, patient, policies};

const HOLD: OnUnknown = OnUnknown::Hold;
/// To connect alone takes long where nothing is optimised, and to commit where others write.
const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_loses_nothing_in_a_crash() {
    let mut server = start_postgres();
    let history = History::new();
    let url = format!("{}?connections=4", server.url());
    let open = || {
        opened(async || {
            let builder = PostgresStore::builder(&url).migrate(true);
            builder.timeout(PATIENCE).connect().await
        })
    };
    let load = Load::start(
        [open().await, open().await],
        &history,
        patient(policies(HOLD), PATIENCE),
    );
    load.more("some of it is done", 100, executions).await;
    // No incident: what is acknowledged is on the disk, and a loss would be a fault.
    server.kill();
    load.more("calls come in vain", 10, failures).await;
    server.start();
    load.more("it goes on", 100, executions).await;
    let report = load.judge(HOLD).await;
    let losses = super::tell(
        "PostgreSQL, killed and restarted under load",
        report,
        &history,
    );
    assert_eq!(losses, Losses::NONE);
}
