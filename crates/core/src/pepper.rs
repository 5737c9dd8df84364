//! The secret that all who share a store hash keys under.

use std::fmt;

use crate::codec::DecodeError;
use crate::{Inspect, InspectFuture, Page, RecordId, Scope, Secret, StoreError};

/// A store that keeps what all who share it must agree on: the [`Secret`] that its records are found
/// under.
///
/// Under another secret no record would be found, and retries would execute again. So the first one
/// to come makes a secret, or says which it was given, and the store holds all others to that:
/// [`settle_secret`].
///
/// # Contract
/// - **Once.** What is kept first stays, whoever comes at the same time. Only an operator removes it.
/// - **As good as a record.** What was given back is there as long as the records are.
pub trait Pepper: Send + Sync + 'static {
    /// Keeps `offer`, unless something is kept already; gives what is kept now. Without an offer it
    /// only looks.
    fn keep<'a>(&'a self, offer: Option<&'a KeptSecret>) -> InspectFuture<'a, Option<KeptSecret>>;

    /// Where it is kept, in words for an operator who has to remove it: ``the key `oo:secret` ``.
    fn place(&self) -> String;
}

/// What a store keeps of a secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeptSecret {
    /// The secret itself: nobody was given one.
    Whole(Secret),
    /// What tells whether a secret that is given is still the same.
    Sign(RecordId),
}

impl KeptSecret {
    const TAG: u8 = b'P';
    const VERSION: u8 = 1;
    /// How many bytes its encoding has.
    const LEN: usize = 3 + Secret::LEN;

    /// What is kept of a secret that is given from elsewhere.
    ///
    /// A keyed hash: it tells no more of the secret than any record's identifier does.
    #[must_use]
    pub fn sign(secret: &Secret) -> Self {
        Self::Sign(RecordId::of_scope(secret, &Scope::shared()))
    }

    /// As bytes, to be stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, bytes) = match self {
            Self::Whole(secret) => (0, secret.as_bytes()),
            Self::Sign(sign) => (1, sign.as_bytes()),
        };
        let mut out = vec![Self::TAG, Self::VERSION, kind];
        out.extend(bytes);
        out
    }

    /// From the bytes that were stored.
    ///
    /// # Errors
    /// When they are not exactly one encoding of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes {
            [] | [Self::TAG] => return Err(DecodeError::Truncated),
            [Self::TAG, Self::VERSION, ..] => {}
            [Self::TAG, version, ..] => return Err(DecodeError::Version(*version)),
            [tag, ..] => return Err(DecodeError::Tag(*tag)),
        }
        if bytes.len() > Self::LEN {
            return Err(DecodeError::Trailing);
        }
        let (kind, rest) = bytes[2..].split_first().ok_or(DecodeError::Truncated)?;
        let rest = rest.try_into().map_err(|_| DecodeError::Truncated)?;
        match kind {
            0 => Ok(Self::Whole(Secret::from_bytes(rest))),
            1 => Ok(Self::Sign(RecordId::from_bytes(rest))),
            _ => Err(DecodeError::Field("kind of secret")),
        }
    }

    /// The secret to go on with.
    fn admit(&self, given: Option<&Secret>, store: &impl Pepper) -> Result<Secret, SecretError> {
        let place = || store.place().into();
        match (self, given) {
            (Self::Whole(kept), None) => Ok(kept.clone()),
            (Self::Whole(kept), Some(given)) if kept == given => Ok(given.clone()),
            (Self::Whole(_), Some(_)) => Err(SecretError::OfItsOwn { place: place() }),
            (Self::Sign(_), Some(given)) if *self == Self::sign(given) => Ok(given.clone()),
            (Self::Sign(_), Some(_)) => Err(SecretError::Another { place: place() }),
            (Self::Sign(_), None) => Err(SecretError::Missing { place: place() }),
        }
    }
}

impl fmt::Debug for KeptSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole([hidden])",
            Self::Sign(_) => "Sign([hidden])",
        })
    }
}

