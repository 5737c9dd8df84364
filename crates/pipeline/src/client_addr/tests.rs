//! The layer, around a service that says what it was told.

use std::convert::Infallible;
use std::net::IpAddr;

use http::Request;
use onlyonce::TraceId;
use onlyonce_core::Timestamp;
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::context::Context;

/// What the extension and the context say.
type Told = (Option<IpAddr>, Option<IpAddr>);

async fn told(layer: &ClientAddrLayer, request: Request<()>) -> Told {
    let service = service_fn(async |request: Request<()>| {
        let extension = request.extensions().get::<ClientAddr>();
        let context = Context::of(request.extensions());
        Ok::<Told, Infallible>((
            extension.map(|ClientAddr(addr)| *addr),
            context.and_then(Context::client_addr),
        ))
    });
    layer.layer(service).oneshot(request).await.unwrap()
}

fn behind_10() -> ClientAddrLayer {
    let trusted = TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
    ClientAddrLayer::new(AddrRule::new(trusted, AddrHeader::XForwardedFor))
}

fn from(peer: &str) -> Request<()> {
    Request::builder()
        .extension(PeerAddr(peer.parse().unwrap()))
        .header("x-forwarded-for", "198.51.100.66, 192.0.2.1")
        .body(())
        .unwrap()
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[tokio::test]
async fn the_extension_says_who_it_is() {
    assert_eq!(
        told(&behind_10(), from("10.0.0.1:1")).await.0,
        ip("192.0.2.1")
    );
    assert_eq!(
        told(&behind_10(), from("203.0.113.5:1")).await.0,
        ip("203.0.113.5")
    );
}

#[tokio::test]
async fn by_default_no_header_is_believed() {
    let layer = ClientAddrLayer::new(AddrRule::default());
    assert_eq!(told(&layer, from("127.0.0.1:1")).await.0, ip("127.0.0.1"));
}

#[tokio::test]
async fn the_context_is_told_too() {
    let mut request = from("10.0.0.1:1");
    let context = Context::new(TraceId::new("t"), "/", Timestamp::from_millis(0));
    request.extensions_mut().insert(context);
    assert_eq!(
        told(&behind_10(), request).await,
        (ip("192.0.2.1"), ip("192.0.2.1"))
    );
}

#[tokio::test]
async fn nobody_known_nothing_believed() {
    let mut request = from("10.0.0.1:1");
    request.extensions_mut().remove::<PeerAddr>();
    request
        .extensions_mut()
        .insert(ClientAddr("192.0.2.9".parse().unwrap()));
    assert_eq!(told(&behind_10(), request).await.0, None);
}

#[tokio::test]
async fn the_peer_can_be_found_elsewhere() {
    #[derive(Clone)]
    struct Elsewhere(IpAddr);
    let layer = behind_10().with_peer(|extensions| extensions.get().map(|Elsewhere(peer)| *peer));
    let mut request = from("203.0.113.5:1");
    request
        .extensions_mut()
        .insert(Elsewhere("10.0.0.1".parse().unwrap()));
    assert_eq!(told(&layer, request).await.0, ip("192.0.2.1"));
}
