use super::*;
use crate::auth::store::Current;
use crate::auth::store::tests::{DAY, key};
use onlyonce_core::ManualClock;
use std::sync::Arc;

fn open(path: &std::path::Path, clock: &Arc<ManualClock>) -> DiskTokenStore {
    DiskTokenStore::open_with(path, 1000, Arc::clone(clock)).unwrap()
}

#[tokio::test]
async fn sessions_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let clock = Arc::new(ManualClock::new());
    let (one, two, three) = (key("u", "1"), key("u", "2"), key("v", "1"));
    {
        let store = open(&path, &clock);
        store.begin(&one, DAY, 10).await.unwrap();
        store.begin(&two, DAY, 10).await.unwrap();
        store.begin(&three, DAY, 10).await.unwrap();
        assert!(store.extend(&two, 0, 2 * DAY).await.unwrap());
        assert!(store.end(&three).await.unwrap());
    }
    clock.advance(DAY);
    let store = open(&path, &clock);
    assert_eq!(
        store.look(&one).await.unwrap().session,
        None,
        "it has expired"
    );
    let two = store.look(&two).await.unwrap();
    assert_eq!(two.current, Current::This);
    let session = two.session.unwrap();
    assert_eq!(
        (session.refreshes, session.age, session.remaining),
        (1, DAY, DAY)
    );
    assert_eq!(
        store.look(&three).await.unwrap().session,
        None,
        "it was ended"
    );
}

#[tokio::test]
async fn a_write_that_was_cut_off_is_cut_and_damage_before_it_refuses_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let clock = Arc::new(ManualClock::new());
    {
        let store = open(&path, &clock);
        store.begin(&key("u", "1"), DAY, 10).await.unwrap();
        store.begin(&key("u", "2"), DAY, 10).await.unwrap();
    }
    let whole = std::fs::read(&path).unwrap();
    let second = whole.len()
        - whole
            .iter()
            .rev()
            .skip(1)
            .position(|b| *b == b'\n')
            .unwrap()
        - 1;
    for cut in second + 1..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let store = open(&path, &clock);
        assert!(
            store.look(&key("u", "1")).await.unwrap().session.is_some(),
            "cut at {cut}"
        );
        assert!(
            store.look(&key("u", "2")).await.unwrap().session.is_none(),
            "cut at {cut}"
        );
        store.begin(&key("u", "3"), DAY, 10).await.unwrap();
        drop(store);
        let store = open(&path, &clock);
        assert!(
            store.look(&key("u", "3")).await.unwrap().session.is_some(),
            "cut at {cut}"
        );
    }
    let mut damaged = whole.clone();
    damaged[second - 5] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let error = DiskTokenStore::open(&path).unwrap_err();
    assert!(
        matches!(error, OpenDiskTokenStoreError::Damaged { line: 2, .. }),
        "{error}"
    );
    std::fs::write(&path, "something else\n").unwrap();
    let error = DiskTokenStore::open(&path).unwrap_err();
    assert!(
        matches!(error, OpenDiskTokenStoreError::Foreign(_)),
        "{error}"
    );
}

#[tokio::test]
async fn one_process_at_a_time_opens_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let first = DiskTokenStore::open(&path).unwrap();
    let error = DiskTokenStore::open(&path).unwrap_err();
    assert!(
        matches!(error, OpenDiskTokenStoreError::Locked(_)),
        "{error}"
    );
    drop(first);
    DiskTokenStore::open(&path).unwrap();
}

#[tokio::test]
async fn the_file_does_not_grow_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let clock = Arc::new(ManualClock::new());
    let store = open(&path, &clock);
    store.begin(&key("u", "kept"), DAY, 10).await.unwrap();
    // As if there had been many before, without waiting for the disk a thousand times.
    let change = Change::Remove {
        session: key("v", "gone"),
    };
    store
        .inner
        .log
        .lock()
        .unwrap()
        .append(&vec![change; 10_000])
        .unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() > 1024 * 1024);
    store.begin(&key("v", "next"), DAY, 10).await.unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 1024);
    store.begin(&key("w", "after"), DAY, 10).await.unwrap();
    drop(store);
    let store = open(&path, &clock);
    for session in [key("u", "kept"), key("v", "next"), key("w", "after")] {
        assert!(store.look(&session).await.unwrap().session.is_some());
    }
}

#[tokio::test]
async fn the_file_holds_no_token_and_is_its_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let store = DiskTokenStore::open(&path).unwrap();
    store
        .begin(&key("alice", "secret-token"), DAY, 10)
        .await
        .unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        !text.contains("secret-token") && !text.contains("alice"),
        "{text}"
    );
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
