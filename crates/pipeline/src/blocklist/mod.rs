//! Who is refused, and who alone is let in.
//!
//! A [`Blocklist`] holds entries, each with some [addresses](AddressSet): one address, networks,
//! ranges, or all. Entries can be switched off, expire, and count how many requests they refused.
//! People edit them while the service runs; all nodes that share a [store](BlocklistStore) follow.
//! [`BlocklistLayer`] refuses whom they name.
//!
//! ```
//! use http::{Request, Response};
//! use onlyonce_pipeline::Answers;
//! use onlyonce_pipeline::blocklist::{Blocklist, BlocklistLayer, Draft, MemoryBlocklist};
//! use std::net::SocketAddr;
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt as _, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let blocklist = Blocklist::load(MemoryBlocklist::new()).await?;
//! let service = ServiceBuilder::new()
//!     .layer(BlocklistLayer::new(blocklist.clone(), Answers::new()))
//!     .service(service_fn(async |_: Request<()>| {
//!         Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Empty::<&[u8]>::new()))
//!     }));
//!
//! let peer: SocketAddr = "203.0.113.9:49152".parse()?;
//! let request = || Request::builder().extension(peer).body(());
//! assert_eq!(service.clone().oneshot(request()?).await?.status(), 200);
//!
//! let draft = Draft::new("203.0.113.0/24, 198.51.100.5-90")
//!     .with_remark("probes for open proxies")
//!     .with_lifetime(Duration::from_secs(3600));
//! blocklist.add(&draft).await?;
//! assert_eq!(service.oneshot(request()?).await?.status(), 403);
//! # Ok(()) }
//! ```
//!
//! # Stores
//! | store | where | others hear of a change |
//! |---|---|---|
//! | [`MemoryBlocklist`] | this process | at once |
//! | [`FileBlocklist`] | a file, for one machine | within half a second |
//! | `RedisBlocklist`, of `onlyonce-pipeline-redis` | Redis, Valkey | by pub/sub |
//! | `PostgresBlocklist`, of `onlyonce-pipeline-postgres` | PostgreSQL | by `LISTEN` |
//!
//! Whatever a store's word is worth, it is also looked at by itself, seldom. An entry that somebody
//! else wrote and nobody understands is logged and left out; the rest is in force. A store that
//! can't be read at all leaves the last good state in force.
//!
//! # Speed
//! Lookups are made in a trie of eight bits at a step, without a lock: more entries don't mean more
//! steps. A change makes new nodes along one path.
//!
//! # The other way round
//! An [`AllowListLayer`] protects some paths: only the addresses of an [`AllowList`] reach them.
//!
//! # Order
//! Both layers need the client's address: inside of `client_addr` and
//! [`context`](crate::context), outside of all that costs something.

mod addr;
mod allow_list;
mod entry;
mod error;
mod file;
mod layer;
mod list;
mod memory;
mod options;
mod prefix;
mod refresh;
mod rules;
mod service;
mod store;
mod syntax;
mod trie;

#[cfg(test)]
mod tests;

pub use crate::refused::ResponseFuture;
pub use allow_list::{
    AllowList, AllowListError, AllowListLayer, AllowListService, ProtectedPathError,
};
pub use entry::{Draft, DraftError, Entry, EntryId, Expiry, Status};
pub use error::BlocklistError;
pub use file::FileBlocklist;
pub use layer::BlocklistLayer;
pub use list::{Blocklist, BlocklistStats};
pub use memory::MemoryBlocklist;
pub use options::BlocklistOptions;
pub use service::{Blocked, BlocklistService};
pub use store::{BlocklistStore, Listing, Revision, SharedBlocklistStore, Unreadable};
pub use syntax::{AddressSet, SyntaxError};
