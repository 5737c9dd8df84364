//! How tokens are set up.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Clock, SystemClock};

use super::claims::Expected;
use super::{Inner, LONGEST, Rules, TokenKeys, Tokens};
use crate::auth::store::SharedTokenStore;

/// Sets up [`Tokens`]; [`build`](Self::build) checks that it can work.
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// use onlyonce_pipeline::auth::{MemoryTokenStore, TokenKeys, Tokens};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = TokenKeys::hs256(b"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge")?;
/// let tokens = Tokens::builder("admin", keys.clone())
///     .with_store(MemoryTokenStore::new())
///     .with_expires(Duration::from_secs(8 * 3600))
///     .with_refresh_interval(Duration::from_secs(1800))
///     .with_multi_login(false) // a later login ends the earlier one
///     .build()?;
/// # let _ = tokens;
///
/// // What can't work is said when it is set up.
/// let forgetful = Tokens::builder("admin", keys).with_multi_login(false).build();
/// assert!(forgetful.is_err_and(|error| error.to_string().contains("without a token store")));
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use]
pub struct TokensBuilder {
    keys: TokenKeys,
    expected: Expected,
    store: Option<SharedTokenStore>,
    clock: Arc<dyn Clock>,
    rules: Rules,
}

/// Tokens set up like this can't work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The app has no name.
    #[error("the app needs a name: it keeps its tokens apart from other apps'")]
    NoApp,
    /// Only one login is allowed, but nobody remembers logins.
    #[error("without a token store, nobody knows of earlier logins: give one, or allow several")]
    SingleLoginWithoutStore,
    /// Tokens don't last, or for ever.
    #[error("tokens last from 1 second to 10 years")]
    Expires,
    /// A session has ended before it would be refreshed.
    #[error("the refresh interval must be shorter than the time for which tokens last")]
    RefreshInterval,
    /// Tickets last too long to be safe in a URL, or not at all.
    #[error("tickets last from 1 second to 10 minutes")]
    TicketExpires,
    /// The leeway would keep expired tokens alive.
    #[error("the leeway can be 5 minutes at most")]
    Leeway,
    /// Nothing could be kept, or issued, or awaited.
    #[error("{0} must be greater than zero")]
    Zero(&'static str),
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl TokensBuilder {
    pub(super) fn new(app: Box<str>, keys: TokenKeys) -> Self {
        Self {
            keys,
            expected: Expected {
                app,
                audience: None,
                issuer: None,
                leeway: Duration::from_secs(30),
            },
            store: None,
            clock: Arc::new(SystemClock::new()),
            rules: Rules {
                expires: 7 * DAY,
                auto_refresh: true,
                refresh_interval: DAY,
                max_refresh_times: Some(30),
                multi_login: true,
                max_sessions: 100,
                max_token: 8192,
                ticket_expires: Duration::from_secs(30),
                store_timeout: Duration::from_secs(1),
            },
        }
    }

    /// Keeps sessions and tickets in `store`. Without one, tokens hold until they expire.
    pub fn with_store(mut self, store: impl Into<SharedTokenStore>) -> Self {
        self.store = Some(store.into());
        self
    }

    /// Names this audience in tokens, and takes only tokens that name it. Without one, tokens that
    /// name any are refused.
    pub fn with_audience(mut self, audience: impl Into<Box<str>>) -> Self {
        self.expected.audience = Some(audience.into());
        self
    }

    /// Names this issuer in tokens, and takes only tokens that name it. Without one, any.
    pub fn with_issuer(mut self, issuer: impl Into<Box<str>>) -> Self {
        self.expected.issuer = Some(issuer.into());
        self
    }

    /// How far `exp` and `nbf` may lie beyond this clock, 30 seconds unless set: other machines'
    /// clocks differ.
    pub const fn with_leeway(mut self, leeway: Duration) -> Self {
        self.expected.leeway = leeway;
        self
    }

    /// How long a session lasts if it isn't refreshed: 7 days unless set.
    pub const fn with_expires(mut self, expires: Duration) -> Self {
        self.rules.expires = expires;
        self
    }

    /// Whether requests refresh their session once it is a
    /// [refresh interval](Self::with_refresh_interval) old: on unless set. The token stays the
    /// same.
    pub const fn with_auto_refresh(mut self, on: bool) -> Self {
        self.rules.auto_refresh = on;
        self
    }

    /// How old a session is before a request refreshes it: 1 day unless set.
    pub const fn with_refresh_interval(mut self, interval: Duration) -> Self {
        self.rules.refresh_interval = interval;
        self
    }

    /// How often a session can be refreshed, 30 times unless set; `None`: as often as one likes,
    /// for 10 years at most.
    pub const fn with_max_refresh_times(mut self, times: Option<u32>) -> Self {
        self.rules.max_refresh_times = times;
        self
    }

    /// Whether one user can be logged in several times: yes unless set. If not, a later login ends
    /// the earlier ones.
    pub const fn with_multi_login(mut self, on: bool) -> Self {
        self.rules.multi_login = on;
        self
    }

    /// How many sessions one user can have, 100 unless set; the oldest makes room.
    pub const fn with_max_sessions(mut self, sessions: usize) -> Self {
        self.rules.max_sessions = sessions;
        self
    }

    /// How many bytes a token can have: 8192 unless set.
    pub const fn with_max_token(mut self, bytes: usize) -> Self {
        self.rules.max_token = bytes;
        self
    }

    /// How long a ticket waits to be used: 30 seconds unless set.
    pub const fn with_ticket_expires(mut self, expires: Duration) -> Self {
        self.rules.ticket_expires = expires;
        self
    }

    /// How long the store has to answer: 1 second unless set. Later is a failure.
    pub const fn with_store_timeout(mut self, timeout: Duration) -> Self {
        self.rules.store_timeout = timeout;
        self
    }

    /// Takes the time from `clock`; the system's unless set.
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The tokens.
    ///
    /// # Errors
    /// When they can't work like this.
    pub fn build(self) -> Result<Tokens, TokensError> {
        let rules = &self.rules;
        let second = Duration::from_secs(1);
        if self.expected.app.is_empty() {
            return Err(TokensError::NoApp);
        }
        if !rules.multi_login && self.store.is_none() {
            return Err(TokensError::SingleLoginWithoutStore);
        }
        if !(second..=LONGEST).contains(&rules.expires) {
            return Err(TokensError::Expires);
        }
        if rules.auto_refresh && self.store.is_some() && rules.refresh_interval >= rules.expires {
            return Err(TokensError::RefreshInterval);
        }
        if !(second..=600 * second).contains(&rules.ticket_expires) {
            return Err(TokensError::TicketExpires);
        }
        if self.expected.leeway > 300 * second {
            return Err(TokensError::Leeway);
        }
        let counts = [
            ("max_sessions", rules.max_sessions == 0),
            ("max_token", rules.max_token == 0),
            ("store_timeout", rules.store_timeout.is_zero()),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(TokensError::Zero(name));
        }
        Ok(Tokens(Arc::new(Inner {
            keys: self.keys,
            expected: self.expected,
            store: self.store,
            clock: self.clock,
            rules: self.rules,
        })))
    }
}
