//! Why a token is refused.

use crate::auth::store::TokenStoreError;

/// Why a caller has no valid identity.
///
/// Clients are not told which: they read the same two or three texts. Logs say it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// There is none.
    #[error("there is no token")]
    Missing,
    /// Several were sent, or one that stands where none may stand.
    #[error("{0}")]
    Misplaced(&'static str),
    /// It is longer than the limit.
    #[error("the token is longer than {0} bytes")]
    TooLong(usize),
    /// It is no JSON Web Token.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Its algorithm is none of those that are accepted.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// No key that is known could have signed it.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim is missing or has the wrong type.
    #[error("the claim `{0}` is missing or of the wrong type")]
    Claim(&'static str),
    /// It is for another app.
    #[error("the token is for another app")]
    App,
    /// It is for another audience, or for one where none is expected.
    #[error("the token is for another audience")]
    Audience,
    /// Somebody else issued it.
    #[error("the token is of another issuer")]
    Issuer,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    TooEarly,
    /// Its session has ended: by logout, by time, or by being refreshed.
    #[error("the token's session has ended")]
    Ended,
    /// Its user has logged in elsewhere since, and only one login is allowed.
    #[error("the token's user has logged in elsewhere since")]
    LoggedInElsewhere,
    /// It can't be refreshed any more often.
    #[error("the token was refreshed as often as it may be")]
    RefreshedOften,
    /// Nobody keeps sessions here, so there is none to end or refresh.
    #[error("tokens without a store can't be ended or refreshed: give a token store")]
    Stateless,
    /// Tokens are only checked here, not issued.
    #[error("there is no key to sign with: tokens are issued elsewhere")]
    NoSigningKey,
    /// What should go into a token can't.
    #[error("no token can be made of this identity: {0}")]
    Identity(&'static str),
    /// Signing failed.
    #[error("the token could not be signed")]
    Signing(#[source] jsonwebtoken::errors::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The store failed, so that nothing is known.
    #[error(transparent)]
    Store(#[from] TokenStoreError),
}
