//! The sections of the settings, one file each.

pub(super) mod access_log;
pub(super) mod address;
pub(super) mod admin;
pub(super) mod auth;
pub(super) mod blocklist;
pub(super) mod client_address;
pub(super) mod context;
pub(super) mod cors;
pub(super) mod envelope;
pub(super) mod filter;
pub(super) mod idempotency;
pub(super) mod limits;
pub(super) mod log;
pub(super) mod proxy;
pub(super) mod read_only;
pub(super) mod route;
pub(super) mod secret;
pub(super) mod store;
pub(super) mod tls;
pub(super) mod toggle;
pub(super) mod upstream;
mod values;
pub(super) mod wrappers;
