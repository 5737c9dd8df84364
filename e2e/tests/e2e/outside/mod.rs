//! Clients and servers that nobody here wrote.
//!
//! Which programs, and where they are, says `onlyonce_e2e::outside`. A runner leaves these tests
//! out by the name of this module.

mod blocklist;
mod curl;
mod http_server;
mod nginx;
mod python;
mod secret;
mod sessions;
mod shared;
mod wrappers;
