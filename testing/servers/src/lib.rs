//! Real servers for the tests, each on a free port of the loopback interface and in a temporary
//! folder of its own, ended when its handle is dropped.
//!
//! Whatever is missing panics with the remedy: a test without its server must not look like one
//! that passed.

mod disk;
pub mod postgres;
mod process;
pub mod proxy;
pub mod redis;

pub use process::{Port, patiently};
