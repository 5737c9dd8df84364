//! The master that Sentinels name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use onlyonce_core::{Operation, StoreError, StoreErrorKind};
use redis::Value;
use redis::aio::ConnectionLike as _;
use tokio::time::timeout;

use crate::dial::Dialler;
use crate::error::Fault;
use crate::node::Node;
use crate::url::Address;

/// Makes the node for a server's address.
pub(crate) type MakeNode = Box<dyn Fn(Address) -> Arc<Node> + Send + Sync>;

pub(crate) struct SentinelRoute {
    sentinels: Vec<Address>,
    service: Box<str>,
    /// Who we are to the Sentinels.
    dialler: Dialler,
    make_node: MakeNode,
    limit: Duration,
    current: Mutex<Option<Arc<Node>>>,
    /// One looks, the others wait for what it finds.
    looking: tokio::sync::Mutex<()>,
}

impl SentinelRoute {
    pub(crate) fn new(
        sentinels: Vec<Address>,
        service: Box<str>,
        dialler: Dialler,
        make_node: MakeNode,
        limit: Duration,
    ) -> Self {
        Self {
            sentinels,
            service,
            dialler,
            make_node,
            limit,
            current: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    pub(super) async fn master(&self, operation: Operation) -> Result<Arc<Node>, Fault> {
        if let Some(node) = &*self.lock() {
            return Ok(Arc::clone(node));
        }
        let _looking = self.looking.lock().await;
        if let Some(node) = &*self.lock() {
            return Ok(Arc::clone(node));
        }
        let node = self.look(operation).await?;
        *self.lock() = Some(Arc::clone(&node));
        // Connected to before it was known for the master.
        node.ask_attention();
        Ok(node)
    }

    pub(super) fn known(&self) -> Option<Arc<Node>> {
        self.lock().clone()
    }

    pub(super) fn doubt(&self, node: &Arc<Node>) {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|one| Arc::ptr_eq(one, node)) {
            *current = None;
        }
    }

    /// Asks all Sentinels at once; the first that names a server which says of itself that it is
    /// a master has it.
    async fn look(&self, operation: Operation) -> Result<Arc<Node>, Fault> {
        let mut asked: FuturesUnordered<_> = self
            .sentinels
            .iter()
            .map(|sentinel| self.ask(operation, sentinel))
            .collect();
        let mut worst = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(node) => return Ok(node),
                // Whatever can be mended by whoever runs this is worth more than "unreachable".
                Err(fault @ Fault::Final(_)) => worst = Some(fault),
                Err(fault) => worst = Some(worst.unwrap_or(fault)),
            }
        }
        Err(worst.unwrap_or_else(|| Fault::Final(self.unknown(operation))))
    }

    async fn ask(&self, operation: Operation, sentinel: &Address) -> Result<Arc<Node>, Fault> {
        let asking = async {
            let mut connection = self
                .dialler
                .dial(sentinel, None)
                .await
                .map_err(|error| Fault::of_dialling(operation, error, sentinel))?;
            let mut command = redis::cmd("SENTINEL");
            command.arg("GET-MASTER-ADDR-BY-NAME").arg(&*self.service);
            let answer = connection
                .req_packed_command(&command)
                .await
                .map_err(Fault::Unreached)?;
            match answer {
                Value::Array(parts) => match parts.as_slice() {
                    [Value::BulkString(host), Value::BulkString(port)] => parse(host, port),
                    _ => None,
                }
                .ok_or_else(|| Fault::Final(self.unknown(operation))),
                Value::ServerError(error) => Err(Fault::of_reply(operation, error, sentinel)),
                _ => Err(Fault::Final(self.unknown(operation))),
            }
        };
        let address = self.in_time(asking).await?;
        // A Sentinel may not have heard of a failover yet.
        let node = (self.make_node)(address);
        self.in_time(self.check(operation, &node)).await?;
        Ok(node)
    }

    async fn check(&self, operation: Operation, node: &Arc<Node>) -> Result<(), Fault> {
        let address = node.address();
        let answer = node.ask(redis::cmd("ROLE")).await;
        let role = answer.map_err(|broken| match broken {
            crate::node::Broken::Unreached(error) => Fault::of_dialling(operation, error, address),
            crate::node::Broken::Lost(error) => Fault::Unreached(error),
        })?;
        match role {
            Value::Array(parts) if matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master") => {
                Ok(())
            }
            Value::ServerError(error) => Err(Fault::of_reply(operation, error, address)),
            _ => Err(Fault::NotMaster(
                std::io::Error::other(format!("{address} is no master")).into(),
            )),
        }
    }

    async fn in_time<T>(&self, step: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        timeout(self.limit, step).await.unwrap_or_else(|elapsed| {
            let error = std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed);
            Err(Fault::Unreached(error.into()))
        })
    }

    fn unknown(&self, operation: Operation) -> StoreError {
        let message = format!(
            "the Sentinels know no service called `{}`: look at its name in the URL",
            self.service
        );
        StoreError::new(operation, StoreErrorKind::Misconfigured, message)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Node>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(host: &[u8], port: &[u8]) -> Option<Address> {
    Some(Address {
        host: std::str::from_utf8(host).ok()?.into(),
        port: std::str::from_utf8(port).ok()?.parse().ok()?,
    })
}

impl std::fmt::Debug for SentinelRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentinelRoute")
            .field("service", &self.service)
            .field("master", &*self.lock())
            .finish_non_exhaustive()
    }
}
