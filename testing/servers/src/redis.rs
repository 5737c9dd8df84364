//! Redis: one server, a Sentinel group, a Cluster.
//!
//! The program is the `redis-server` of the path, or the one that `ONLYONCE_REDIS_SERVER` names:
//! another version of it, or a Valkey.

mod client;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

pub use client::{Client, Reply};

use crate::process::{Port, Program, find, patiently};

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    program: Option<Program>,
    binary: PathBuf,
    arguments: Vec<String>,
    port: Port,
    /// For what the servers of a Cluster say to each other.
    bus: Option<Port>,
    folder: TempDir,
}

/// Starts a server that may be killed, as long as the machine lives: what it answered has been
/// handed to the operating system. (With `everysec` it has not: a write waits for a flush under
/// way, while its answer goes out.)
#[must_use]
pub fn start_redis() -> Redis {
    start_redis_with(&["--appendonly", "yes", "--appendfsync", "no"])
}

/// Starts a server with these arguments.
///
/// # Panics
/// When `redis-server` is not here, or does not come up.
#[must_use]
pub fn start_redis_with(arguments: &[&str]) -> Redis {
    let mut redis = Redis::prepare(arguments);
    redis.start();
    redis
}

impl Redis {
    fn prepare(arguments: &[&str]) -> Self {
        let port = Port::take();
        let folder = temporary_folder();
        let mut all: Vec<String> = Vec::new();
        // A configuration file of its own, as Sentinels and `CONFIG REWRITE` write to it.
        let file = folder.path().join("redis.conf");
        std::fs::write(&file, "").expect("the temporary folder can be written");
        all.push(file.display().to_string());
        let port_text = port.number().to_string();
        let fixed = [
            "--port",
            &port_text,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--repl-diskless-sync-delay",
            "0",
            "--repl-diskless-load",
            "swapdb",
        ];
        all.extend(fixed.map(str::to_owned));
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Self {
            program: None,
            binary: binary().clone(),
            arguments: all,
            port,
            bus: None,
            folder,
        }
    }

    /// Takes a port for what the members of a Cluster say to each other.
    fn take_bus(&mut self) {
        let bus = if version() >= 7 {
            let bus = Port::take();
            let option = ["--cluster-port".to_owned(), bus.number().to_string()];
            self.arguments.extend(option);
            bus
        } else {
            // It can't be chosen: it is ten thousand on.
            const APART: u16 = 10_000;
            let pair = std::iter::repeat_with(Port::take)
                .take(1_000)
                .find_map(|port| {
                    let bus = Port::take_this(port.number().checked_add(APART)?)?;
                    Some((port, bus))
                });
            let (port, bus) = pair.expect("there are two free ports ten thousand apart");
            let place = self.arguments.iter().position(|one| one == "--port");
            let place = place.expect("every server has a port");
            self.arguments[place + 1] = port.number().to_string();
            self.port = port;
            bus
        };
        self.bus = Some(bus);
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.program.as_ref().expect("the server runs").id()
    }

    /// A connection for the test's own commands.
    ///
    /// # Panics
    /// When the server does not answer.
    #[must_use]
    pub fn client(&self) -> Client {
        let client = Client::connect(self.port());
        client.unwrap_or_else(|error| panic!("{} does not answer: {error}", self.address()))
    }

    /// Waits until so many replicas follow it without delay.
    ///
    /// # Panics
    /// When they don't.
    pub fn await_replicas(&self, count: i64) {
        let mut client = self.client();
        let wanted = count.to_string();
        let mut times = 0;
        patiently("the replicas follow", || {
            client.command(&["PUBLISH", "onlyonce-servers", ""]);
            let acknowledged = client.command(&["WAIT", &wanted, "100"]);
            let enough = matches!(acknowledged, Reply::Number(number) if number >= count);
            // Before the first replica came there was nothing that it could have missed; and it is
            // sent nothing before it has acknowledged something, once a second.
            times = if enough { times + 1 } else { 0 };
            times == 2
        });
    }

