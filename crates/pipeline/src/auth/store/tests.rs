//! What every store does alike.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{ManualClock, StoreErrorKind};

use super::*;

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn token(token: &str) -> TokenKey {
    TokenKey::of(token)
}

pub(crate) fn key(user: &str, token: &str) -> SessionKey {
    SessionKey {
        user: UserKey::of("admin", user),
        token: TokenKey::of(token),
    }
}

/// Runs one test on memory and on disk.
macro_rules! on_each_store {
    ($($name:ident;)+) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $name() {
                let clock = std::sync::Arc::new(onlyonce_core::ManualClock::new());
                let store = super::MemoryTokenStore::new()
                    .with_capacity(10)
                    .with_clock(std::sync::Arc::clone(&clock));
                super::$name(store, clock).await;
            })+
        }

        mod on_disk {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let clock = std::sync::Arc::new(onlyonce_core::ManualClock::new());
                let path = folder.path().join("tokens");
                let clone = std::sync::Arc::clone(&clock);
                let store = super::DiskTokenStore::open_with(path, 10, clone).unwrap();
                super::$name(store, clock).await;
            })+
        }
    };
}

on_each_store! {
    a_session_lives_until_it_ends;
    the_last_login_is_the_current_one;
    a_refresh_counts_once;
    a_session_is_replaced_whole;
    a_user_s_oldest_session_makes_room;
    a_full_store_takes_no_more_but_keeps_what_it_has;
    a_ticket_is_taken_once;
}

async fn a_session_lives_until_it_ends(store: impl TokenStore, clock: Arc<ManualClock>) {
    let one = key("u", "1");
    assert_eq!(store.look(&one).await.unwrap().session, None);
    store.begin(&one, DAY, 10).await.unwrap();
    clock.advance(DAY / 4);
    let session = store.look(&one).await.unwrap().session.unwrap();
    assert_eq!((session.refreshes, session.age), (0, DAY / 4));
    assert_eq!(session.remaining, DAY * 3 / 4);
    assert_eq!(
        store.look(&key("other", "1")).await.unwrap().session,
        None,
        "another's"
    );
    clock.advance(DAY * 3 / 4);
    assert_eq!(
        store.look(&one).await.unwrap().session,
        None,
        "expired, though not swept"
    );
    assert!(
        !store.extend(&one, 0, DAY).await.unwrap(),
        "what has expired does not come back"
    );
    assert!(!store.end(&one).await.unwrap());

    store.begin(&one, DAY, 10).await.unwrap();
    assert!(store.end(&one).await.unwrap());
    assert!(!store.end(&one).await.unwrap());
    assert_eq!(store.look(&one).await.unwrap().session, None);

    store.begin(&one, DAY, 10).await.unwrap();
    store.begin(&key("u", "2"), DAY, 10).await.unwrap();
    store.begin(&key("v", "3"), DAY, 10).await.unwrap();
    store.end_all(&one.user).await.unwrap();
    assert_eq!(store.look(&one).await.unwrap().session, None);
    assert_eq!(store.look(&key("u", "2")).await.unwrap().session, None);
    assert!(store.look(&key("v", "3")).await.unwrap().session.is_some());
}

async fn the_last_login_is_the_current_one(store: impl TokenStore, clock: Arc<ManualClock>) {
    let (one, two) = (key("u", "1"), key("u", "2"));
    store.begin(&one, 2 * DAY, 10).await.unwrap();
    assert_eq!(store.look(&one).await.unwrap().current, Current::This);
    store.begin(&two, DAY, 10).await.unwrap();
    assert_eq!(store.look(&one).await.unwrap().current, Current::Other);
    assert_eq!(store.look(&two).await.unwrap().current, Current::This);
    store.end(&one).await.unwrap();
    assert_eq!(store.look(&two).await.unwrap().current, Current::This);
    store.begin(&one, 2 * DAY, 10).await.unwrap();
    store.begin(&two, DAY, 10).await.unwrap();
    clock.advance(DAY);
    assert_eq!(
        store.look(&one).await.unwrap().current,
        Current::None,
        "the current expired"
    );
    store.begin(&two, DAY, 10).await.unwrap();
    store.end(&two).await.unwrap();
    assert_eq!(
        store.look(&one).await.unwrap().current,
        Current::None,
        "the current ended"
    );
}

