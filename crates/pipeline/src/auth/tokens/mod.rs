//! Tokens: issued, checked, refreshed and ended.

mod builder;
mod claims;
mod error;
mod json;
mod jwks;
mod jwt;
mod key;
mod ticket;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Clock, StoreErrorKind};

pub use builder::{TokensBuilder, TokensError};
pub use error::TokenError;
pub use jwks::{Jwks, KeySource};
pub use key::{Algorithm, KeyError, TokenKeys};
pub use ticket::IssuedTicket;

use super::store::{
    Current, Session, SessionKey, SharedTokenStore, TokenKey, TokenStoreError, UserKey,
};
use crate::context::Identity;

/// The tokens of one app: JSON Web Tokens, each with a session in a store.
///
/// A token says who somebody is; its session says whether that still holds. Without a store
/// tokens hold until they expire, and can be neither ended nor refreshed: that is for tokens that
/// somebody else issues.
///
/// # Example
/// ```
/// use onlyonce_pipeline::auth::{MemoryTokenStore, TokenError, TokenKeys, Tokens};
/// use onlyonce_pipeline::context::Identity;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = TokenKeys::hs256(b"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge")?;
/// let tokens = Tokens::builder("admin", keys)
///     .with_store(MemoryTokenStore::new())
///     .build()?;
///
/// let issued = tokens.login(&Identity::new("7", "admin").with_role("editor")).await?;
/// let identity = tokens.verify(&issued.token).await?;
/// assert_eq!(identity.id, "7");
///
/// tokens.logout(&issued.token).await?;
/// assert!(matches!(tokens.verify(&issued.token).await, Err(TokenError::Ended)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    keys: TokenKeys,
    expected: claims::Expected,
    store: Option<SharedTokenStore>,
    clock: Arc<dyn Clock>,
    rules: Rules,
}

/// How long tokens and tickets last.
#[derive(Clone, Debug)]
struct Rules {
    expires: Duration,
    auto_refresh: bool,
    refresh_interval: Duration,
    /// `None`: as often as one likes.
    max_refresh_times: Option<u32>,
    multi_login: bool,
    max_sessions: usize,
    max_token: usize,
    ticket_expires: Duration,
    store_timeout: Duration,
}

/// A token, fresh from login or refresh.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuedToken {
    /// What the client sends as `Authorization: Bearer …`. A secret.
    pub token: String,
    /// How long it holds if it isn't refreshed.
    pub expires_in: Duration,
}

/// A token whose signature and claims are good, and whose session lives.
struct Checked {
    identity: Identity,
    place: SessionKey,
    session: Option<Session>,
}

