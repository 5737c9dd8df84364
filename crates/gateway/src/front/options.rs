//! Settings of the front.

use std::time::Duration;

use onlyonce_pipeline::client_addr::TrustedProxies;
use tokio::sync::Semaphore;

use super::guard::{FrameLimits, GuardTimes};

/// Limits and time-outs of the listener. Every one is finite.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FrontOptions {
    /// Connections at a time; at the limit no more are accepted and new ones wait in the
    /// kernel's backlog. Default 10 000.
    pub max_connections: usize,
    /// TLS handshakes at a time; more wait, within `handshake_timeout`. Default 256.
    pub max_handshakes: usize,
    /// From the TCP connection to the end of the TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// From a request head's first byte to its last; on a new connection, from its start.
    /// Default 10 s.
    pub head_timeout: Duration,
    /// How long a connection may stay open without a request. Default 75 s.
    pub idle_timeout: Duration,
    /// Between two reads of a request's body, while somebody wants to read it. Default 30 s.
    pub body_timeout: Duration,
    /// How long a client may take no byte of what it is sent, or (HTTP/2) of one stream; then
    /// the connection is cut. Default 60 s.
    pub write_timeout: Duration,
    /// Longest request head in bytes (HTTP/2: decoded field list). Default 32 KiB.
    pub max_head: usize,
    /// Most header fields in a request, at most 1000. Default 100.
    pub max_fields: usize,
    /// Longest request body in bytes. Default none: the layers behind set their own.
    pub max_body: Option<u64>,
    /// HTTP/2: streams at a time on a connection. Default 128.
    pub max_streams: u32,
    /// How long running requests may go on after shutdown has begun. Default 30 s.
    pub drain_timeout: Duration,
    /// Every connection begins with a PROXY protocol header. Default none does.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// What a listener has to know of the PROXY protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Who may connect, and is believed.
    pub trusted: TrustedProxies,
    /// How long the header may take to come.
    pub timeout: Duration,
}

/// What [`FrontOptions::max_fields`] is capped to.
pub(crate) const MOST_FIELDS: usize = 1000;

/// Time-outs are capped to this, so that no sum of times overflows. About ten years.
pub(crate) const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

impl Default for FrontOptions {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_handshakes: 256,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            max_head: 32 * 1024,
            max_fields: 100,
            max_body: None,
            max_streams: 128,
            drain_timeout: Duration::from_secs(30),
            proxy_protocol: None,
        }
    }
}

impl FrontOptions {
    /// The same, with what would overflow or block everything brought to the nearest bound.
    pub(crate) fn within_bounds(mut self) -> Self {
        for time in [
            &mut self.handshake_timeout,
            &mut self.head_timeout,
            &mut self.idle_timeout,
            &mut self.body_timeout,
            &mut self.write_timeout,
            &mut self.drain_timeout,
        ] {
            *time = (*time).min(LONGEST);
        }
        for count in [&mut self.max_connections, &mut self.max_handshakes] {
            *count = (*count).clamp(1, Semaphore::MAX_PERMITS);
        }
        self.max_head = self.max_head.max(256);
        self
    }

    pub(crate) fn frame_limits(&self) -> FrameLimits {
        FrameLimits {
            max_head: self.max_head,
            max_fields: self.max_fields.min(MOST_FIELDS),
        }
    }

    pub(crate) fn guard_times(&self) -> GuardTimes {
        GuardTimes {
            head: self.head_timeout,
            idle: self.idle_timeout,
            linger: self.head_timeout.min(Duration::from_secs(2)),
        }
    }
}
