//! What may cost records.

use std::fmt;

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
    /// It was connected to after the start, as the new master in a failover is, and can't do its
    /// work.
    Unfit {
        /// Which server.
        server: Box<str>,
        /// Why not, and the remedy.
        why: Box<str>,
    },
}

impl Warning {
    /// The server that it is about, as `HOST:PORT`.
    #[must_use]
    pub fn server(&self) -> &str {
        match self {
            Self::Evicting { server, .. }
            | Self::NotPersistent { server }
            | Self::SnapshotsOnly { server }
            | Self::FlushedLate { server, .. }
            | Self::ReplicasNotAwaited { server, .. }
            | Self::TooFewReplicas { server, .. }
            | Self::Full { server }
            | Self::Unfit { server, .. } => server,
        }
    }
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
            Self::Unfit { server, why } => {
                write!(f, "Redis at {server} can't do what is asked of it: {why}")
            }
        }
    }
}
