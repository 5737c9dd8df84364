//! The blocklist.

mod row;
mod store;

pub use store::PostgresBlocklist;
