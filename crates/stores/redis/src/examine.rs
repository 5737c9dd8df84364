//! A look at the servers, before any record is trusted to them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Operation, RecordId, StoreError, StoreErrorKind};
use redis::{Cmd, Pipeline, Value};
use tokio::time::timeout;

use crate::RedisStore;
use crate::error::Fault;
use crate::node::{Broken, Node};
use crate::place::Places;
use crate::route::Routes;
use crate::scripts::{PROBE, Scripts};

/// Something about a server that may lose records, or refuse them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Its `maxmemory-policy` lets it throw live records away.
    Evicting {
        /// Which server.
        server: Box<str>,
        /// The policy.
        policy: Box<str>,
    },
    /// It keeps nothing on disk: when it restarts, its records are gone.
    NotPersistent {
        /// Which server.
        server: Box<str>,
    },
    /// It only writes snapshots: when it crashes, what came since the last is gone.
    SnapshotsOnly {
        /// Which server.
        server: Box<str>,
    },
    /// It writes its append-only file after it has answered: when it crashes, what it answered in
    /// the last two seconds may be gone.
    FlushedLate {
        /// Which server.
        server: Box<str>,
        /// Its `appendfsync`.
        appendfsync: Box<str>,
    },
    /// It has replicas, and no step waits for them: a failover can lose acknowledged steps.
    ReplicasNotAwaited {
        /// Which server.
        server: Box<str>,
        /// How many follow it.
        connected: usize,
    },
    /// It has fewer replicas than each step waits for: every step will fail.
    TooFewReplicas {
        /// Which server.
        server: Box<str>,
        /// How many follow it.
        connected: usize,
        /// How many are waited for.
        wanted: usize,
    },
    /// Its memory is full: it takes no claims.
    Full {
        /// Which server.
        server: Box<str>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evicting { server, policy } => write!(
                f,
                "Redis at {server} has `maxmemory-policy {policy}`: it may throw live records \
                 away, and requests would execute again; set it to `noeviction`"
            ),
            Self::NotPersistent { server } => write!(
                f,
                "Redis at {server} keeps nothing on disk: a restart loses all records, and \
                 requests would execute again; set `appendonly yes`"
            ),
            Self::SnapshotsOnly { server } => write!(
                f,
                "Redis at {server} only writes snapshots: a crash loses what came since the last; \
                 set `appendonly yes`"
            ),
            Self::FlushedLate {
                server,
                appendfsync,
            } => write!(
                f,
                "Redis at {server} has `appendfsync {appendfsync}`: a crash can lose what it \
                 answered in the last two seconds, and requests would execute again; set \
                 `appendfsync always`, or `replicas`"
            ),
            Self::ReplicasNotAwaited { server, connected } => write!(
                f,
                "Redis at {server} has {connected} replica(s), and no step waits for them: a \
                 failover can lose acknowledged claims and records; set `replicas`"
            ),
            Self::TooFewReplicas {
                server,
                connected,
                wanted,
            } => write!(
                f,
                "Redis at {server} has {connected} replica(s), and each step waits for {wanted}: \
                 none will succeed"
            ),
            Self::Full { server } => write!(
                f,
                "Redis at {server} has reached its `maxmemory`: it takes no claims; raise it, or \
                 shorten lifetimes"
            ),
        }
    }
}

/// What there is to know.
pub(crate) struct Examined {
    /// Of the oldest server.
    pub(crate) version: Version,
    pub(crate) warnings: Vec<Warning>,
}

struct Examiner<'a> {
    routes: &'a Routes,
    places: &'a Places,
    clustered: bool,
    replicas: usize,
    limit: Duration,
}

/// Looks at every server that takes writes, tries out what will be asked of it, and loads the
/// scripts.
pub(crate) async fn examine(
    routes: &Routes,
    places: &Places,
    clustered: bool,
    replicas: usize,
    limit: Duration,
) -> Result<Examined, StoreError> {
    let examiner = Examiner {
        routes,
        places,
        clustered,
        replicas,
        limit,
    };
    examiner.examine().await
}

impl Examiner<'_> {
    async fn examine(&self) -> Result<Examined, StoreError> {
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
        let scripts = Scripts::new();
        for node in &masters {
            for script in scripts.all() {
                let mut load = redis::cmd("SCRIPT");
                load.arg("LOAD").arg(script.text);
                self.ask(node, load).await?;
            }
            self.try_out(node, version, &scripts, &mut warnings).await?;
        }
        Ok(Examined { version, warnings })
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

        if fact("redis_mode") == "sentinel" {
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

    /// Does once what every step will need, so that a missing permission shows now.
    async fn try_out(
        &self,
        node: &Arc<Node>,
        version: Version,
        scripts: &Scripts,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), StoreError> {
        let Some(id) = self.record_on(node).await else {
            return Ok(());
        };
        let key = format!("{}:probe", self.places.key(&id));
        let (publish, subscribe, unsubscribe) = if self.clustered && version >= Version::SEVEN {
            ("SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE")
        } else {
            ("PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE")
        };
        let probe = |write: &str| {
            let mut command = redis::cmd("EVAL");
            command.arg(PROBE).arg(2).arg(&key).arg(format!("{key}:2"));
            command.arg(write).arg(publish).arg(&key);
            command
        };
        match self.ask(node, probe("1")).await {
            Err(error) if error.kind() == StoreErrorKind::Full => {
                let server = node.address().to_string().into();
                warnings.push(Warning::Full { server });
                self.ask(node, probe("0")).await?;
            }
            tried => drop(tried?),
        }
        let mut pipeline = Pipeline::with_capacity(5);
        pipeline
            .cmd("EVALSHA")
            .arg(&scripts.look.hash)
            .arg(1)
            .arg(&key);
        pipeline.arg("").arg("head");
        pipeline.cmd(subscribe).arg(&key);
        pipeline.cmd(unsubscribe).arg(&key);
        let mut scan = redis::cmd("SCAN");
        scan.arg(0).arg("MATCH").arg(self.places.pattern());
        pipeline.add_command(scan.arg("COUNT").arg(1).clone());
        if self.replicas > 0 {
            pipeline.cmd("WAIT").arg(0).arg(1);
        }
        for answer in self.send(node, &pipeline).await? {
            if let Value::ServerError(error) = answer {
                let fault = Fault::of_reply(Operation::Open, error, node.address());
                return Err(fault.give_up(Operation::Open));
            }
        }
        Ok(())
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
pub(crate) struct Version(u32, u32);

impl Version {
    /// The oldest that will do: `SET … PXAT` came with it.
    const OLDEST: Self = Self(6, 2);
    /// Sharded pub/sub came with it.
    pub(crate) const SEVEN: Self = Self(7, 0);
}

fn parse_version(text: &str) -> Option<Version> {
    let mut numbers = text.split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some(Version(major, minor))
}
