//! Who waits for the end of another's transaction.

use std::time::Duration;

use onlyonce_core::{Changes, Operation, RecordId, StoreError, Watchers};
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::driver::failure;

/// Listens from the first watch on, on a connection of the pool.
pub(crate) struct Listener {
    channel: String,
    at_work: OnceCell<Task>,
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener {
    pub(crate) fn new(channel: String) -> Self {
        Self {
            channel,
            at_work: OnceCell::new(),
        }
    }

    pub(crate) async fn watch(
        &self,
        id: &RecordId,
        pool: &PgPool,
        watchers: &Watchers,
    ) -> Result<Changes, StoreError> {
        let begun = self.at_work.get_or_try_init(|| self.begin(pool, watchers));
        begun.await?;
        Ok(watchers.watch(id))
    }

    async fn begin(&self, pool: &PgPool, watchers: &Watchers) -> Result<Task, StoreError> {
        let refused = |error| failure(error).into_error(Operation::Watch);
        let mut listener = PgListener::connect_with(pool).await.map_err(refused)?;
        listener.listen(&self.channel).await.map_err(refused)?;
        let watchers = watchers.clone();
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
