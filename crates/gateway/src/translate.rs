//! From settings, which speak to people, to the options of the parts.

use crate::config::{HostHeader, LimitSettings, ProxySettings, TlsSettings};
use crate::front::FrontOptions;
use crate::proxy::ProxyOptions;
use crate::tls::{TlsOptions, TrustOptions};
use crate::upstream::{HostRule, UpstreamOptions};

pub(crate) fn front(limits: &LimitSettings) -> FrontOptions {
    FrontOptions {
        max_connections: limits.max_connections,
        max_head: limits.max_header_bytes,
        max_fields: limits.max_headers,
        head_timeout: limits.header_timeout,
        body_timeout: limits.body_idle_timeout,
        idle_timeout: limits.keep_alive_timeout,
        handshake_timeout: limits.tls_handshake_timeout,
        max_streams: limits.max_concurrent_streams,
        max_body: limits.max_request_body,
        drain_timeout: limits.drain_timeout,
        ..FrontOptions::default()
    }
}

pub(crate) fn upstream(proxy: &ProxySettings) -> UpstreamOptions {
    UpstreamOptions {
        connect_timeout: proxy.connect_timeout,
        head_timeout: proxy.response_timeout,
        idle_timeout: proxy.idle_timeout,
        total_timeout: proxy.total_timeout,
        max_idle: proxy.pool_max_idle,
        pool_idle: proxy.pool_idle_timeout,
        h2c: proxy.h2c,
        // 0 means never.
        unhealthy_after: if proxy.max_failures == 0 {
            u32::MAX
        } else {
            proxy.max_failures
        },
        cool_down: proxy.cooldown,
        trust: trust(proxy),
        ..UpstreamOptions::default()
    }
}

fn trust(proxy: &ProxySettings) -> TrustOptions {
    TrustOptions {
        system: proxy.ca_file.is_none(),
        authorities: proxy.ca_file.iter().cloned().collect(),
        insecure_skip_verify: proxy.insecure_skip_verify,
    }
}

pub(crate) fn proxy(proxy: &ProxySettings) -> ProxyOptions {
    let host = match proxy.host {
        HostHeader::Preserve => HostRule::Preserve,
        HostHeader::Upstream => HostRule::Upstream,
    };
    ProxyOptions {
        host,
        ..ProxyOptions::default()
    }
}

pub(crate) fn tls(tls: &TlsSettings) -> TlsOptions {
    TlsOptions {
        cert: tls.cert.clone(),
        key: tls.key.clone(),
    }
}
