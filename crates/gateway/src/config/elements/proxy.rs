//! `[proxy]`: the way to the upstream and back.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

use crate::config::error::Problem;
use crate::config::report::Report;
use crate::config::scalar::{self, As, Choice, OrOff, Remedy, Scalar, Written, or_off};
use crate::config::size::{self, Bytes};
use crate::config::tree::Path;
use crate::proxy::ProxyOptions;
use crate::tls::TrustOptions;
use crate::upstream::{HostRule, UpstreamOptions};

use super::tls::readable;

/// The way to the upstream and back. A request is never sent twice by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[proxy]`")]
#[schemars(inline)]
pub struct ProxySettings {
    /// How long connecting may take, TLS included. Beyond it 502: nothing was sent.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub connect_timeout: Duration,
    /// How long the upstream may take from the end of the request to the head of its response.
    /// Beyond it 504: the outcome is unknown.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub response_timeout: Duration,
    /// How long the upstream may pause within a body.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub idle_timeout: Duration,
    /// How long a request may take altogether.
    #[serde(with = "or_off")]
    #[schemars(with = "As<OrOff<Duration>>")]
    pub total_timeout: Option<Duration>,
    /// How long an upgraded connection (a WebSocket, say) may carry nothing in either direction.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub tunnel_idle_timeout: Duration,
    /// Longest head of a response. Beyond it 502.
    #[serde(with = "size::in_usize")]
    #[schemars(with = "As<Bytes>")]
    pub max_header_bytes: usize,
    /// Idle connections that are kept for each upstream at most; 0 keeps none.
    #[serde(with = "scalar")]
    #[schemars(with = "As<usize>")]
    pub pool_max_idle: usize,
    /// How long an idle upstream connection is kept. Keep it below the upstream's own keep-alive
    /// time (5 s in Node.js and uvicorn): a request that meets a closing connection has an
    /// unknown outcome.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub pool_idle_timeout: Duration,
    /// Speak HTTP/2 to `http://` upstreams without asking first (prior knowledge).
    pub h2c: bool,
    /// The Host that the upstream sees: `preserve` passes the client's on, `upstream` puts the
    /// upstream's own.
    #[serde(with = "scalar")]
    #[schemars(with = "As<HostRule>")]
    pub host: HostRule,
    /// Whether the client's `Forwarded` and `X-Forwarded-*` are believed and added to, instead
    /// of replaced. Only where every client is a proxy of your own: who can send them can pose
    /// as anybody.
    pub trust_forwarded: bool,
    /// The gateway's name in `Via`.
    #[serde(with = "or_off")]
    #[schemars(with = "As<OrOff<ViaName>>")]
    pub via: Option<ViaName>,
    /// Failed connects in a row after which an upstream is left out; 0 never leaves it out.
    #[serde(with = "scalar")]
    #[schemars(with = "As<u32>")]
    pub max_failures: u32,
    /// How long an upstream is left out.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    pub cooldown: Duration,
    /// Certificate authorities that `https://` upstreams are checked against, in PEM, in place of
    /// the system's.
    #[serde(skip_serializing_if = "Option::is_none", with = "optional_path")]
    #[schemars(with = "Option<As<PathBuf>>")]
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate of an `https://` upstream. For tests alone: anybody on the way can
    /// read and change what passes.
    pub insecure_skip_verify: bool,
}

impl Choice for HostRule {
    const NAMES: &'static [(&'static str, Self)] =
        &[("preserve", Self::Preserve), ("upstream", Self::Upstream)];
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            total_timeout: None,
            tunnel_idle_timeout: Duration::from_secs(3600),
            max_header_bytes: 64 * 1024,
            pool_max_idle: 128,
            pool_idle_timeout: Duration::from_secs(4),
            h2c: false,
            host: HostRule::Preserve,
            trust_forwarded: false,
            via: Some(ViaName(HeaderValue::from_static("onlyonce"))),
            max_failures: 3,
            cooldown: Duration::from_secs(5),
            ca_file: None,
            insecure_skip_verify: false,
        }
    }
}

impl ProxySettings {
    pub(in crate::config) fn check(&self, report: &mut Report<'_>) {
        let section = Path::of(&["proxy"]);
        for (key, value) in [
            ("connect_timeout", Some(self.connect_timeout)),
            ("response_timeout", Some(self.response_timeout)),
            ("idle_timeout", Some(self.idle_timeout)),
            ("total_timeout", self.total_timeout),
            ("tunnel_idle_timeout", Some(self.tunnel_idle_timeout)),
            ("cooldown", Some(self.cooldown)),
        ] {
            report.not_zero(&section.key(key), value.unwrap_or(Duration::MAX));
        }
        report.at_least(
            &section.key("max_header_bytes"),
            self.max_header_bytes,
            8192,
        );
        if let Some(file) = &self.ca_file {
            readable(file, &section.key("ca_file"), report);
        }
        if self.insecure_skip_verify {
            report.warn(
                &section.key("insecure_skip_verify"),
                Problem::new("certificates of upstreams are not checked")
                    .label("anybody on the way can read and change what passes")
                    .help("name the upstream's certificate authority in `ca_file` instead"),
            );
        }
    }

    /// As the way to the upstreams wants them.
    #[must_use]
    pub fn upstream_options(&self) -> UpstreamOptions {
        UpstreamOptions {
            connect_timeout: self.connect_timeout,
            head_timeout: self.response_timeout,
            idle_timeout: self.idle_timeout,
            total_timeout: self.total_timeout,
            pool_idle: self.pool_idle_timeout,
            max_idle: self.pool_max_idle,
            unhealthy_after: match self.max_failures {
                0 => u32::MAX,
                most => most,
            },
            cool_down: self.cooldown,
            h2c: self.h2c,
            max_head: self.max_header_bytes,
            trust: TrustOptions {
                system: self.ca_file.is_none(),
                authorities: self.ca_file.iter().cloned().collect(),
                insecure_skip_verify: self.insecure_skip_verify,
            },
        }
    }

    /// As the proxy wants them.
    #[must_use]
    pub fn proxy_options(&self) -> ProxyOptions {
        ProxyOptions {
            host: self.host,
            trust_forwarded: self.trust_forwarded,
            via: self.via.as_ref().map(|ViaName(name)| name.clone()),
            tunnel_idle: self.tunnel_idle_timeout,
        }
    }
}

/// A name for the `Via` header: what RFC 9110 calls a pseudonym.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViaName(HeaderValue);

impl ViaName {
    /// The name, which is also a whole header value.
    #[must_use]
    pub fn as_value(&self) -> &HeaderValue {
        &self.0
    }
}

impl Scalar for ViaName {
    fn expected() -> Cow<'static, str> {
        "a name such as \"onlyonce\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err("it can have letters, digits, - and .".into());
        }
        HeaderValue::from_str(text)
            .map(Self)
            .map_err(|_| Remedy::none())
    }

    fn written(&self) -> Written {
        Written::Text(self.0.to_str().unwrap_or_default().to_owned())
    }

    fn schema() -> Schema {
        json_schema!({ "title": "name", "type": "string", "pattern": "^[^ ]+$" })
    }
}

pub(super) mod optional_path {
    use std::path::PathBuf;

    use serde::{Deserializer, Serialize, Serializer};

    use crate::config::scalar::{self, As};

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        scalar::deserialize(deserializer).map(Some)
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.clone().map(As).serialize(serializer)
    }
}
