//! The pipeline's shared state on PostgreSQL. One folder and one feature for each layer that keeps
//! something.

#[cfg(feature = "blocklist")]
mod blocklist;
#[cfg(feature = "tokens")]
mod tokens;

#[cfg(feature = "blocklist")]
pub use blocklist::PostgresBlocklist;
#[cfg(feature = "tokens")]
pub use tokens::PostgresTokenStore;
