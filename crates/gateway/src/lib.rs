//! Being built.

pub mod front;
pub mod tls;
pub mod proxy;
pub mod upstream;