/// However often a token is refreshed, this is its end.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Tokens {
    /// The tokens of `app`, with these keys; what else there is to say, the builder takes.
    pub fn builder(app: impl Into<Box<str>>, keys: TokenKeys) -> TokensBuilder {
        TokensBuilder::new(app.into(), keys)
    }

    /// The app that the tokens are for: their claim `app`.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.0.expected.app
    }

    /// Issues a token for `identity` and begins its session. Where only one login is allowed, the
    /// ones before end by it.
    ///
    /// Whether somebody is who they say is checked before this, by the application.
    ///
    /// # Errors
    /// When the identity is of another app or can't be put into a token, when there is no key to
    /// sign with, and when the store fails.
    ///
    /// # Cancellation safety
    /// Dropping it may leave a session whose token nobody has; it ends by itself.
    pub async fn login(&self, identity: &Identity) -> Result<IssuedToken, TokenError> {
        let (issued, place) = self.issue(identity)?;
        if let Some(store) = &self.0.store {
            let rules = &self.0.rules;
            let began = store.begin(&place, rules.expires, rules.max_sessions);
            self.in_time(began).await?;
        }
        Ok(issued)
    }

    /// The identity that `token` gives now. Refreshes its session when it is due.
    ///
    /// # Errors
    /// When it gives none, and when the store fails.
    ///
    /// # Cancellation safety
    /// Dropping it leaves the session as it was, or refreshed.
    pub async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        let checked = self.check(token).await?;
        self.refresh_if_due(&checked).await;
        Ok(checked.identity)
    }

    /// Ends the session of `token`. `false` if it had ended.
    ///
    /// # Errors
    /// When the token is not one of these, when there is no store, and when the store fails.
    ///
    /// # Cancellation safety
    /// Dropping it leaves the session ended or not.
    pub async fn logout(&self, token: &str) -> Result<bool, TokenError> {
        let (_, place) = self.open(token).await?;
        let store = self.store()?;
        self.in_time(store.end(&place)).await
    }

    /// Ends all sessions of a user.
    ///
    /// # Errors
    /// When there is no store, and when it fails.
    ///
    /// # Cancellation safety
    /// Dropping it leaves them ended or not.
    pub async fn logout_everywhere(&self, user: &str) -> Result<(), TokenError> {
        let store = self.store()?;
        let user = UserKey::of(self.app(), user);
        self.in_time(store.end_all(&user)).await
    }

    /// Puts a new token in the place of `token`, which ends. It counts as one refresh.
    ///
    /// # Errors
    /// When the token gives no identity, when it was refreshed as often as it may be, when there
    /// is no store, and when the store fails.
    ///
    /// # Cancellation safety
    /// Dropping it leaves the old token or the new one; if it was the new one, nobody has it, and
    /// the user logs in again.
    pub async fn refresh(&self, token: &str) -> Result<IssuedToken, TokenError> {
        let store = self.store()?;
        let checked = self.check(token).await?;
        let session = checked.session.ok_or(TokenError::Ended)?;
        if !self.may_refresh(session) {
            return Err(TokenError::RefreshedOften);
        }
        let (issued, place) = self.issue(&checked.identity)?;
        let (token, expires) = (&place.token, self.0.rules.expires);
        let replaced = store.replace(&checked.place, token, session.refreshes, expires);
        if self.in_time(replaced).await? {
            Ok(issued)
        } else {
            Err(TokenError::Ended)
        }
    }

    async fn check(&self, token: &str) -> Result<Checked, TokenError> {
        let (identity, place) = self.open(token).await?;
        let session = self.look(&place).await?;
        Ok(Checked {
            identity,
            place,
            session,
        })
    }

    /// Checks all but the session.
    async fn open(&self, token: &str) -> Result<(Identity, SessionKey), TokenError> {
        let Inner { keys, rules, .. } = &*self.0;
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > rules.max_token {
            return Err(TokenError::TooLong(rules.max_token));
        }
        let mut claims = jwt::open(token, keys);
        if let (Err(TokenError::UnknownKey | TokenError::Algorithm), Some(set)) =
            (&claims, &keys.set)
            && set.look_for_new(&*self.0.clock).await
        {
            claims = jwt::open(token, keys);
        }
        let identity = self.0.expected.check(claims?, self.0.clock.now())?;
        let place = self.place(&identity, token);
        Ok((identity, place))
    }

    /// The session, if sessions are kept and it lives.
    async fn look(&self, place: &SessionKey) -> Result<Option<Session>, TokenError> {
        let Some(store) = &self.0.store else {
            return Ok(None);
        };
        let look = self.in_time(store.look(place)).await?;
        let session = look.session.ok_or(TokenError::Ended)?;
        match look.current {
            _ if self.0.rules.multi_login => Ok(Some(session)),
            Current::This => Ok(Some(session)),
            Current::Other => Err(TokenError::LoggedInElsewhere),
            Current::None => Err(TokenError::Ended),
        }
    }

    /// The identity is proven already, so a failure here costs nobody their access: the next
    /// request tries again.
    async fn refresh_if_due(&self, checked: &Checked) {
        let rules = &self.0.rules;
        let (Some(store), Some(session)) = (&self.0.store, checked.session) else {
            return;
        };
        if !rules.auto_refresh || session.age < rules.refresh_interval || !self.may_refresh(session)
        {
            return;
        }
        // Of several at once, one counts.
        let extended = store.extend(&checked.place, session.refreshes, rules.expires);
        if let Err(error) = self.in_time(extended).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a session was not refreshed"
            );
        }
    }

    fn may_refresh(&self, session: Session) -> bool {
        let most = self.0.rules.max_refresh_times;
        most.is_none_or(|most| session.refreshes < most)
    }

    fn issue(&self, identity: &Identity) -> Result<(IssuedToken, SessionKey), TokenError> {
        let Inner { keys, rules, .. } = &*self.0;
        let key = keys.signing.as_ref().ok_or(TokenError::NoSigningKey)?;
        let id = hex(&random::<16>()?);
        let now = self.0.clock.now();
        let claims = self
            .0
            .expected
            .issue(identity, now, self.longest_life(), id)?;
        let token = jwt::seal(&claims, key)?;
        if token.len() > rules.max_token {
            return Err(TokenError::Identity("its claims are too long for a token"));
        }
        let place = self.place(identity, &token);
        let expires_in = rules.expires;
        Ok((IssuedToken { token, expires_in }, place))
    }

    /// What a token says itself of its end: its session ends it earlier, if it isn't refreshed.
    fn longest_life(&self) -> Duration {
        let rules = &self.0.rules;
        if self.0.store.is_none() || !rules.auto_refresh {
            return rules.expires;
        }
        let most = rules.max_refresh_times.map(|most| most.saturating_add(1));
        let longest = most.and_then(|times| rules.expires.checked_mul(times));
        longest.unwrap_or(LONGEST).min(LONGEST)
    }

    fn place(&self, identity: &Identity, token: &str) -> SessionKey {
        SessionKey {
            user: UserKey::of(self.app(), &identity.id),
            token: TokenKey::of(token),
        }
    }

    fn store(&self) -> Result<&SharedTokenStore, TokenError> {
        self.0.store.as_ref().ok_or(TokenError::Stateless)
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, TokenStoreError>>,
    ) -> Result<T, TokenError> {
        match tokio::time::timeout(self.0.rules.store_timeout, call).await {
            Ok(done) => Ok(done?),
            Err(late) => Err(TokenError::Store(
                TokenStoreError::new(StoreErrorKind::Timeout, "it did not answer in time")
                    .with_source(late),
            )),
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], TokenError> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(TokenError::Random),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("app", &self.0.expected.app)
            .field("keys", &self.0.keys)
            .field("rules", &self.0.rules)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuedToken([hidden], {:?})", self.expires_in)
    }
}

#[cfg(test)]
pub(super) mod tests;
