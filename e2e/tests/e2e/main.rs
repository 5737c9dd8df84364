//! Scenarios over real sockets, with real processes. See `onlyonce_e2e`.

mod bodies;
mod crash;
mod once;
mod problems;
mod profiles;
mod scopes;
mod settings;
mod shutdown;
mod store_failures;
mod streams;
mod upstream_failures;
