//! `[admin]`: the second listener, for operators.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::error::Problem;
use crate::config::report::Report;
use crate::config::scalar::{As, OrOff, or_off};
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
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090)),
        }
    }
}

impl AdminSettings {
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
