//! `[admin]`: the second listener, for operators.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

use crate::config::error::Problem;
use crate::config::report::Report;
use crate::config::scalar::{As, OrOff, Remedy, Scalar, Written, or_off};
use crate::config::tree::Path;

/// The second listener: health, metrics and the keys API. Never reachable through `listen`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[admin]`")]
#[schemars(inline)]
pub struct AdminSettings {
    /// Where operators' tools connect. It asks for no password: keep it from the public.
    #[serde(with = "or_off")]
    #[schemars(with = "As<OrOff<SocketAddr>>")]
    pub listen: Option<SocketAddr>,
    /// By which names it is called, besides its IP address and `localhost`: for services behind
    /// that log their users in. Other names get 403, as a web page could bend one of its own to
    /// this address.
    pub(in crate::config) hosts: Vec<As<HostName>>,
}

/// The name of a host, without a port, in small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct HostName(Box<str>);

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090)),
            hosts: Vec::new(),
        }
    }
}

impl AdminSettings {
    /// The names by which it is called, in small letters.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|As(HostName(name))| &**name)
    }

    pub(in crate::config) fn check(&self, report: &mut Report<'_>) {
        let path = Path::of(&["admin", "listen"]);
        if self.listen.is_some_and(|listen| !listen.ip().is_loopback()) {
            report.warn(
                &path,
                Problem::new("the admin listener can be reached from other machines")
                    .label("it asks for no password, and shows and settles records")
                    .help("listen on 127.0.0.1, or keep the port closed to all but operators"),
            );
        }
    }
}

impl Scalar for HostName {
    fn expected() -> Cow<'static, str> {
        "the name of a host such as \"gateway.internal\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        if text.contains("://") || text.contains([':', '/']) {
            return Err("write the name alone, without a scheme or a port".into());
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_name) {
            return Err(Remedy::none());
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    fn written(&self) -> Written {
        Written::Text(self.0.to_string())
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "host name",
            "type": "string",
            "pattern": "^[A-Za-z0-9._-]+$",
            "examples": ["gateway.internal"],
        })
    }
}
