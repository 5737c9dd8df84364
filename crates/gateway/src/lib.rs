//! The `onlyonce` gateway: makes any HTTP API safe to retry.
//!
//! A binary first ([`run`]); its parts are public for the tests, the fuzzers and the curious.
//!
//! A request passes, from the outside in: the [`front`] (connections, strict framing, limits),
//! the routing (which route, and so which policy and which layers), the stack of that route (the
//! layers of the `onlyonce-pipeline` crate that are on there, with the idempotency layer of the
//! `onlyonce` crate in their midst), and the [`proxy`] with its [`upstream`]s. Its settings are
//! [`config`], its commands [`cli`].

pub mod cli;
pub mod config;
pub mod front;
pub mod proxy;
pub mod tls;
pub mod upstream;

mod access_log;
mod admin;
mod block;
mod blocklist;
mod call;
mod commands;
mod console;
mod demo;
mod folder;
mod keys;
mod log;
mod logins;
mod migrate;
mod pipeline;
mod records;
mod reload;
mod rescue;
mod routing;
mod serve;
mod stack;

pub use commands::run;
