//! The layers around idempotency, through the gateway.

mod access_log;
mod addresses;
mod auth;
mod context;
mod cors;
mod envelope;
mod filter;
mod read_only;
mod tokens;
