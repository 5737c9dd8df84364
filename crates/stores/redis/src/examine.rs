//! A look at servers, before records are trusted to them, or soon after.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Operation, RecordId, StoreError, StoreErrorKind};
use redis::{Cmd, Pipeline, Value};
use tokio::time::timeout;

use crate::RedisStore;
use crate::error::Fault;
use crate::node::{Broken, Node};
use crate::place::Places;
use crate::rights::Needs;
use crate::route::Routes;
use crate::scripts::{PROBE, Scripts};
use crate::warning::Warning;

/// What there is to know.
pub(crate) struct Examined {
    /// Announcements go by shard: it is a Cluster, and its oldest server knows how to.
    pub(crate) sharded: bool,
    pub(crate) warnings: Vec<Warning>,
}

/// Looks at servers that take writes, tries out what will be asked of them, and loads the scripts.
pub(crate) struct Examiner<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) places: &'a Places,
    pub(crate) clustered: bool,
    pub(crate) replicas: usize,
    pub(crate) limit: Duration,
}

impl Examiner<'_> {
    /// All that there are.
    pub(crate) async fn examine(&self) -> Result<Examined, StoreError> {
        let masters = self.in_time(self.routes.masters(Operation::Open)).await?;
        let mut warnings = Vec::new();
        let mut oldest: Option<Version> = None;
        for node in &masters {
            let version = self.look(node, &mut warnings).await?;
            oldest = Some(oldest.map_or(version, |oldest| oldest.min(version)));
        }
        let Some(version) = oldest else {
            let message = "the Cluster has no master: look at `CLUSTER NODES`";
            return Err(StoreError::new(
                Operation::Open,
                StoreErrorKind::Unavailable,
                message,
            ));
        };
        let sharded = self.clustered && version >= Version::SEVEN;
        for node in &masters {
            self.try_out(node, sharded, &mut warnings).await?;
        }
        Ok(Examined { sharded, warnings })
    }

    /// A server that takes writes later on; with all that is tried out at the start, if it `is_new`.
    pub(crate) async fn examine_one(
        &self,
        node: &Arc<Node>,
        sharded: bool,
        is_new: bool,
    ) -> Result<Vec<Warning>, StoreError> {
        let mut warnings = Vec::new();
        let version = self.look(node, &mut warnings).await?;
        if sharded && version < Version::SEVEN {
            let message = "it is older than version 7, and the Cluster was not when this store was \
                           connected: connect it anew";
            return Err(RedisStore::misconfigured(message));
        }
        if is_new {
            self.try_out(node, sharded, &mut warnings).await?;
        }
        Ok(warnings)
    }

    async fn look(
        &self,
        node: &Arc<Node>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Version, StoreError> {
        let info = self.ask(node, redis::cmd("INFO")).await?;
        let text = match &info {
            Value::BulkString(text) => String::from_utf8_lossy(text).into_owned(),
            Value::VerbatimString { text, .. } => text.clone(),
            _ => String::new(),
        };
        let facts: HashMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        let fact = |name: &str| facts.get(name).copied().unwrap_or_default();
        let server: Box<str> = node.address().to_string().into();

        if [fact("redis_mode"), fact("server_mode")].contains(&"sentinel") {
            return Err(RedisStore::misconfigured(format!(
                "{server} is a Sentinel: write \"redis+sentinel://{server}/SERVICE\""
            )));
        }
        let version = parse_version(fact("redis_version"))
            .filter(|version| *version >= Version::OLDEST)
            .ok_or_else(|| {
                RedisStore::misconfigured(format!(
                    "{server} is Redis {}; version 6.2 or newer is needed, or Valkey",
                    fact("redis_version")
                ))
            })?;
        if fact("cluster_enabled") == "1" && !self.clustered {
            return Err(RedisStore::misconfigured(format!(
                "Redis at {server} is part of a Cluster: write `redis+cluster://` in place of \
                 `redis://`"
            )));
        }
        if !matches!(fact("role"), "master" | "") {
            return Err(RedisStore::misconfigured(format!(
                "Redis at {server} is a replica, which takes no writes: name its master ({}:{}), \
                 or write `redis+sentinel://` to have it found",
                fact("master_host"),
                fact("master_port"),
            )));
        }
        self.weigh(node, server, fact, warnings).await?;
        Ok(version)
    }

    async fn weigh<'a>(
        &self,
        node: &Arc<Node>,
        server: Box<str>,
        fact: impl Fn(&str) -> &'a str,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), StoreError> {
        let policy = fact("maxmemory_policy");
        if !matches!(policy, "noeviction" | "") {
            warnings.push(Warning::Evicting {
                server: server.clone(),
                policy: policy.into(),
            });
        }
        let bytes = |name: &str| fact(name).parse::<u64>().unwrap_or(0);
        if (1..=bytes("used_memory")).contains(&bytes("maxmemory")) && policy == "noeviction" {
            let server = server.clone();
            warnings.push(Warning::Full { server });
        }
        // Where CONFIG is forbidden, as on managed servers, the provider has seen to it.
        if fact("aof_enabled") == "0" {
            if let Some(rule) = self.setting(node, "save").await? {
                let server = server.clone();
                warnings.push(if rule.is_empty() {
                    Warning::NotPersistent { server }
                } else {
                    Warning::SnapshotsOnly { server }
                });
            }
        } else if self.replicas == 0
            && let Some(appendfsync) = self.setting(node, "appendfsync").await?
            && &*appendfsync != "always"
        {
            warnings.push(Warning::FlushedLate {
                server: server.clone(),
                appendfsync,
            });
        }
        let connected = fact("connected_slaves").parse().unwrap_or(0);
        if connected < self.replicas {
            warnings.push(Warning::TooFewReplicas {
                server,
                connected,
                wanted: self.replicas,
            });
        } else if connected > 0 && self.replicas == 0 {
            warnings.push(Warning::ReplicasNotAwaited { server, connected });
        }
        Ok(())
    }

    /// A setting of the server's, if it tells.
    async fn setting(&self, node: &Arc<Node>, name: &str) -> Result<Option<Box<str>>, StoreError> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        let answer = self.send(node, &pipeline).await?.pop();
        let Some(Value::Map(pairs)) = answer else {
            return Ok(None);
        };
        Ok(match pairs.into_iter().next() {
            Some((_, Value::BulkString(value))) => {
                Some(String::from_utf8_lossy(&value).into_owned().into())
            }
            _ => None,
        })
    }

    /// Does once what every step will need, so that what is missing shows now.
    async fn try_out(
        &self,
        node: &Arc<Node>,
        sharded: bool,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), StoreError> {
        let Some(id) = self.record_on(node).await else {
            return Ok(());
        };
        let scripts = Scripts::new();
        let needs = Needs {
            places: self.places,
            id: &id,
            clustered: self.clustered,
            sharded,
            waits: self.replicas > 0,
        };
        let send = async |pipeline: &Pipeline| self.send(node, pipeline).await;
        needs.check(node, &scripts, send).await?;

        let key = format!("{}:probe", self.places.key(&id));
        let publish = if sharded { "SPUBLISH" } else { "PUBLISH" };
        let probe = |write: &str| {
            let mut command = redis::cmd("EVAL");
            command.arg(PROBE).arg(2).arg(&key).arg(format!("{key}:2"));
            command.arg(write).arg(publish).arg(&key);
            command
        };
        match self.ask(node, probe("1")).await {
            Err(error) if error.kind() == StoreErrorKind::Full => {
                let server = node.address().to_string().into();
                let full = Warning::Full { server };
                if !warnings.contains(&full) {
                    warnings.push(full);
                }
                self.ask(node, probe("0")).await?;
            }
            tried => drop(tried?),
        }
        let mut look = redis::cmd("EVALSHA");
        look.arg(&scripts.look.hash).arg(1).arg(&key);
        look.arg("").arg("head");
        self.ask(node, look).await.map(drop)
    }

    /// A record that would lie on this server.
    async fn record_on(&self, node: &Arc<Node>) -> Option<RecordId> {
        for tag in 0..=0xfff_u16 {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&(tag << 4).to_be_bytes());
            let id = RecordId::from_bytes(bytes);
            let home = self.routes.node(Operation::Open, Places::slot(&id)).await;
            if home.is_ok_and(|home| Arc::ptr_eq(&home, node)) {
                return Some(id);
            }
        }
        None
    }

    async fn ask(&self, node: &Arc<Node>, command: Cmd) -> Result<Value, StoreError> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        match self.send(node, &pipeline).await?.pop() {
            Some(Value::ServerError(error)) => {
                let fault = Fault::of_reply(Operation::Open, error, node.address());
                Err(fault.give_up(Operation::Open))
            }
            answer => Ok(answer.unwrap_or(Value::Nil)),
        }
    }

    async fn send(&self, node: &Arc<Node>, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let sent = async {
            node.send(pipeline).await.map_err(|broken| match broken {
                Broken::Unreached(error) => {
                    Fault::of_dialling(Operation::Open, error, node.address())
                }
                Broken::Lost(error) => Fault::Unreached(error),
            })
        };
        self.in_time(sent).await
    }

    async fn in_time<T>(
        &self,
        step: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, StoreError> {
        // Several servers may have to be asked one after another.
        match timeout(self.limit * 4, step).await {
            Ok(done) => done.map_err(|fault| fault.give_up(Operation::Open)),
            Err(elapsed) => {
                let message = "Redis did not answer in time";
                let error = StoreError::new(Operation::Open, StoreErrorKind::Timeout, message);
                Err(error.with_source(elapsed))
            }
        }
    }
}

/// A server's version, the first two numbers of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl Version {
    /// The oldest that will do: `SET … PXAT` came with it.
    const OLDEST: Self = Self(6, 2);
    /// Sharded pub/sub came with it.
    const SEVEN: Self = Self(7, 0);
}

fn parse_version(text: &str) -> Option<Version> {
    let mut numbers = text.split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some(Version(major, minor))
}
