//! The blocklist.

mod scripts;
mod store;
mod value;

pub use store::RedisBlocklist;
