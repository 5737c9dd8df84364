//! Settings of the way to the upstreams.

use std::time::Duration;

use crate::front::LONGEST;
use crate::tls::TrustOptions;

/// Time-outs, pools and health of upstreams.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpstreamOptions {
    /// For name resolution, TCP and TLS together. Default 5 s.
    pub connect_timeout: Duration,
    /// From the request's last byte to the response's head. While the upload moves on, or the
    /// client keeps it waiting, this time does not run. Default 60 s.
    pub head_timeout: Duration,
    /// Between two reads of a response's body, while somebody wants to read it. Default 60 s.
    pub idle_timeout: Duration,
    /// For the whole exchange, to the response's last byte. Default none.
    pub total_timeout: Option<Duration>,
    /// How long an unused connection is kept. Default 4 s: below the 5 s after which common
    /// servers close theirs, so that a request is rarely sent into a closing connection.
    pub pool_idle: Duration,
    /// Unused connections kept for each upstream. Default 128.
    pub max_idle: usize,
    /// Failed connects in a row after which an upstream is left alone. Default 3.
    pub unhealthy_after: u32,
    /// How long it is left alone before one request tries it again. Default 5 s.
    pub cool_down: Duration,
    /// Speak HTTP/2 to `http://` upstreams without asking. Default false.
    pub h2c: bool,
    /// Longest response head in bytes. Default 64 KiB.
    pub max_head: usize,
    /// Whom to trust behind `https://`.
    pub trust: TrustOptions,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            total_timeout: None,
            pool_idle: Duration::from_secs(4),
            max_idle: 128,
            unhealthy_after: 3,
            cool_down: Duration::from_secs(5),
            h2c: false,
            max_head: 64 * 1024,
            trust: TrustOptions::default(),
        }
    }
}

impl UpstreamOptions {
    /// The same, with times that no sum of times overflows.
    pub(crate) fn within_bounds(mut self) -> Self {
        for time in [
            &mut self.connect_timeout,
            &mut self.head_timeout,
            &mut self.idle_timeout,
            &mut self.pool_idle,
            &mut self.cool_down,
        ] {
            *time = (*time).min(LONGEST);
        }
        self.total_timeout = self.total_timeout.map(|total| total.min(LONGEST));
        // The sweeper sleeps for it.
        self.pool_idle = self.pool_idle.max(Duration::from_millis(1));
        self
    }
}