    /// Stops it in its tracks: its connections stay open, and nothing is answered.
    ///
    /// # Panics
    /// When it is not running.
    pub fn freeze(&self) {
        self.program.as_ref().expect("the server runs").freeze(true);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is not running.
    pub fn thaw(&self) {
        let program = self.program.as_ref().expect("the server runs");
        program.freeze(false);
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.program = None;
    }

    /// Starts it, on the data it had, and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up; the message has the end of its log.
    pub fn start(&mut self) {
        let log = self.folder.path().join("log");
        let mut program = Program::start(&self.binary, &self.arguments, self.folder.path(), &log);
        let mut ended = false;
        patiently(&format!("Redis on port {} answers", self.port()), || {
            ended = program.has_ended();
            ended || self.answers()
        });
        if ended {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<_> = said.lines().rev().take(8).collect();
            panic!("Redis ended at once: {lines:#?}");
        }
        self.program = Some(program);
    }

    fn answers(&self) -> bool {
        let Ok(mut client) = Client::connect(self.port()) else {
            return false;
        };
        match client.try_command(&["PING"]) {
            // A server that wants a password answers as well.
            Ok(Reply::Text(_)) => true,
            Ok(Reply::Error(error)) => error.starts_with("NOAUTH"),
            Ok(_) | Err(_) => false,
        }
    }
}

/// One master, two replicas, and three Sentinels that watch over them.
#[derive(Debug)]
pub struct SentinelGroup {
    /// The first one is the master to begin with.
    pub servers: Vec<Redis>,
    /// The Sentinels.
    pub sentinels: Vec<Redis>,
}

/// Starts a group whose service is called `onlyonce`. It fails over about a second after its
/// master has gone.
///
/// # Panics
/// When it does not come up.
#[must_use]
pub fn start_sentinel_group() -> SentinelGroup {
    let mut servers = vec![start_redis()];
    let master = servers[0].port();
    for _ in 0..2 {
        let replica_of = ["--replicaof", "127.0.0.1", &master.to_string()].map(str::to_owned);
        let replica_of = replica_of.each_ref().map(String::as_str);
        servers.push(start_redis_with(&replica_of));
    }
    // What a Sentinel does not see when it comes up, it sees ten seconds later.
    servers[0].await_replicas(2);
    let sentinels = (0..3)
        .map(|_| {
            let mut sentinel = Redis::prepare(&[]);
            let settings = format!(
                "port {}\nbind 127.0.0.1\n\
                 sentinel monitor onlyonce 127.0.0.1 {master} 2\n\
                 sentinel down-after-milliseconds onlyonce 800\n\
                 sentinel failover-timeout onlyonce 3000\n",
                sentinel.port()
            );
            let file = sentinel.folder.path().join("redis.conf");
            std::fs::write(&file, settings).expect("the temporary folder can be written");
            sentinel.arguments.truncate(1);
            sentinel.arguments.push("--sentinel".to_owned());
            sentinel.start();
            sentinel
        })
        .collect();
    let group = SentinelGroup { servers, sentinels };
    group.settle();
    group
}

impl SentinelGroup {
    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        let sentinels: Vec<_> = self.sentinels.iter().map(Redis::address).collect();
        format!("redis+sentinel://{}/onlyonce", sentinels.join(","))
    }

    /// Which of the [`servers`](Self::servers) is the master now, as the Sentinels see it.
    #[must_use]
    pub fn master(&self) -> Option<usize> {
        let ask = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "onlyonce"];
        let Reply::Array(address) = self.sentinels[0].client().command(&ask) else {
            return None;
        };
        let port = address.get(1)?.text().parse::<u16>().ok()?;
        let place = self
            .servers
            .iter()
            .position(|server| server.port() == port)?;
        let server = &self.servers[place];
        server.program.as_ref()?;
        let mut client = Client::connect(server.port()).ok()?;
        let said = client.try_command(&["INFO", "replication"]).ok()?;
        said.text().contains("role:master").then_some(place)
    }

    /// Waits until the replicas follow, and each Sentinel knows of the others and of them.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn settle(&self) {
        patiently("the Sentinel group has come together", || {
            self.sentinels.iter().all(|sentinel| {
                let said = sentinel.client().command(&["INFO", "sentinel"]);
                let said = said.text();
                said.contains("status=ok,") && said.contains("slaves=2,sentinels=3")
            })
        });
    }
}

/// Three masters, and a replica of each.
#[derive(Debug)]
pub struct Cluster {
    /// The first three are the masters to begin with; the replica of each comes three places on.
    pub servers: Vec<Redis>,
}

