//! Answers that don't come: lost, late, cut off, and servers that are killed.

use std::time::Duration;

use onlyonce_core::{Claim, Fenced, Renewal, Store as _, StoreErrorKind};
use onlyonce_redis::RedisStore;
use onlyonce_servers::proxy::{Fault, Proxy};
use onlyonce_servers::redis::{Reply, start_redis, start_redis_with};

use crate::support::{
    LONG, bid, complete, connect, done, eventually, held, new_id, open, result_of, retry_of, win,
};

const SHORT: Duration = Duration::from_millis(300);

async fn through(proxy: &Proxy, limit: Duration) -> RedisStore {
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    open(RedisStore::builder(&url).timeout(limit)).await
}

/// The claim lands, and its answer is lost: sent again it wins, with the same fence.
#[tokio::test]
async fn hazard_03_claim_whose_answer_is_lost_can_be_sent_again() {
    let server = start_redis_with(&[]);
    let proxy = Proxy::start(server.port());
    let (store, other) = (through(&proxy, SHORT).await, connect(&server.url()).await);
    let bid = bid(new_id());
    proxy.set(Fault::SwallowReplies);
    let error = store.claim(&bid).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Timeout, "{error}");
    let landed = held(&other, &bid).await;
    proxy.set(Fault::None);
    let lease = eventually("the claim", || store.claim(&bid)).await;
    let Claim::Won(lease) = lease else {
        panic!("it is its own: {lease:?}");
    };
    assert_eq!((lease.fence, lease.attempt), (landed.fence, 1));
}

/// The connection breaks in place of an answer: each step is sent again by itself, and the answer
/// is the one that was lost.
#[tokio::test]
async fn hazard_41_steps_are_repeated_when_the_connection_breaks() {
    let server = start_redis_with(&[]);
    let proxy = Proxy::start(server.port());
    let store = std::sync::Arc::new(through(&proxy, Duration::from_secs(10)).await);
    let bid = bid(new_id());
    let cut_once = || {
        proxy.set(Fault::CutInsteadOfReply);
        let before = proxy.replies();
        // Heals as soon as one answer has been cut off.
        async move |proxy: &Proxy| {
            while proxy.replies() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            proxy.set(Fault::None);
        }
    };
    let heal = cut_once();
    let (claimed, ()) = tokio::join!(store.claim(&bid), heal(&proxy));
    let Ok(Claim::Won(lease)) = claimed else {
        panic!("{claimed:?}");
    };
    assert_eq!(lease.attempt, 1);
    let heal = cut_once();
    let renewal = Renewal {
        extend: LONG,
        fingerprint: None,
    };
    let (renewed, ()) = tokio::join!(store.renew(&lease, &renewal), heal(&proxy));
    assert_eq!(renewed.unwrap(), Fenced::Applied);
    let heal = cut_once();
    let completion = done("once");
    let (completed, ()) = tokio::join!(store.complete(&lease, &completion, LONG), heal(&proxy));
    assert_eq!(completed.unwrap(), Fenced::Applied);
    assert_eq!(result_of(&held(&store, &bid).await), Some(&b"once"[..]));
}

/// A release is not repeated by itself: the second answer could not tell whose doing it was.
#[tokio::test]
async fn release_is_sent_once() {
    let server = start_redis_with(&[]);
    let proxy = Proxy::start(server.port());
    let store = through(&proxy, Duration::from_secs(10)).await;
    let lease = win(&store, &bid(new_id())).await;
    proxy.set(Fault::CutInsteadOfReply);
    let error = store.release(&lease).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    proxy.set(Fault::None);
    let again = eventually("the release", || store.release(&lease)).await;
    assert_eq!(again, Fenced::Superseded, "the first one did it");
}

/// The other end is gone without a word: requests fail in time, and the connection is given up
/// although nothing ever closed it.
#[tokio::test]
async fn half_open_connection_is_replaced() {
    let server = start_redis_with(&[]);
    let proxy = Proxy::start(server.port());
    let store = through(&proxy, SHORT).await;
    proxy.set(Fault::HalfOpen);
    let error = store.claim(&bid(new_id())).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    // The old connection stays dead: the proxy has thrown away what it was to pass on, and the
    // answers that come from now on would be to other questions.
    proxy.set(Fault::None);
    let bid = bid(new_id());
    let claim = eventually("a claim on a new connection", || store.claim(&bid)).await;
    assert!(matches!(claim, Claim::Won(_)), "{claim:?}");
}

