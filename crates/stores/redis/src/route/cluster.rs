//! Who serves which slots of a Cluster.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onlyonce_core::{Operation, StoreError, StoreErrorKind};
use redis::Value;
use tokio::time::timeout;

use super::sentinel::MakeNode;
use crate::error::Fault;
use crate::node::{Broken, Node};
use crate::place::SLOTS;
use crate::url::Address;

#[derive(Clone, Debug)]
pub(crate) struct ClusterRoutes(Arc<Inner>);

struct Inner {
    seeds: Vec<Address>,
    make_node: MakeNode,
    limit: Duration,
    map: Mutex<Map>,
    looking: tokio::sync::Mutex<()>,
    asked_to_look: AtomicBool,
}

#[derive(Default)]
struct Map {
    /// Every server that was ever named, as long as the last map names it.
    nodes: HashMap<Address, Arc<Node>>,
    /// By slot; empty until a first map has been read.
    slots: Vec<Option<Arc<Node>>>,
    /// Counts the maps.
    version: u64,
}

/// Between two maps: a failover is not storm weather.
const PAUSE: Duration = Duration::from_millis(100);

impl ClusterRoutes {
    pub(crate) fn new(seeds: Vec<Address>, make_node: MakeNode, limit: Duration) -> Self {
        Self(Arc::new(Inner {
            seeds,
            make_node,
            limit,
            map: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            asked_to_look: AtomicBool::new(false),
        }))
    }

    pub(super) async fn node(&self, operation: Operation, slot: u16) -> Result<Arc<Node>, Fault> {
        let before = {
            let map = self.0.lock();
            if let Some(Some(node)) = map.slots.get(usize::from(slot)) {
                return Ok(Arc::clone(node));
            }
            map.version
        };
        self.0.look(operation, before).await?;
        let map = self.0.lock();
        match map.slots.get(usize::from(slot)) {
            Some(Some(node)) => Ok(Arc::clone(node)),
            _ => Err(Fault::Later(
                std::io::Error::other(format!("no server of the Cluster has slot {slot}")).into(),
            )),
        }
    }

    pub(super) async fn masters(&self, operation: Operation) -> Result<Vec<Arc<Node>>, Fault> {
        let version = self.0.lock().version;
        if version == 0 {
            self.0.look(operation, version).await?;
        }
        let map = self.0.lock();
        let mut masters: Vec<Arc<Node>> = Vec::new();
        for node in map.slots.iter().flatten() {
            if !masters.iter().any(|known| Arc::ptr_eq(known, node)) {
                masters.push(Arc::clone(node));
            }
        }
        Ok(masters)
    }

    /// As the last map has it.
    pub(super) fn known(&self) -> Vec<Arc<Node>> {
        self.0.lock().nodes.values().cloned().collect()
    }

    pub(super) fn named(&self, address: &Address) -> Arc<Node> {
        self.0.named(&mut self.0.lock(), address)
    }

    pub(super) fn moved(&self, slot: u16, address: &Address) {
        let mut map = self.0.lock();
        let node = self.0.named(&mut map, address);
        if let Some(place) = map.slots.get_mut(usize::from(slot)) {
            *place = Some(node);
        }
        drop(map);
        self.look_again();
    }

    /// Reads the map anew, behind the request that found it wrong.
    pub(super) fn look_again(&self) {
        if self.0.asked_to_look.swap(true, Ordering::SeqCst) {
            return;
        }
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let before = inner.lock().version;
            if let Err(fault) = inner.look(Operation::Inspect, before).await {
                tracing::debug!(?fault, "no map of the Cluster");
            }
            tokio::time::sleep(PAUSE).await;
            inner.asked_to_look.store(false, Ordering::SeqCst);
        });
    }
}

