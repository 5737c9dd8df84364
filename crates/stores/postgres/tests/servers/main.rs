//! What only real servers show: refusals at the start, lost answers, crashes, several nodes.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod batches;
mod connecting;
mod crashes;
mod disk;
mod secret;
mod sharing;
mod silence;
mod stragglers;
mod support;
mod tls;