/// The secret under which keys are hashed for this store, the same for all who share it.
///
/// A secret that is `given` has to be the one that the store was begun with. Without one it is the
/// secret that the store keeps, made at random by the first to come. A store that has records from
/// before it kept any goes on with [`Secret::well_known`], which they were made under.
///
/// # Errors
/// When the store was begun with another secret, or fails.
///
/// # Cancellation safety
/// Dropped, it may or may not have kept a secret; called again, it finds it.
pub async fn settle_secret<S: Pepper + Inspect>(
    store: &S,
    given: Option<&Secret>,
) -> Result<Secret, SecretError> {
    let offer = match given {
        Some(given) => KeptSecret::sign(given),
        None => match store.keep(None).await? {
            Some(kept) => return kept.admit(None, store),
            None => KeptSecret::Whole(first_secret(store).await?),
        },
    };
    match store.keep(Some(&offer)).await? {
        Some(kept) => kept.admit(given, store),
        // It gives back what it was offered, at least.
        None => offer.admit(given, store),
    }
}

/// Whether [`settle_secret`] would succeed; keeps nothing.
///
/// # Errors
/// As [`settle_secret`].
pub async fn check_secret<S: Pepper>(store: &S, given: Option<&Secret>) -> Result<(), SecretError> {
    match store.keep(None).await? {
        Some(kept) => kept.admit(given, store).map(drop),
        None => Ok(()),
    }
}

async fn first_secret<S: Inspect>(store: &S) -> Result<Secret, SecretError> {
    let one = Page {
        limit: 1,
        ..Page::default()
    };
    Ok(if store.list(&one).await?.is_empty() {
        Secret::random()
    } else {
        Secret::well_known()
    })
}

