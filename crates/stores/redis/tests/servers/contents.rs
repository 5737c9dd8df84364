//! What lies on the server: foreign values, expiry, full memory, a lost sequence.

use std::time::Duration;

use onlyonce_core::{
    Attempt, Claim, Fenced, Inspect as _, Lease, Page, RecordId, Renewal, Resolution, Store as _,
    StoreError, StoreErrorKind,
};
use onlyonce_redis::{RedisStore, Warning};
use onlyonce_servers::redis::{Client, Reply, start_redis_with};

use crate::support::{LONG, bid, complete, connect, done, held, new_id, result_of, retry_of, win};

fn key(id: &RecordId) -> String {
    let digits = id.to_string();
    format!("oo:{{{}}}{}", &digits[..3], &digits[3..])
}

/// Every operation on this record, and the kind of its error.
async fn kinds(store: &RedisStore, attempt: &Attempt, lease: &Lease) -> Vec<StoreErrorKind> {
    let renewal = Renewal {
        extend: LONG,
        fingerprint: None,
    };
    let kind = |error: StoreError| error.kind();
    let id = &attempt.id;
    vec![
        store.claim(attempt).await.map_err(kind).unwrap_err(),
        store
            .renew(lease, &renewal)
            .await
            .map_err(kind)
            .unwrap_err(),
        store
            .complete(lease, &done("x"), LONG)
            .await
            .map_err(kind)
            .unwrap_err(),
        store.release(lease).await.map_err(kind).unwrap_err(),
        store.show(id).await.map_err(kind).unwrap_err(),
        store
            .resolve(id, &Resolution::NotExecuted)
            .await
            .map_err(kind)
            .unwrap_err(),
        store.forget(id).await.map_err(kind).unwrap_err(),
        store
            .list(&Page::default())
            .await
            .map_err(kind)
            .unwrap_err(),
    ]
}

/// What can't be decoded is an error of every operation, never a miss, and is left as it is.
#[tokio::test]
async fn hazard_47_what_cannot_be_decoded_fails_closed() {
    let server = start_redis_with(&[]);
    let store = connect(&server.url()).await;
    let mut client = server.client();
    let attempt = bid(new_id());
    let lease = win(&store, &attempt).await;
    let key = key(&attempt.id);
    let cut = |client: &mut Client, script: &str| {
        let done = client.command(&["EVAL", script, "1", &key]);
        assert_eq!(done, Reply::Number(1));
    };
    let original = "redis.call('COPY', KEYS[1], 'original', 'REPLACE') return 1";
    cut(&mut client, original);
    for damage in [
        // Another version; not a record; cut short; something behind its end; no state at all.
        "redis.call('SETRANGE', KEYS[1], 1, '\\2')",
        "redis.call('SETRANGE', KEYS[1], 0, 'X')",
        "redis.call('SET', KEYS[1], redis.call('GETRANGE', KEYS[1], 0, -2))",
        "redis.call('APPEND', KEYS[1], 'x')",
        "redis.call('SETRANGE', KEYS[1], 2, '\\7')",
        "redis.call('SET', KEYS[1], 'E')",
        "redis.call('SET', KEYS[1], '')",
        "redis.call('SET', KEYS[1], 'E\\1\\255')",
        "redis.call('DEL', KEYS[1]) redis.call('LPUSH', KEYS[1], 'x')",
    ] {
        cut(&mut client, &format!("{damage} return 1"));
        let before = client.command(&["DUMP", &key]);
        let kinds = kinds(&store, &attempt, &lease).await;
        let all_corrupt = kinds.iter().all(|kind| *kind == StoreErrorKind::Corrupt);
        assert!(all_corrupt, "{damage}: {kinds:?}");
        assert_eq!(client.command(&["DUMP", &key]), before, "{damage}");
        let restore = "redis.call('COPY', 'original', KEYS[1], 'REPLACE') return 1";
        cut(&mut client, restore);
        assert_eq!(held(&store, &attempt).await.fence, lease.fence);
    }
}

