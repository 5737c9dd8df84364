//! The client's address: the one that others mean when they say "the IP".
//!
//! Behind a proxy, everybody connects from the proxy's address. What the proxy says of its
//! client stands in a header, and a header can be sent by anybody. So the address is
//! 1. the peer's, who made the connection,
//! 2. but if the peer is one of [`TrustedProxies`], the nearest hop in the one believed header
//!    ([`AddrHeader`]) that is not one of them itself.
//!
//! Nothing further out counts: the first address that is not a proxy of ours is the last one
//! that somebody whom we trust has seen.
//!
//! [`ClientAddrLayer`] puts it into the request's [`ClientAddr`] extension and into its
//! [`Context`](crate::context::Context), if there is one. It believes no header without being told to:
//!
//! ```
//! use http::Request;
//! use onlyonce_pipeline::client_addr::{
//!     AddrHeader, AddrRule, ClientAddr, ClientAddrLayer, PeerAddr, TrustedProxies,
//! };
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rule = AddrRule::new(TrustedProxies::parse(["10.0.0.0/8"])?, AddrHeader::Forwarded);
//! let service = ClientAddrLayer::new(rule).layer(service_fn(async |request: Request<()>| {
//!     Ok::<_, std::convert::Infallible>(request.extensions().get::<ClientAddr>().copied())
//! }));
//!
//! let request = Request::builder()
//!     .extension(PeerAddr("10.0.0.7:49152".parse()?))
//!     .header("forwarded", r#"for="[2001:db8::17]:4711";proto=https"#)
//!     .body(())?;
//! assert_eq!(service.oneshot(request).await?, Some(ClientAddr("2001:db8::17".parse()?)));
//! # Ok(())
//! # }
//! ```
//!
//! # What it needs of the layers outside
//! The peer's address: a [`PeerAddr`] extension from the listener, or whatever
//! [`ClientAddrLayer::with_peer`] is told. The context layer, if others are to read the address
//! from the [`Context`](crate::context::Context).
//!
//! # Below HTTP
//! A load balancer that forwards connections, not requests, says whom it speaks for before the
//! first byte: [`proxy_protocol`].

mod hops;
mod layer;
pub mod proxy_protocol;
mod rule;
mod service;
#[cfg(test)]
mod tests;
mod trusted;

pub use layer::{ClientAddrLayer, PeerAddr};
pub use rule::{AddrHeader, AddrRule};
pub use service::{ClientAddr, ClientAddrService};
pub use trusted::{TrustedProxies, TrustedProxyError};
