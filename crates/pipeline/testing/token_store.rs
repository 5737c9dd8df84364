//! What every token store on a server does alike; its tests take this file in.

use std::time::Duration;

use onlyonce_core::StoreErrorKind;
use onlyonce_pipeline::auth::store::{
    Current, SessionKey, TokenKey, TokenStore, TokenStoreError, UserKey,
};
use onlyonce_pipeline::auth::{TokenError, TokenKeys, Tokens};
use onlyonce_pipeline::context::Identity;

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn key(user: u8, token: u8) -> SessionKey {
    SessionKey {
        user: UserKey::from_bytes([user; 32]),
        token: TokenKey::from_bytes([token; 32]),
    }
}

async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(30);
    let waited = tokio::time::timeout(limit, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"));
}

/// `here` and `there` are two processes on one server.
pub(crate) async fn keeps_sessions_for_all<S: TokenStore>(here: &S, there: &S) {
    // What there is of a session.
    let one = key(1, 1);
    let nothing = there.look(&one).await.unwrap();
    assert_eq!((nothing.session, nothing.current), (None, Current::None));
    here.begin(&one, DAY, 10).await.unwrap();
    let look = there.look(&one).await.unwrap();
    assert_eq!(look.current, Current::This);
    let session = look.session.unwrap();
    assert_eq!(session.refreshes, 0);
    assert!(session.age < DAY / 2 && session.remaining > DAY / 2 && session.remaining <= DAY);
    assert_eq!(
        there.look(&key(2, 1)).await.unwrap().session,
        None,
        "another user's"
    );

    // A later login is the current one.
    let two = key(1, 2);
    there.begin(&two, DAY, 10).await.unwrap();
    assert_eq!(here.look(&one).await.unwrap().current, Current::Other);
    assert_eq!(here.look(&two).await.unwrap().current, Current::This);

    // A refresh counts once.
    assert!(here.extend(&one, 0, 2 * DAY).await.unwrap());
    assert!(!there.extend(&one, 0, 2 * DAY).await.unwrap());
    let session = there.look(&one).await.unwrap().session.unwrap();
    assert_eq!(session.refreshes, 1);
    assert!(session.remaining > DAY);
    assert!(
        !here.extend(&key(1, 9), 0, DAY).await.unwrap(),
        "there is none"
    );

    // A session is replaced whole; the same step again, as after a lost answer, is as good.
    let three = key(1, 3);
    assert!(!here.replace(&two, &three.token, 7, DAY).await.unwrap());
    assert!(here.replace(&two, &three.token, 0, DAY).await.unwrap());
    assert!(here.replace(&two, &three.token, 0, DAY).await.unwrap());
    assert!(!there.replace(&two, &key(1, 4).token, 0, DAY).await.unwrap());
    assert_eq!(there.look(&two).await.unwrap().session, None);
    let look = there.look(&three).await.unwrap();
    assert_eq!(
        (look.session.unwrap().refreshes, look.current),
        (1, Current::This)
    );

    // Ended on one, ended on all.
    assert!(here.end(&three).await.unwrap());
    assert!(!there.end(&three).await.unwrap());
    assert_eq!(there.look(&one).await.unwrap().current, Current::None);
    assert!(there.look(&one).await.unwrap().session.is_some());
    here.begin(&two, DAY, 10).await.unwrap();
    here.begin(&key(2, 1), DAY, 10).await.unwrap();
    here.end_all(&one.user).await.unwrap();
    for ended in [one, two] {
        assert_eq!(there.look(&ended).await.unwrap().session, None);
    }
    assert!(there.look(&key(2, 1)).await.unwrap().session.is_some());

    // A user's oldest makes room.
    for (token, days) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
        here.begin(&key(3, token), days * DAY, 3).await.unwrap();
    }
    assert_eq!(there.look(&key(3, 1)).await.unwrap().session, None);
    for token in [2, 3, 4] {
        assert!(
            there.look(&key(3, token)).await.unwrap().session.is_some(),
            "{token}"
        );
    }

    // What has expired is absent, and does not come back; the current one neither.
    let brief = key(4, 1);
    here.begin(&brief, Duration::from_millis(300), 10)
        .await
        .unwrap();
    here.begin(&key(4, 2), DAY, 10).await.unwrap();
    here.begin(&brief, Duration::from_millis(300), 10)
        .await
        .unwrap();
    until("expired", async || {
        there.look(&brief).await.unwrap().session.is_none()
    })
    .await;
    assert_eq!(there.look(&key(4, 2)).await.unwrap().current, Current::None);
    assert!(there.look(&key(4, 2)).await.unwrap().session.is_some());
    assert!(!here.extend(&brief, 0, DAY).await.unwrap());
    assert!(
        !here
            .replace(&brief, &key(4, 3).token, 0, DAY)
            .await
            .unwrap()
    );
    assert!(!here.end(&brief).await.unwrap());
}