/// The lease's deadline lies in the value: its key goes with the record, and not with the lease.
#[tokio::test]
async fn hazard_43_keys_expire_with_records_and_not_with_leases() {
    let server = start_redis_with(&[]);
    let store = connect(&server.url()).await;
    let mut client = server.client();
    let mut left = |id: &RecordId| match client.command(&["PTTL", &key(id)]) {
        Reply::Number(millis) => Duration::from_millis(u64::try_from(millis).unwrap()),
        other => panic!("{other:?}"),
    };
    let day = Duration::from_secs(24 * 3600);
    let attempt = Attempt {
        lease: Duration::from_millis(1),
        keep: day,
        ..bid(new_id())
    };
    let lease = win(&store, &attempt).await;
    assert!(left(&attempt.id) > day - Duration::from_secs(60));
    assert!(left(&attempt.id) <= day + attempt.lease);
    complete(&store, &lease, "done").await;
    assert!(left(&attempt.id) > LONG - Duration::from_secs(60));
    assert!(left(&attempt.id) <= LONG);
}

/// Hazard 11: the sequence of fences is gone, by accident or by a failover: the next fence is
/// newer all the same, and so it is when the sequence is ahead of the clock.
#[tokio::test]
async fn hazard_11_fences_grow_though_their_sequence_is_lost() {
    let server = start_redis_with(&[]);
    let store = connect(&server.url()).await;
    let mut client = server.client();
    let mut highest = win(&store, &bid(new_id())).await.fence;
    for loss in [&["DEL", "oo:fence"][..], &["FLUSHALL"]] {
        client.command(loss);
        let fence = win(&store, &bid(new_id())).await.fence;
        assert!(fence > highest);
        highest = fence;
    }
    // As after the clock went back: a year ahead of it.
    let ahead = highest.get() + 365 * 24 * 3600 * 1_000_000;
    client.expect_ok(&["SET", "oo:fence", &ahead.to_string()]);
    for _ in 0..3 {
        let fence = win(&store, &bid(new_id())).await.fence;
        assert!(fence.get() > ahead && fence > highest);
        highest = fence;
    }
    client.expect_ok(&["SET", "oo:fence", "not a number"]);
    let error = store.claim(&bid(new_id())).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
}

/// Memory is full: no new claims, but what is known is told, and what is under way gets its
/// record. No live record goes.
#[tokio::test]
async fn hazard_49_full_memory_refuses_claims_and_nothing_else() {
    let server = start_redis_with(&["--maxmemory-policy", "noeviction"]);
    let store = connect(&server.url()).await;
    let (finished, under_way) = (bid(new_id()), bid(new_id()));
    let lease = win(&store, &finished).await;
    complete(&store, &lease, "known").await;
    let lease = win(&store, &under_way).await;
    let mut client = server.client();
    client.expect_ok(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = store.claim(&bid(new_id())).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
    assert_eq!(
        result_of(&held(&store, &finished).await),
        Some(&b"known"[..])
    );
    let renewal = Renewal {
        extend: LONG,
        fingerprint: None,
    };
    assert_eq!(
        store.renew(&lease, &renewal).await.unwrap(),
        Fenced::Applied
    );
    complete(&store, &lease, "landed").await;
    assert_eq!(
        result_of(&held(&store, &under_way).await),
        Some(&b"landed"[..])
    );
    // A store that comes now says what is wrong, and works as far as it can.
    let late = connect(&server.url()).await;
    let full = |warning: &Warning| matches!(warning, Warning::Full { .. });
    assert!(late.warnings().iter().any(full), "{:?}", late.warnings());
    client.expect_ok(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(matches!(
        late.claim(&retry_of(&bid(new_id()))).await,
        Ok(Claim::Won(_))
    ));
}