/// Starts a server that could be in a Cluster, and is in none yet.
///
/// # Panics
/// As [`start_redis_with`].
#[must_use]
pub fn start_cluster_member(arguments: &[&str]) -> Redis {
    let mut redis = Redis::prepare(&[&["--cluster-enabled", "yes"], arguments].concat());
    redis.take_bus();
    redis.start();
    redis
}

/// Starts a Cluster that fails over about two seconds after a master has gone.
///
/// # Panics
/// When it does not come up.
#[must_use]
pub fn start_cluster() -> Cluster {
    let servers: Vec<Redis> = (0..6)
        .map(|_| {
            start_cluster_member(&[
                "--cluster-node-timeout",
                "1000",
                "--cluster-replica-validity-factor",
                "0",
                "--appendonly",
                "yes",
                "--appendfsync",
                "no",
            ])
        })
        .collect();
    let cluster = Cluster { servers };
    cluster.join();
    cluster
}

impl Cluster {
    const MASTERS: usize = 3;
    const SLOTS: usize = 16_384;

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        let servers: Vec<_> = self.servers.iter().map(Redis::address).collect();
        format!("redis+cluster://{}", servers.join(","))
    }

    fn join(&self) {
        for (place, server) in self.servers.iter().enumerate() {
            let mut client = server.client();
            let epoch = (place + 1).to_string();
            client.expect_ok(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            if place < Self::MASTERS {
                let first = place * Self::SLOTS / Self::MASTERS;
                let last = (place + 1) * Self::SLOTS / Self::MASTERS - 1;
                let slots: Vec<String> = (first..=last).map(|slot| slot.to_string()).collect();
                let slots = slots.iter().map(String::as_str);
                let words: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots).collect();
                client.expect_ok(&words);
            }
            if place > 0 {
                let port = self.servers[0].port().to_string();
                let bus = self.servers[0].bus.as_ref().map_or(0, Port::number);
                let bus = bus.to_string();
                client.expect_ok(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        let names: Vec<String> = self
            .servers
            .iter()
            .map(|server| {
                let name = server.client().command(&["CLUSTER", "MYID"]);
                name.text().to_owned()
            })
            .collect();
        for (place, server) in self.servers.iter().enumerate().skip(Self::MASTERS) {
            let master = &names[place - Self::MASTERS];
            patiently("the replica has heard of its master", || {
                let reply = server.client().command(&["CLUSTER", "REPLICATE", master]);
                !matches!(reply, Reply::Error(_))
            });
        }
        patiently("the Cluster has come together", || {
            self.servers.iter().all(|server| {
                let mut client = server.client();
                let info = client.command(&["CLUSTER", "INFO"]);
                let nodes = client.command(&["CLUSTER", "NODES"]);
                let replication = client.command(&["INFO", "replication"]);
                info.text().contains("cluster_state:ok")
                    && info.text().contains("cluster_known_nodes:6")
                    && nodes.text().matches("slave").count() == Self::MASTERS
                    && (replication.text().contains("connected_slaves:1")
                        || replication.text().contains("master_link_status:up"))
            })
        });
        for master in &self.servers[..Self::MASTERS] {
            master.await_replicas(1);
        }
    }
}

/// The first number of the version of the servers: that of Redis which a Valkey takes itself for.
///
/// # Panics
/// When the program does not say.
#[must_use]
pub fn version() -> u32 {
    static VERSION: OnceLock<u32> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let said = Command::new(binary()).arg("--version").output();
        let said = said.unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
        let said = String::from_utf8_lossy(&said.stdout);
        let version = said.split_once("v=").and_then(|(_, rest)| {
            let (major, _) = rest.split_once('.')?;
            major.parse().ok()
        });
        version.unwrap_or_else(|| panic!("{} says {said:?}", binary().display()))
    })
}

fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("ONLYONCE_REDIS_SERVER") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(
                path.is_absolute() && path.is_file(),
                "ONLYONCE_REDIS_SERVER is {}: it must be the whole path of a program",
                path.display()
            );
            path
        }
        None => find("redis-server", "redis-server"),
    })
}

fn temporary_folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("onlyonce-").tempdir();
    folder.expect("a temporary folder can be made")
}
