//! Real servers, and what can happen to them.

mod connecting;
mod contents;
mod failover;
mod replicas;
mod silence;
mod support;
mod traffic;
