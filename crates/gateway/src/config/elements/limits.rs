//! `[limits]`: what clients may take of this machine.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::report::Report;
use crate::config::scalar::{self, As, OrOff};
use crate::config::size::{self, Bytes};
use crate::config::tree::Path;
use crate::front::FrontOptions;

/// What clients may take of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[limits]`")]
#[schemars(inline)]
pub struct LimitSettings {
    /// Open client connections at most. More wait in the operating system's queue.
    #[serde(with = "scalar")]
    #[schemars(with = "As<usize>")]
    pub max_connections: usize,
    /// Longest head of a request: its line and header fields. Beyond it 431.
    #[serde(with = "size::in_usize")]
    #[schemars(with = "As<Bytes>")]
    pub max_header_bytes: usize,
    /// Header fields in a request at most, up to 1000. Beyond it 431.
    #[serde(with = "scalar")]
    #[schemars(with = "As<usize>")]
    pub max_headers: usize,
    /// How long a client may take to send a request's head.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub header_timeout: Duration,
    /// How long a client may pause while it sends a body.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub body_idle_timeout: Duration,
    /// How long an idle client connection is kept. Keep it above the idle time of a load
    /// balancer in front, which would otherwise meet closing connections.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub keep_alive_timeout: Duration,
    /// How long a TLS handshake may take.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub tls_handshake_timeout: Duration,
    /// TLS handshakes at a time; more wait, within `tls_handshake_timeout`.
    #[serde(with = "scalar")]
    #[schemars(with = "As<usize>")]
    pub max_tls_handshakes: usize,
    /// How long a client may take nothing of what it is sent.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub write_timeout: Duration,
    /// Requests in flight at most on one HTTP/2 connection.
    #[serde(with = "scalar")]
    #[schemars(with = "As<u32>")]
    pub max_concurrent_streams: u32,
    /// Longest request body of any request, keyed or not. Beyond it 413. Keyed requests are
    /// also held to `max_request_body` of `[idempotency]`.
    #[serde(with = "or_off_bytes")]
    #[schemars(with = "As<OrOff<Bytes>>")]
    pub max_request_body: Option<u64>,
    /// How long running requests may go on after SIGTERM.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub drain_timeout: Duration,
}

/// Where the front caps the number of fields.
const MOST_FIELDS: usize = 1000;

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_header_bytes: 32 * 1024,
            max_headers: 100,
            header_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(75),
            tls_handshake_timeout: Duration::from_secs(10),
            max_tls_handshakes: 256,
            write_timeout: Duration::from_secs(60),
            max_concurrent_streams: 128,
            max_request_body: None,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl LimitSettings {
    pub(in crate::config) fn check(&self, report: &mut Report<'_>) {
        let section = Path::of(&["limits"]);
        let streams = self.max_concurrent_streams as usize;
        for (key, value, least) in [
            ("max_connections", self.max_connections, 1),
            // The HTTP/1 parser does not work with less.
            ("max_header_bytes", self.max_header_bytes, 8192),
            ("max_headers", self.max_headers, 8),
            ("max_tls_handshakes", self.max_tls_handshakes, 1),
            ("max_concurrent_streams", streams, 1),
        ] {
            report.at_least(&section.key(key), value, least);
        }
        if self.max_headers > MOST_FIELDS {
            let found = format!("expected at most {MOST_FIELDS}, found {}", self.max_headers);
            let help = "no client needs more, and each costs memory before anything is known of it";
            report.invalid(&section.key("max_headers"), found, help);
        }
        for (key, value) in [
            ("header_timeout", self.header_timeout),
            ("body_idle_timeout", self.body_idle_timeout),
            ("keep_alive_timeout", self.keep_alive_timeout),
            ("tls_handshake_timeout", self.tls_handshake_timeout),
            ("write_timeout", self.write_timeout),
        ] {
            report.not_zero(&section.key(key), value);
        }
    }
}

impl LimitSettings {
    /// As the front wants them.
    #[must_use]
    pub fn front_options(&self) -> FrontOptions {
        FrontOptions {
            max_connections: self.max_connections,
            max_handshakes: self.max_tls_handshakes,
            handshake_timeout: self.tls_handshake_timeout,
            head_timeout: self.header_timeout,
            idle_timeout: self.keep_alive_timeout,
            body_timeout: self.body_idle_timeout,
            write_timeout: self.write_timeout,
            max_head: self.max_header_bytes,
            max_fields: self.max_headers,
            max_body: self.max_request_body,
            max_streams: self.max_concurrent_streams,
            drain_timeout: self.drain_timeout,
            proxy_protocol: None,
        }
    }
}

pub(super) mod or_off_bytes {
    use serde::{Deserializer, Serializer};

    use crate::config::scalar::or_off;
    use crate::config::size::Bytes;

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u64>, D::Error> {
        Ok(or_off::deserialize::<Bytes, _>(deserializer)?.map(|bytes| bytes.0))
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        bytes: &Option<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        or_off::serialize(&bytes.map(Bytes), serializer)
    }
}
