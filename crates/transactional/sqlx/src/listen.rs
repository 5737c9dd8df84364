//! Who waits for the end of another's transaction.

use std::time::Duration;

use onlyonce_core::{Changes, Operation, RecordId, StoreError, Watchers};
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::store::failed;

/// Listens from the first watch on, on a connection of the pool.
pub(crate) struct Listener {
    pool: PgPool,
    channel: String,
    watchers: Watchers,
    at_work: OnceCell<Task>,
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener {
    pub(crate) fn new(pool: PgPool, channel: String, watchers: Watchers) -> Self {
        Self {
            pool,
            channel,
            watchers,
            at_work: OnceCell::new(),
        }
    }

    pub(crate) async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.at_work.get_or_try_init(|| self.begin()).await?;
        Ok(self.watchers.watch(id))
    }

    async fn begin(&self) -> Result<Task, StoreError> {
        let refused = |error| failed(Operation::Watch, error);
        let mut listener = PgListener::connect_with(&self.pool)
            .await
            .map_err(refused)?;
        listener.listen(&self.channel).await.map_err(refused)?;
        let watchers = self.watchers.clone();
        Ok(Task(tokio::spawn(async move {
            loop {
                match listener.try_recv().await {
                    Ok(Some(notification)) => {
                        if let Ok(id) = notification.payload().parse::<RecordId>() {
                            watchers.notify(&id);
                        }
                    }
                    // The connection was lost; what came meanwhile was missed.
                    Ok(None) => watchers.notify_all(),
                    Err(_) => {
                        watchers.notify_all();
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        })))
    }
}
