//! Scenarios over real sockets, with real processes. See `onlyonce_e2e`.
#![expect(clippy::unwrap_used, reason = "tests")]

mod admin;
mod bodies;
mod crash;
mod demo;
mod hostile;
mod inputs;
mod once;
mod outside;
mod pipeline;
mod problems;
mod profiles;
mod protocols;
mod reload;
mod scopes;
mod settings;
mod shutdown;
mod store_failures;
mod streams;
mod upstream_failures;
