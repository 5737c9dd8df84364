//! An Onlyonce store on Redis 6.2 or newer, and on Valkey.

mod builder;
mod call;
mod dial;
mod error;
mod examine;
mod inspect;
mod node;
mod place;
mod route;
mod scripts;
mod store;
mod subscriber;
mod url;
mod value;

#[cfg(test)]
mod tests;

pub use builder::Builder;
pub use examine::Warning;
pub use store::RedisStore;