/// Why there is no secret to go on with. Under another one none of the store's records would be
/// found, and retries would execute again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// One was given, and the store has made one of its own.
    #[error(
        "the store's records were made under a secret of its own, {place}, and another is given"
    )]
    OfItsOwn {
        /// Where it is kept.
        place: Box<str>,
    },
    /// One was given, and the records were made under another that was given.
    #[error("the store's records were made under another secret, as {place} tells")]
    Another {
        /// Where that is known from.
        place: Box<str>,
    },
    /// None was given, and the records were made under one that was.
    #[error("the store's records were made under a secret, as {place} tells, and none is given")]
    Missing {
        /// Where that is known from.
        place: Box<str>,
    },
    /// The store failed.
    #[error("the store does not say which secret its records were made under")]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counts, Listed, Operation, Record, Resolution, Resolved, StoreErrorKind};
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll, Waker};

    #[derive(Default)]
    struct Kept {
        kept: Mutex<Option<Vec<u8>>>,
        records: Vec<Listed>,
    }

    impl Pepper for Kept {
        fn keep<'a>(
            &'a self,
            offer: Option<&'a KeptSecret>,
        ) -> InspectFuture<'a, Option<KeptSecret>> {
            let mut kept = self.kept.lock().unwrap();
            if let (None, Some(offer)) = (&*kept, offer) {
                *kept = Some(offer.encode());
            }
            let kept = kept.as_deref().map(KeptSecret::decode).transpose();
            let kept = kept.map_err(|error| {
                StoreError::new(Operation::Open, StoreErrorKind::Corrupt, error.to_string())
            });
            Box::pin(std::future::ready(kept))
        }

        fn place(&self) -> String {
            "the drawer".to_owned()
        }
    }

    impl Inspect for Kept {
        fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
            let records = self.records.iter().take(page.limit).cloned().collect();
            Box::pin(std::future::ready(Ok(records)))
        }

        fn show<'a>(&'a self, _: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
            unreachable!()
        }

        fn resolve<'a>(
            &'a self,
            _: &'a RecordId,
            _: &'a Resolution,
        ) -> InspectFuture<'a, Resolved> {
            unreachable!()
        }

        fn forget<'a>(&'a self, _: &'a RecordId) -> InspectFuture<'a, Resolved> {
            unreachable!()
        }

        fn count(&self) -> InspectFuture<'_, Counts> {
            unreachable!()
        }
    }

    fn ready<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    fn settle(store: &Kept, given: Option<&Secret>) -> Result<Secret, SecretError> {
        let checked = ready(check_secret(store, given)).is_ok();
        let settled = ready(settle_secret(store, given));
        assert_eq!(checked, settled.is_ok());
        settled
    }

    #[test]
    fn without_a_secret_the_store_makes_one_and_all_go_on_with_it() {
        let (one, other) = (Kept::default(), Kept::default());
        let secret = settle(&one, None).unwrap();
        assert_eq!(settle(&one, None).unwrap(), secret);
        assert_eq!(settle(&one, Some(&secret)).unwrap(), secret);
        assert_ne!(secret, Secret::well_known());
        assert_ne!(secret, settle(&other, None).unwrap());
        let refused = settle(&one, Some(&Secret::random())).unwrap_err();
        assert!(matches!(refused, SecretError::OfItsOwn { .. }), "{refused}");
        assert!(refused.to_string().contains("the drawer"));
    }

    #[test]
    fn a_secret_that_is_given_wins_and_is_not_kept_itself() {
        let (store, given) = (Kept::default(), Secret::random());
        assert_eq!(settle(&store, Some(&given)).unwrap(), given);
        assert_eq!(settle(&store, Some(&given)).unwrap(), given);
        let kept = store.kept.lock().unwrap().clone().unwrap();
        assert!(!kept.windows(8).any(|part| part == &given.as_bytes()[..8]));
        let refused = settle(&store, Some(&Secret::random())).unwrap_err();
        assert!(matches!(refused, SecretError::Another { .. }), "{refused}");
        let refused = settle(&store, None).unwrap_err();
        assert!(matches!(refused, SecretError::Missing { .. }), "{refused}");
    }

    #[test]
    fn records_from_before_are_still_found() {
        let id = RecordId::from_bytes([1; 32]);
        let record = Record {
            fingerprint: None,
            attempt: 1,
            fence: crate::Fence::new(1),
            state: crate::State::Unknown,
            age: std::time::Duration::ZERO,
            expires_in: std::time::Duration::from_secs(1),
            label: "".into(),
        };
        let store = Kept {
            records: vec![Listed { id, record }],
            ..Kept::default()
        };
        assert_eq!(settle(&store, None).unwrap(), Secret::well_known());
        let later = Kept {
            kept: store.kept,
            records: Vec::new(),
        };
        assert_eq!(settle(&later, None).unwrap(), Secret::well_known());
    }

    #[test]
    fn looking_keeps_nothing() {
        let store = Kept::default();
        ready(check_secret(&store, Some(&Secret::random()))).unwrap();
        assert!(store.kept.lock().unwrap().is_none());
    }

    #[test]
    fn hazard_47_what_is_kept_is_read_strictly() {
        let whole = KeptSecret::Whole(Secret::from_bytes([7; 32]));
        let mut bytes = whole.encode();
        assert_eq!(bytes[..4], *b"P\x01\x00\x07");
        assert_eq!(KeptSecret::decode(&bytes).unwrap(), whole);
        let sign = KeptSecret::sign(&Secret::from_bytes([7; 32]));
        assert_eq!(KeptSecret::decode(&sign.encode()).unwrap(), sign);
        for end in 0..bytes.len() {
            let cut = KeptSecret::decode(&bytes[..end]);
            assert_eq!(cut.unwrap_err(), DecodeError::Truncated);
        }
        bytes.push(0);
        assert_eq!(
            KeptSecret::decode(&bytes).unwrap_err(),
            DecodeError::Trailing
        );
        bytes.pop();
        for (place, value, expected) in [
            (0, b'E', DecodeError::Tag(b'E')),
            (1, 2, DecodeError::Version(2)),
            (2, 2, DecodeError::Field("kind of secret")),
        ] {
            let mut other = bytes.clone();
            other[place] = value;
            assert_eq!(KeptSecret::decode(&other).unwrap_err(), expected);
        }
        assert!(!format!("{whole:?}").contains('7'));
        let store = Kept::default();
        *store.kept.lock().unwrap() = Some(b"P\x02".to_vec());
        assert!(matches!(
            settle(&store, None).unwrap_err(),
            SecretError::Store(_)
        ));
    }
}
