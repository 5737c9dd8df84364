//! Where a request comes from.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::Extensions;

use crate::context::Context;

/// Finds the client's address.
pub(super) type AddrFn = Arc<dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync>;

pub(super) fn default_addr() -> AddrFn {
    Arc::new(|extensions| {
        let known = Context::of(extensions).and_then(Context::client_addr);
        known
            .or_else(|| of_client_addr_layer(extensions))
            .or_else(|| extensions.get().map(SocketAddr::ip))
    })
}

#[cfg(feature = "client-addr")]
fn of_client_addr_layer(extensions: &Extensions) -> Option<IpAddr> {
    let address = extensions.get::<crate::client_addr::ClientAddr>();
    address.map(|address| address.0)
}

#[cfg(not(feature = "client-addr"))]
fn of_client_addr_layer(_: &Extensions) -> Option<IpAddr> {
    None
}