pub(crate) async fn gives_a_ticket_to_one<S: TokenStore + Clone>(here: &S, there: &S) {
    let ticket = TokenKey::from_bytes([7; 32]);
    let grant = [0, 255, 10, 13, b'"'];
    here.put_ticket(&ticket, &grant, DAY).await.unwrap();
    let takers: Vec<_> = (0..20_u32)
        .map(|number| {
            let store = if number.is_multiple_of(2) {
                here
            } else {
                there
            }
            .clone();
            tokio::spawn(async move { store.take_ticket(&ticket).await.unwrap() })
        })
        .collect();
    let mut taken = Vec::new();
    for taker in takers {
        taken.extend(taker.await.unwrap());
    }
    assert_eq!(taken, [grant]);
    here.put_ticket(&ticket, &grant, Duration::from_millis(1))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(there.take_ticket(&ticket).await.unwrap(), None);
}

/// Of all who refresh at once, one does.
pub(crate) async fn lets_one_refresh<S: TokenStore + Clone>(here: &S, there: &S) {
    let session = key(5, 1);
    here.begin(&session, DAY, 10).await.unwrap();
    let tries: Vec<_> = (10..30)
        .map(|number: u8| {
            let store = if number.is_multiple_of(2) {
                here
            } else {
                there
            }
            .clone();
            let token = key(5, number).token;
            tokio::spawn(async move { store.replace(&session, &token, 0, DAY).await.unwrap() })
        })
        .collect();
    let mut done = 0;
    for attempt in tries {
        done += u32::from(attempt.await.unwrap());
    }
    assert_eq!(done, 1);
}

/// Logins, logouts and refreshes of one user at once: none waits for another for ever.
pub(crate) async fn works_under_contention<S: TokenStore + Clone>(here: &S, there: &S) {
    let tasks: Vec<_> = (0..40u8)
        .map(|number| {
            let store = if number.is_multiple_of(2) {
                here
            } else {
                there
            }
            .clone();
            tokio::spawn(async move {
                for round in 0..10u8 {
                    let session = key(6, number ^ round);
                    store.begin(&session, DAY, 5).await?;
                    store.extend(&session, 0, DAY).await?;
                    store
                        .replace(&session, &key(6, 100 + number).token, 1, DAY)
                        .await?;
                    store.end(&session).await?;
                    store.end(&key(6, 100 + number)).await?;
                }
                Ok::<_, TokenStoreError>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

fn tokens<S: TokenStore + Clone>(store: &S, timeout: Duration) -> Tokens {
    let keys = TokenKeys::hs256(b"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge").unwrap();
    let builder = Tokens::builder("admin", keys).with_store(store.clone());
    let builder = builder.with_multi_login(false).with_store_timeout(timeout);
    builder.build().unwrap()
}

/// Logged in here, known there; while the server is gone nobody is let in.
pub(crate) async fn serves_tokens<S: TokenStore + Clone>(
    here: &S,
    there: &S,
    mut stop: impl FnMut(),
    mut start: impl FnMut(),
) {
    let timeout = Duration::from_secs(10);
    let (here, there) = (tokens(here, timeout), tokens(there, timeout));
    let alice = Identity::new("alice", "admin");
    let first = here.login(&alice).await.unwrap().token;
    assert_eq!(there.verify(&first).await.unwrap().id, "alice");
    let second = there.login(&alice).await.unwrap().token;
    let error = here.verify(&first).await.unwrap_err();
    assert!(matches!(error, TokenError::LoggedInElsewhere), "{error}");
    stop();
    match here.verify(&second).await.unwrap_err() {
        TokenError::Store(error) => assert!(
            matches!(
                error.kind(),
                StoreErrorKind::Unavailable | StoreErrorKind::Timeout
            ),
            "{error}"
        ),
        other => panic!("{other}"),
    }
    start();
    until("back", async || here.verify(&second).await.is_ok()).await;
    there.logout(&second).await.unwrap();
    let error = here.verify(&second).await.unwrap_err();
    assert!(matches!(error, TokenError::Ended), "{error}");
}
