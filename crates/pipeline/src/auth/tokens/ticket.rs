//! Tickets: what stands for a token in a URL, once and for seconds.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use onlyonce_core::StoreErrorKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{TokenError, Tokens, random};
use crate::auth::store::{SessionKey, TokenKey, TokenStoreError, UserKey};
use crate::context::Identity;

/// A ticket, to be used once.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuedTicket {
    /// What the client puts into the URL as `?ticket=…`.
    pub ticket: String,
    /// How long it waits to be used.
    pub expires_in: Duration,
}

/// What a ticket stands for.
#[derive(Serialize, Deserialize)]
struct Grant {
    id: String,
    role: Option<String>,
    claims: Map<String, Value>,
    /// The token whose session must still live when the ticket is used.
    token: [u8; 32],
}

/// 32 random bytes in base64url.
const LENGTH: usize = 43;

impl Tokens {
    /// Issues a ticket for the holder of `token`. Browsers can't send headers with a WebSocket,
    /// and a URL is no place for a token: it stands in histories and logs.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and when there is no store.
    ///
    /// # Cancellation safety
    /// Dropping it may leave a ticket that nobody has; it ends by itself.
    pub async fn issue_ticket(&self, token: &str) -> Result<IssuedTicket, TokenError> {
        let store = self.store()?;
        let checked = self.check(token).await?;
        let ticket = URL_SAFE_NO_PAD.encode(random::<32>()?);
        let grant = Grant {
            id: checked.identity.id,
            role: checked.identity.role,
            claims: checked.identity.claims,
            token: *checked.place.token.as_bytes(),
        };
        let grant = serde_json::to_vec(&grant).map_err(|error| corrupt(error.into()))?;
        let expires_in = self.0.rules.ticket_expires;
        let key = TokenKey::of_ticket(self.app(), &ticket);
        let put = store.put_ticket(&key, &grant, expires_in);
        self.in_time(put).await?;
        Ok(IssuedTicket { ticket, expires_in })
    }

    /// The identity that `ticket` gives, which is used up by this.
    ///
    /// # Errors
    /// When it gives none: used, expired, never issued, or its token's session has ended; and when
    /// the store fails.
    ///
    /// # Cancellation safety
    /// Dropping it may use the ticket up: the client asks for another.
    pub async fn redeem_ticket(&self, ticket: &str) -> Result<Identity, TokenError> {
        let store = self.store()?;
        if ticket.len() != LENGTH {
            return Err(TokenError::Malformed("a ticket has another length"));
        }
        let key = TokenKey::of_ticket(self.app(), ticket);
        let grant = self.in_time(store.take_ticket(&key)).await?;
        let grant = grant.ok_or(TokenError::Ended)?;
        let grant: Grant = serde_json::from_slice(&grant).map_err(|error| corrupt(error.into()))?;
        let place = SessionKey {
            user: UserKey::of(self.app(), &grant.id),
            token: TokenKey::from_bytes(grant.token),
        };
        self.look(&place).await?;
        Ok(Identity {
            id: grant.id,
            role: grant.role,
            app: self.app().to_owned(),
            claims: grant.claims,
        })
    }
}

fn corrupt(source: onlyonce_core::BoxError) -> TokenError {
    TokenError::Store(
        TokenStoreError::new(StoreErrorKind::Corrupt, "a ticket can't be read").with_source(source),
    )
}

impl fmt::Debug for IssuedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuedTicket([hidden], {:?})", self.expires_in)
    }
}