async fn a_refresh_counts_once(store: impl TokenStore, clock: Arc<ManualClock>) {
    let one = key("u", "1");
    store.begin(&one, DAY, 10).await.unwrap();
    clock.advance(DAY / 2);
    assert!(store.extend(&one, 0, DAY).await.unwrap());
    assert!(
        !store.extend(&one, 0, DAY).await.unwrap(),
        "another did it meanwhile"
    );
    let session = store.look(&one).await.unwrap().session.unwrap();
    assert_eq!((session.refreshes, session.age), (1, Duration::ZERO));
    assert_eq!(session.remaining, DAY);
    assert_eq!(store.look(&one).await.unwrap().current, Current::This);
}

async fn a_session_is_replaced_whole(store: impl TokenStore, clock: Arc<ManualClock>) {
    let (one, two, three) = (key("u", "1"), key("u", "2"), key("u", "3"));
    store.begin(&one, DAY, 10).await.unwrap();
    clock.advance(DAY / 2);
    assert!(!store.replace(&one, &two.token, 1, DAY).await.unwrap());
    assert!(store.replace(&one, &two.token, 0, DAY).await.unwrap());
    assert_eq!(store.look(&one).await.unwrap().session, None);
    let look = store.look(&two).await.unwrap();
    assert_eq!(
        (look.session.unwrap().refreshes, look.current),
        (1, Current::This)
    );
    assert_eq!(look.session.unwrap().remaining, DAY);
    assert!(
        !store.replace(&one, &three.token, 0, DAY).await.unwrap(),
        "it is gone"
    );
    store.begin(&three, DAY, 10).await.unwrap();
    assert!(store.replace(&two, &one.token, 1, DAY).await.unwrap());
    assert_eq!(
        store.look(&one).await.unwrap().current,
        Current::Other,
        "it was not current"
    );
}

async fn a_user_s_oldest_session_makes_room(store: impl TokenStore, clock: Arc<ManualClock>) {
    for name in ["1", "2", "3", "4"] {
        store.begin(&key("u", name), DAY, 3).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    assert!(store.look(&key("u", "1")).await.unwrap().session.is_none());
    for name in ["2", "3", "4"] {
        assert!(
            store.look(&key("u", name)).await.unwrap().session.is_some(),
            "{name}"
        );
    }
    store.begin(&key("u", "4"), DAY, 3).await.unwrap();
    assert!(
        store.look(&key("u", "2")).await.unwrap().session.is_some(),
        "the same again"
    );
}

async fn a_full_store_takes_no_more_but_keeps_what_it_has(
    store: impl TokenStore,
    clock: Arc<ManualClock>,
) {
    for user in 0..9 {
        store
            .begin(&key(&user.to_string(), "1"), DAY, 10)
            .await
            .unwrap();
    }
    store.put_ticket(&token("t"), b"x", DAY).await.unwrap();
    let error = store.begin(&key("late", "1"), DAY, 10).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
    let error = store.put_ticket(&token("t2"), b"x", DAY).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
    assert!(store.look(&key("0", "1")).await.unwrap().session.is_some());
    clock.advance(DAY);
    store.begin(&key("late", "1"), DAY, 10).await.unwrap();
}

async fn a_ticket_is_taken_once(store: impl TokenStore, clock: Arc<ManualClock>) {
    store.put_ticket(&token("t"), b"grant", DAY).await.unwrap();
    assert_eq!(store.take_ticket(&token("other")).await.unwrap(), None);
    assert_eq!(
        store.take_ticket(&token("t")).await.unwrap().as_deref(),
        Some(&b"grant"[..])
    );
    assert_eq!(store.take_ticket(&token("t")).await.unwrap(), None);
    store.put_ticket(&token("t"), b"grant", DAY).await.unwrap();
    clock.advance(DAY);
    assert_eq!(
        store.take_ticket(&token("t")).await.unwrap(),
        None,
        "too late"
    );
}

#[test]
fn hazard_32_users_of_two_apps_never_meet() {
    let crafted = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")];
    let keys: std::collections::HashSet<_> = crafted
        .iter()
        .map(|(app, user)| UserKey::of(app, user))
        .collect();
    assert_eq!(keys.len(), crafted.len());
}

#[test]
fn a_key_s_text_comes_back() {
    let key = token("x");
    assert_eq!(TokenKey::from_hex(&key.to_string()), Some(key));
    assert_eq!(TokenKey::from_hex(&"g".repeat(64)), None);
    assert_eq!(TokenKey::from_hex("00"), None);
}
