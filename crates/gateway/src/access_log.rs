//! The access log at work: opened with the gateway, flushed at its end.

use std::fs::OpenOptions;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use http::HeaderName;
use onlyonce_access_log_sqlx::{PostgresSink, SqliteSink};
use onlyonce_pipeline::access_log::{
    AccessLogLayer, Lines, Peer as LogPeer, RowSink, RowWriter, Rules, SinkError,
};

use crate::config::{AccessLogSettings, LineTarget, RowStore};
use crate::console::Console;
use crate::front::Peer;

const STORE: &str = "`store` in [access_log]";

/// Where requests are logged.
pub(crate) struct AccessLogs {
    rules: Arc<ArcSwap<Rules>>,
    lines: Option<Lines>,
    rows: Option<Rows>,
}

struct Rows {
    database: Database,
    writer: RowWriter,
}

#[derive(Clone)]
enum Database {
    Sqlite(SqliteSink),
    Postgres(PostgresSink),
}

impl AccessLogs {
    /// Opens what the settings name; nothing while they are off. `key_headers` carry idempotency
    /// keys, which are not logged.
    pub(crate) async fn open(
        settings: &AccessLogSettings,
        key_headers: &[HeaderName],
    ) -> anyhow::Result<Self> {
        let rules = Arc::new(ArcSwap::from_pointee(settings.rules(key_headers)));
        let mut logs = Self {
            rules,
            lines: None,
            rows: None,
        };
        if !settings.enabled {
            return Ok(logs);
        }
        if let Some(target) = &settings.lines {
            let opened = lines(target, settings);
            logs.lines = Some(opened.context("`lines` in [access_log]")?);
        }
        if let Some(store) = &settings.store {
            let database = Database::open(store).await.context(STORE)?;
            let writer = RowWriter::start(database.sink(), settings.writer_options());
            logs.rows = Some(Rows { database, writer });
        }
        Ok(logs)
    }

    /// Whether the server that they name can be had, without changing anything there.
    pub(crate) async fn examine(settings: &AccessLogSettings) -> anyhow::Result<()> {
        match &settings.store {
            Some(RowStore::Postgres(url)) if settings.enabled => {
                PostgresSink::examine(url.expose()).await.context(STORE)
            }
            _ => Ok(()),
        }
    }

    /// The outermost layer; `None` while nothing is logged.
    pub(crate) fn layer(&self) -> Option<AccessLogLayer> {
        if self.lines.is_none() && self.rows.is_none() {
            return None;
        }
        let mut layer = AccessLogLayer::new()
            .with_shared_rules(Arc::clone(&self.rules))
            .with_peer(|extensions| match extensions.get::<Peer>() {
                Some(peer) => LogPeer {
                    addr: Some(peer.addr.ip()),
                    secure: peer.tls,
                },
                None => LogPeer::default(),
            });
        if let Some(lines) = &self.lines {
            layer = layer.with_lines(lines.clone());
        }
        if let Some(rows) = &self.rows {
            layer = layer.with_rows(rows.writer.queue());
        }
        Some(layer)
    }

    /// The operators' pages, where rows are kept. Request headers are not shown while `read_only`.
    pub(crate) fn console(
        &self,
        read_only: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Option<Console> {
        let rows = self.rows.as_ref()?;
        Some(Console::new(rows.database.sink(), read_only))
    }

    /// The rules that the layer follows: new ones hold from the next request on. Where lines and
    /// rows go stays as it was at the start.
    pub(crate) fn rules(&self) -> Arc<ArcSwap<Rules>> {
        Arc::clone(&self.rules)
    }

    /// Writes what waits, then lets go of where it went, each within `limit`.
    pub(crate) async fn shutdown(self, limit: Duration) {
        if let Some(rows) = self.rows {
            let lost = rows.writer.shutdown(limit).await.lost;
            if lost > 0 {
                tracing::warn!(
                    rows = lost,
                    "the access log could not be written to its end"
                );
            }
            // A page that is still being read must not hold up the end.
            if tokio::time::timeout(limit, rows.database.close())
                .await
                .is_err()
            {
                tracing::warn!("the access log's database is still in use and was not closed");
            }
        }
        if let Some(lines) = self.lines
            && !lines.flush(limit).await
        {
            tracing::warn!("access log lines could not be written to their end");
        }
    }
}

fn lines(target: &LineTarget, settings: &AccessLogSettings) -> anyhow::Result<Lines> {
    let format = settings.line_format();
    let lines = match target {
        LineTarget::Stdout => Lines::stdout(format)?,
        LineTarget::Stderr => Lines::to(std::io::stderr(), format)?,
        LineTarget::File(path) => {
            let mut options = OpenOptions::new();
            options.append(true).create(true);
            // What is logged is nobody else's business.
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(path);
            Lines::to(file.with_context(|| path.display().to_string())?, format)?
        }
    };
    Ok(lines)
}

impl Database {
    async fn open(store: &RowStore) -> Result<Self, SinkError> {
        match store {
            RowStore::Sqlite(path) => SqliteSink::open(path).await.map(Self::Sqlite),
            RowStore::Postgres(url) => PostgresSink::connect(url.expose())
                .await
                .map(Self::Postgres),
        }
    }

    fn sink(&self) -> Arc<dyn RowSink> {
        match self {
            Self::Sqlite(sink) => Arc::new(sink.clone()),
            Self::Postgres(sink) => Arc::new(sink.clone()),
        }
    }

    async fn close(&self) {
        match self {
            Self::Sqlite(sink) => sink.close().await,
            Self::Postgres(sink) => sink.close().await,
        }
    }
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
