//! The operators' side.
//!
//! Redis keeps its keys in no order, and has no index of ours: a page of a listing, and a count,
//! reads the names of all keys on every master with `SCAN`, and then looks at the records of the
//! page. That takes no lock and little memory, and about a second for each million keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use onlyonce_core::{
    Counts, EntryState, Inspect, InspectFuture, Listed, Operation, Page, Record, RecordId,
    Resolution, Resolved, StateKind, StoreError,
};
use redis::{Pipeline, Value};
use tokio::time::timeout;

use crate::RedisStore;
use crate::call::strange;
use crate::error::Fault;
use crate::node::{Broken, Node};
use crate::store::Inner;
use crate::value;

const OPERATION: Operation = Operation::Inspect;
/// Identifiers that are held in memory at a time: 2 MiB of them.
const MOST: usize = 1 << 16;
/// Keys that a server goes through in one step of a `SCAN`.
const STRIDE: usize = 1_000;
/// Records that are looked at at the same time.
const AT_ONCE: usize = 128;

impl Inspect for RedisStore {
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
        Box::pin(async move {
            let mut listed = Vec::new();
            if page.limit == 0 {
                return Ok(listed);
            }
            // With a filter nobody knows how many it takes to fill the page.
            let most = match page.filter.state {
                None => page.limit.clamp(AT_ONCE, MOST),
                Some(_) => MOST,
            };
            let more = |id, record: Record, _| {
                if page.filter.admits(&record) {
                    listed.push(Listed { id, record });
                }
                listed.len() < page.limit
            };
            self.0.walk(page.after, most, more).await?;
            Ok(listed)
        })
    }

    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
        Box::pin(async move {
            let record = self.0.look(id, b"whole").await?;
            Ok(record.map(|(record, _)| record))
        })
    }

    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved> {
        Box::pin(async move {
            let tail = match resolution {
                Resolution::NotExecuted => bytes::Bytes::new(),
                Resolution::Completed { status, result } => value::tail(EntryState::Completed {
                    status: *status,
                    kept: result.clone(),
                }),
            };
            let channel = self.0.caller.places.key(id);
            let (everywhere, name) = self.0.announcement(id);
            let arguments: [&[u8]; 5] = [
                &tail,
                self.0.publish(),
                channel.as_bytes(),
                everywhere.as_bytes(),
                name.as_bytes(),
            ];
            let script = &self.0.scripts.resolve;
            resolved(&self.0.run(OPERATION, id, script, &arguments).await?)
        })
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        Box::pin(async move {
            let channel = self.0.caller.places.key(id);
            let (everywhere, name) = self.0.announcement(id);
            let arguments: [&[u8]; 4] = [
                self.0.publish(),
                channel.as_bytes(),
                everywhere.as_bytes(),
                name.as_bytes(),
            ];
            let script = &self.0.scripts.forget;
            resolved(&self.0.run(OPERATION, id, script, &arguments).await?)
        })
    }

    /// Counted by reading all records but their results: each as it is when its turn comes.
    fn count(&self) -> InspectFuture<'_, Counts> {
        Box::pin(async move {
            let mut counts = Counts::default();
            let count = |_, record, size| {
                counts.add(StateKind::of(&record));
                counts.bytes += size;
                true
            };
            self.0.walk(None, MOST, count).await?;
            Ok(counts)
        })
    }
}

impl Inner {
    /// Shows live records behind `after` to `visit`, in order and without their results, until it
    /// has enough. `most` identifiers are held at a time; for each so many, all keys are read.
    async fn walk(
        &self,
        mut after: Option<RecordId>,
        most: usize,
        mut visit: impl FnMut(RecordId, Record, u64) -> bool,
    ) -> Result<(), StoreError> {
        loop {
            let ids: Vec<RecordId> = self.next_ids(after, most).await?.into_iter().collect();
            for some in ids.chunks(AT_ONCE) {
                let looks = some.iter().map(|id| self.look(id, b"head"));
                let looked = futures_util::future::join_all(looks).await;
                for (id, looked) in some.iter().zip(looked) {
                    if let Some((record, size)) = looked?
                        && !visit(*id, record, size)
                    {
                        return Ok(());
                    }
                }
            }
            if ids.len() < most {
                return Ok(());
            }
            after = ids.last().copied();
        }
    }

