//! All settings as they are written.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::elements::access_log::AccessLogSettings;
use super::elements::admin::AdminSettings;
use super::elements::auth::RawAuth;
use super::elements::blocklist::{AllowListSettings, BlocklistSettings};
use super::elements::client_address::ClientAddressSettings;
use super::elements::context::ContextSettings;
use super::elements::cors::CorsSettings;
use super::elements::envelope::EnvelopeSettings;
use super::elements::filter::RawFilter;
use super::elements::idempotency::RawIdempotency;
use super::elements::limits::LimitSettings;
use super::elements::log::LogSettings;
use super::elements::proxy::ProxySettings;
use super::elements::read_only::ReadOnlySettings;
use super::elements::route::RawRoute;
use super::elements::store::RawStore;
use super::elements::tls::RawTls;
use super::elements::upstream::Upstreams;
use super::scalar::As;

/// Settings of the gateway `onlyonce`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
#[schemars(title = "onlyonce.toml")]
pub(super) struct Raw {
    /// Where clients connect. Port 0 takes any free one.
    pub(super) listen: Option<As<SocketAddr>>,
    /// The services behind the gateway, in turn. Required.
    pub(super) upstream: Option<Upstreams>,
    /// The second listener, for operators: health, metrics and the keys API. Never reachable
    /// through `listen`.
    pub(super) admin: AdminSettings,
    /// Where records live.
    pub(super) store: RawStore,
    /// How keyed requests are treated.
    pub(super) idempotency: RawIdempotency,
    /// Trace IDs.
    pub(super) context: ContextSettings,
    /// Who the client is, behind proxies.
    pub(super) client_address: ClientAddressSettings,
    /// Which pages of other origins may use the service.
    pub(super) cors: CorsSettings,
    /// Who is refused.
    pub(super) blocklist: BlocklistSettings,
    /// Paths that few addresses reach.
    pub(super) allow_list: AllowListSettings,
    /// A system that can be looked at, and not changed.
    pub(super) read_only: ReadOnlySettings,
    /// Who calls, and what they may do.
    pub(super) auth: RawAuth,
    /// Bodies that fit a JSON Schema.
    pub(super) filter: RawFilter,
    /// One form for every answer.
    pub(super) envelope: EnvelopeSettings,
    /// A line and a row for each request.
    pub(super) access_log: AccessLogSettings,
    /// The way to the upstream and back. The gateway never sends a request twice by itself.
    pub(super) proxy: ProxySettings,
    /// HTTPS on `listen`. Left out, the gateway speaks plain HTTP there.
    pub(super) tls: RawTls,
    /// What clients may take of this machine.
    pub(super) limits: LimitSettings,
    /// What the gateway writes to standard error.
    pub(super) log: LogSettings,
    /// What is different for some requests. The first route that matches a request decides, in
    /// the order of the file. There can be 1000 of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) route: Vec<RawRoute>,
}

/// Where clients connect unless it's set.
pub(super) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
