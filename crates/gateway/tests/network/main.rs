//! The front, the proxy and the upstreams over real loopback sockets, with raw bytes on both ends.
#![expect(clippy::unwrap_used, reason = "tests")]

mod failures;
mod forwarding;
mod framing;
mod harness;
mod limits;
mod proxy_protocol;
mod streaming;
mod tls;
mod upgrades;