impl Inner {
    /// Reads the map from whoever has it, unless another did since `before`.
    async fn look(&self, operation: Operation, before: u64) -> Result<(), Fault> {
        let _looking = self.looking.lock().await;
        let askable = {
            let map = self.lock();
            if map.version != before {
                return Ok(());
            }
            let known: Vec<Arc<Node>> = map.nodes.values().cloned().collect();
            known
        };
        let seeds = self
            .seeds
            .iter()
            .map(|seed| self.named(&mut self.lock(), seed));
        let seeds: Vec<_> = seeds.collect();
        let mut worst = None;
        for node in askable.iter().chain(&seeds) {
            let asked = timeout(self.limit, self.ask(operation, node)).await;
            let answer = asked.unwrap_or_else(|elapsed| {
                let error = std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed);
                Err(Fault::Unreached(error.into()))
            });
            match answer {
                Ok(ranges) => {
                    self.draw(&ranges);
                    return Ok(());
                }
                Err(fault @ Fault::Final(_)) => worst = Some(fault),
                Err(fault) => worst = Some(worst.unwrap_or(fault)),
            }
        }
        Err(worst.unwrap_or(Fault::Moved(None)))
    }

    async fn ask(
        &self,
        operation: Operation,
        node: &Arc<Node>,
    ) -> Result<Vec<(u16, u16, Address)>, Fault> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let answer = node.ask(command).await.map_err(|broken| match broken {
            Broken::Unreached(error) => Fault::of_dialling(operation, error, node.address()),
            Broken::Lost(error) => Fault::Unreached(error),
        })?;
        match answer {
            Value::ServerError(error) if error.to_string().contains("cluster support disabled") => {
                let message = format!(
                    "Redis at {} is no Cluster: write `redis://` in place of `redis+cluster://`",
                    node.address()
                );
                let kind = StoreErrorKind::Misconfigured;
                Err(Fault::Final(StoreError::new(operation, kind, message)))
            }
            Value::ServerError(error) => Err(Fault::of_reply(operation, error, node.address())),
            Value::Array(ranges) if !ranges.is_empty() => Ok(ranges
                .iter()
                .filter_map(|range| read_range(range, node.address()))
                .collect()),
            _ => Err(Fault::Later(
                std::io::Error::other(format!("{} has no slots to tell of", node.address())).into(),
            )),
        }
    }

    fn draw(&self, ranges: &[(u16, u16, Address)]) {
        let mut map = self.lock();
        let mut slots = vec![None; usize::from(SLOTS)];
        let mut nodes = HashMap::new();
        for (first, last, address) in ranges {
            let node = self.named(&mut map, address);
            nodes.insert(address.clone(), Arc::clone(&node));
            let last = usize::from(*last).min(slots.len() - 1);
            for slot in slots.iter_mut().take(last + 1).skip((*first).into()) {
                *slot = Some(Arc::clone(&node));
            }
        }
        map.slots = slots;
        map.nodes = nodes;
        map.version += 1;
    }

    fn named(&self, map: &mut Map, address: &Address) -> Arc<Node> {
        let make = || (self.make_node)(address.clone());
        Arc::clone(map.nodes.entry(address.clone()).or_insert_with(make))
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `[first, last, [host, port, …], …]`; a host that the server does not know is the one asked.
fn read_range(range: &Value, asked: &Address) -> Option<(u16, u16, Address)> {
    let Value::Array(parts) = range else {
        return None;
    };
    let [
        Value::Int(first),
        Value::Int(last),
        Value::Array(master),
        ..,
    ] = parts.as_slice()
    else {
        return None;
    };
    let [host, Value::Int(port), ..] = master.as_slice() else {
        return None;
    };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        _ => "",
    };
    let host = match host {
        "" | "?" => asked.host.clone(),
        host => host.into(),
    };
    let port = u16::try_from(*port).ok()?;
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    Some((first, last, Address { host, port }))
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterRoutes")
            .field("servers", &self.lock().nodes.keys())
            .finish_non_exhaustive()
    }
}
