//! `[client_address]`: who the client is, behind proxies.

use std::borrow::Cow;
use std::time::Duration;

use onlyonce_pipeline::client_addr::{
    AddrHeader, AddrRule, ClientAddrLayer, TrustedProxies, TrustedProxyError,
};
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

use crate::config::error::Problem;
use crate::config::report::Report;
use crate::config::scalar::{self, As, Choice, Remedy, Scalar, Written};
use crate::config::tree::Path;
use crate::front::{Peer, ProxyProtocol};

/// Who the client is, for the blocklist and the access log: whoever connects, or, where that is a
/// proxy of your own, whom it speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "the table `[client_address]`"
)]
#[schemars(inline)]
pub struct ClientAddressSettings {
    /// The addresses and networks that your own proxies connect from. Nobody else's headers are
    /// believed; who can connect from there can pose as anybody.
    pub(in crate::config) trusted_proxies: Vec<As<Network>>,
    /// In which header they say whom they speak for. It is the only one that is believed, so name
    /// the one that your proxies write themselves.
    #[serde(with = "scalar")]
    #[schemars(with = "As<AddrHeader>")]
    pub header: AddrHeader,
    /// Whether every connection to `listen` begins with a PROXY protocol header (version 1 or 2).
    /// Only `trusted_proxies` can connect then.
    pub proxy_protocol: bool,
    /// How long that header may take to come.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub proxy_protocol_timeout: Duration,
}

impl Default for ClientAddressSettings {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            header: AddrHeader::default(),
            proxy_protocol: false,
            proxy_protocol_timeout: Duration::from_secs(5),
        }
    }
}

impl ClientAddressSettings {
    pub(in crate::config) fn check(&self, report: &mut Report<'_>) {
        let section = Path::of(&["client_address"]);
        let list = section.key("trusted_proxies");
        report.not_zero(
            &section.key("proxy_protocol_timeout"),
            self.proxy_protocol_timeout,
        );
        if self.trusted_proxies.is_empty() && !report.was_faulty(&list) {
            let header = section.key("header");
            if self.proxy_protocol {
                report.invalid(
                    &section.key("proxy_protocol"),
                    "without `trusted_proxies` nobody could connect",
                    "list the addresses that your load balancers connect from",
                );
            } else if report.is_set(&header) {
                report.warn(
                    &header,
                    Problem::new("the header is believed from nobody")
                        .label("there are no `trusted_proxies`")
                        .help("list the addresses that your proxies connect from"),
                );
            }
        }
        for (index, As(network)) in self.trusted_proxies.iter().enumerate() {
            if network.proxies().trusts_everybody() {
                report.warn(
                    &list.index(index),
                    Problem::new("everybody is a trusted proxy")
                        .label("so anybody can pose as any client")
                        .help("list only the addresses that your proxies connect from"),
                );
            }
        }
    }

    /// The proxies whose word is taken.
    #[must_use]
    pub fn trusted(&self) -> TrustedProxies {
        let networks = self.trusted_proxies.iter().map(|As(network)| &*network.0);
        // Each has been parsed before.
        TrustedProxies::parse(networks).unwrap_or_default()
    }

    /// The layer that finds the client behind a connection to the front.
    #[must_use]
    pub fn layer(&self) -> ClientAddrLayer {
        ClientAddrLayer::new(AddrRule::new(self.trusted(), self.header))
            .with_peer(|extensions| extensions.get().map(|peer: &Peer| peer.addr.ip()))
    }

    /// What the public listener has to know of the PROXY protocol.
    #[must_use]
    pub fn proxy_protocol(&self) -> Option<ProxyProtocol> {
        self.proxy_protocol.then(|| ProxyProtocol {
            trusted: self.trusted(),
            timeout: self.proxy_protocol_timeout,
        })
    }
}

/// An address or a network, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Network(Box<str>);

impl Network {
    fn proxies(&self) -> TrustedProxies {
        TrustedProxies::parse([&*self.0]).unwrap_or_default()
    }
}

impl Scalar for Network {
    fn expected() -> Cow<'static, str> {
        "an address or a network such as \"10.0.0.7\" or \"10.0.0.0/8\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        match TrustedProxies::parse([text]) {
            Ok(_) => Ok(Self(text.into())),
            Err(TrustedProxyError::HostBits { network, .. }) => {
                Err(format!("it has bits beyond its prefix: write \"{network}\"").into())
            }
            Err(_) => Err(Remedy::none()),
        }
    }

    fn written(&self) -> Written {
        Written::Text(self.0.to_string())
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "network",
            "type": "string",
            "pattern": "^[0-9a-fA-F.:]+(/[0-9]{1,3})?$",
            "examples": ["10.0.0.0/8", "2001:db8::7"],
        })
    }
}

impl Choice for AddrHeader {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("x-forwarded-for", Self::XForwardedFor),
        ("forwarded", Self::Forwarded),
        ("x-real-ip", Self::XRealIp),
    ];
}