/// Requests are given up at every moment, while others are under way on the same connection: each
/// answer still goes to its own question.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hazard_44_given_up_requests_do_not_shift_answers() {
    let server = start_redis_with(&[]);
    let proxy = Proxy::start(server.port());
    let store = through(&proxy, Duration::from_secs(20)).await;
    proxy.set(Fault::Delay(Duration::from_millis(2)));
    let tasks: Vec<_> = (0..16_u64)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..30_u64 {
                    let given_up = bid(new_id());
                    let patience = Duration::from_micros((task * 31 + round * 17) % 1_500);
                    let _ = tokio::time::timeout(patience, store.claim(&given_up)).await;
                    let mine = bid(new_id());
                    let label: Box<str> = format!("{task}/{round}").into();
                    let mine = onlyonce_core::Attempt {
                        label: label.clone(),
                        ..mine
                    };
                    let lease = win(&store, &mine).await;
                    let record = held(&store, &mine).await;
                    assert_eq!((record.fence, record.label), (lease.fence, label));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Killed before each step of a request, and started again: what was acknowledged is there.
#[tokio::test]
async fn acknowledged_steps_survive_a_kill_of_the_server() {
    let mut server = start_redis();
    let store = connect(&server.url()).await;
    let bid = bid(new_id());
    let restart = |server: &mut onlyonce_servers::redis::Redis| {
        server.kill();
        server.start();
    };
    restart(&mut server);
    let claim = eventually("the claim", || store.claim(&bid)).await;
    let Claim::Won(lease) = claim else {
        panic!("{claim:?}");
    };
    restart(&mut server);
    assert_eq!(held(&store, &bid).await.fence, lease.fence);
    restart(&mut server);
    let renewal = Renewal {
        extend: LONG,
        fingerprint: None,
    };
    let renewed = eventually("the renewal", || store.renew(&lease, &renewal)).await;
    assert_eq!(renewed, Fenced::Applied);
    restart(&mut server);
    complete(&store, &lease, "kept").await;
    restart(&mut server);
    assert_eq!(result_of(&held(&store, &bid).await), Some(&b"kept"[..]));
    assert_eq!(
        store.release(&lease).await.unwrap(),
        Fenced::Superseded,
        "completed is completed"
    );
}

/// A server that is down: an error in time that can be tried again, and no hanging.
#[tokio::test]
async fn server_that_is_down_is_unavailable() {
    let mut server = start_redis();
    let store = open(RedisStore::builder(&server.url()).timeout(SHORT)).await;
    server.kill();
    let error = store.claim(&bid(new_id())).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    let error = store.watch(&new_id()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    server.start();
    let bid = bid(new_id());
    let claim = eventually("the claim", || store.claim(&bid)).await;
    assert!(matches!(claim, Claim::Won(_)));
}

/// The scripts are gone in between: they are sent again, and nothing else changes.
#[tokio::test]
async fn hazard_44_scripts_are_reloaded() {
    let server = start_redis_with(&[]);
    let store = connect(&server.url()).await;
    let mut client = server.client();
    let mut flush = || client.expect_ok(&["SCRIPT", "FLUSH"]);
    let bid = bid(new_id());
    flush();
    let lease = win(&store, &bid).await;
    flush();
    assert_eq!(held(&store, &bid).await.fence, lease.fence);
    flush();
    complete(&store, &lease, "done").await;
    flush();
    assert_eq!(store.release(&lease).await.unwrap(), Fenced::Superseded);
}

/// The connection on which announcements come breaks: who watches is told, as an announcement may
/// have been missed, and can watch again.
#[tokio::test]
async fn watches_end_when_their_connection_breaks() {
    let server = start_redis_with(&[]);
    let store = connect(&server.url()).await;
    let bid = bid(new_id());
    let lease = win(&store, &bid).await;
    let watch = store.watch(&bid.id).await.unwrap();
    let mut client = server.client();
    let killed = client.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(killed, Reply::Number(1));
    let soon = Duration::from_secs(10);
    tokio::time::timeout(soon, watch).await.expect("told");
    let watch = eventually("another watch", || store.watch(&bid.id)).await;
    complete(&store, &lease, "done").await;
    tokio::time::timeout(soon, watch).await.expect("told");
    assert_eq!(store.open_watches(), 0);
    assert!(result_of(&held(&store, &retry_of(&bid)).await).is_some());
}