    /// The first `most` identifiers behind `after` that have a key on any master.
    async fn next_ids(
        &self,
        after: Option<RecordId>,
        most: usize,
    ) -> Result<BTreeSet<RecordId>, StoreError> {
        let mut ids = BTreeSet::new();
        let masters = self.caller.routes.masters(OPERATION).await;
        for node in masters.map_err(|fault| fault.give_up(OPERATION))? {
            let mut cursor = b"0".to_vec();
            loop {
                let (next, keys) = self.scan(&node, &cursor).await?;
                for key in keys {
                    let Value::BulkString(key) = key else {
                        return Err(strange(OPERATION));
                    };
                    let id = self.caller.places.id(&key);
                    let Some(id) = id.filter(|id| after.is_none_or(|after| *id > after)) else {
                        continue;
                    };
                    ids.insert(id);
                    if ids.len() > most {
                        ids.pop_last();
                    }
                }
                if next == b"0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(ids)
    }

    async fn scan(
        &self,
        node: &Arc<Node>,
        cursor: &[u8],
    ) -> Result<(Vec<u8>, Vec<Value>), StoreError> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd("SCAN").arg(cursor);
        pipeline.arg("MATCH").arg(self.caller.places.pattern());
        pipeline.arg("COUNT").arg(STRIDE);
        let sent = timeout(self.caller.limit, node.send(&pipeline)).await;
        let answers = match sent {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(Broken::Unreached(error))) => {
                Err(Fault::of_dialling(OPERATION, error, node.address()))
            }
            Ok(Err(Broken::Lost(error))) => Err(Fault::Lost(error)),
            Err(elapsed) => {
                let error = std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed);
                Err(Fault::Lost(error.into()))
            }
        };
        let answers = answers.map_err(|fault| {
            self.caller.routes.doubt(node);
            fault.give_up(OPERATION)
        })?;
        match answers.into_iter().next() {
            Some(Value::Array(parts)) => match <[Value; 2]>::try_from(parts) {
                Ok([Value::BulkString(next), Value::Array(keys)]) => Ok((next, keys)),
                _ => Err(strange(OPERATION)),
            },
            Some(Value::ServerError(error)) => {
                Err(Fault::of_reply(OPERATION, error, node.address()).give_up(OPERATION))
            }
            _ => Err(strange(OPERATION)),
        }
    }

    /// A record, if it is live, and how many bytes it takes.
    async fn look(&self, id: &RecordId, how: &[u8]) -> Result<Option<(Record, u64)>, StoreError> {
        let script = &self.scripts.look;
        let answer = self.run(OPERATION, id, script, &[how]).await?;
        let Value::Array(parts) = answer else {
            return match answer {
                Value::Nil | Value::Boolean(false) => Ok(None),
                _ => Err(strange(OPERATION)),
            };
        };
        match <[Value; 3]>::try_from(parts) {
            Ok([now, bytes, Value::Int(size)]) => {
                let record = value::record(OPERATION, &now, bytes)?;
                let key = self.caller.places.key(id).len() as u64;
                Ok(record.map(|record| (record, key + u64::try_from(size).unwrap_or(0))))
            }
            _ => Err(strange(OPERATION)),
        }
    }
}

fn resolved(answer: &Value) -> Result<Resolved, StoreError> {
    match value::number(OPERATION, answer)? {
        1 => Ok(Resolved::Applied),
        0 => Ok(Resolved::NotFound),
        2 => Ok(Resolved::Refused),
        _ => Err(strange(OPERATION)),
    }
}
