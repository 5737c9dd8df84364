//! The blocklist behind the gateway, opened by its URL.

use anyhow::Context as _;
use onlyonce_pipeline::blocklist::{
    Blocklist, FileBlocklist, MemoryBlocklist, SharedBlocklistStore,
};
use onlyonce_pipeline_postgres::PostgresBlocklist;
use onlyonce_pipeline_redis::RedisBlocklist;

use crate::config::{BlocklistSettings, StoreUrl};

const STORE: &str = "`store` in [blocklist]";

/// The blocklist, beside records in this store; `None` where it is off.
pub(crate) async fn open(
    settings: &BlocklistSettings,
    records: &StoreUrl,
) -> anyhow::Result<Option<Blocklist>> {
    if !settings.enabled {
        return Ok(None);
    }
    let store: SharedBlocklistStore = match settings.url(records) {
        StoreUrl::Memory => MemoryBlocklist::new().into(),
        StoreUrl::File(file) => FileBlocklist::new(file).into(),
        StoreUrl::Redis(url) => {
            let connected = RedisBlocklist::connect(url.expose()).await;
            connected.context(STORE)?.into()
        }
        StoreUrl::Postgres(url) => {
            let connected = PostgresBlocklist::connect(url.expose()).await;
            connected.context(STORE)?.into()
        }
    };
    let blocklist = Blocklist::load_with(store, settings.options()).await;
    let blocklist = blocklist.context(STORE)?;
    let stats = blocklist.stats();
    tracing::info!(
        entries = stats.entries,
        unreadable = stats.unreadable,
        "blocklist"
    );
    Ok(Some(blocklist))
}
