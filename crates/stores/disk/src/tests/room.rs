//! Room on the disk and in memory, time, and what things cost.

use onlyonce_core::{Clock as _, StoreErrorKind};

use super::*;
use crate::Durability;
use crate::disk::sim::{Call, Fault, Image};
use crate::log::segment::{self, SegmentHeader};

fn fresh() -> (SimDisk, Arc<ManualClock>, DiskStore) {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let store = open(&disk, &clock).unwrap();
    (disk, clock, store)
}

async fn pair(store: &DiskStore, key: usize, length: usize, keep: Duration) {
    let lease = with_upkeep(store, win(store, key)).await;
    with_upkeep(store, finish(store, &lease, vec![3; length], keep)).await;
}

#[test]
fn one_request_alone_costs_exactly_two_flushes() {
    let (disk, _, store) = fresh();
    block_on(async {
        for key in 0..3 {
            let before = (store.stats(), disk.trace().len());
            let lease = win(&store, key).await;
            assert_eq!(store.stats().flushes, before.0.flushes + 1);
            finish(&store, &lease, vec![1; 50], KEEP).await;
            let after = store.stats();
            assert_eq!(after.flushes, before.0.flushes + 2);
            assert_eq!(after.batches, before.0.batches + 2);
            // Two writes and two flushes, and nothing else at all.
            assert_eq!(disk.trace().len(), before.1 + 4);
            // Nor does a replay, a refusal or a second completion write anything.
            assert!(matches!(
                store.claim(&attempt(key)).await.unwrap(),
                Claim::Held(_)
            ));
            finish(&store, &lease, vec![2; 50], KEEP).await;
            assert_eq!(disk.trace().len(), before.1 + 4);
        }
    });
}

#[test]
fn requests_that_arrive_together_share_a_flush() {
    let (disk, _, store) = fresh();
    let store = Arc::new(store);
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    block_on(async {
        // The disk takes its time over the first one's flush; meanwhile seven others come.
        disk.interfere(move |call, _| {
            if call == Call::Sync {
                let _ = held.lock().unwrap().recv();
            }
            None
        });
        let before = store.stats();
        let claim = |key| {
            let store = Arc::clone(&store);
            async move { win(&store, key).await }
        };
        let mut tasks = vec![tokio::spawn(claim(0))];
        // Until the writer has taken it.
        while store.shared.lock().queue.is_empty() && store.stats().records == 0 {
            tokio::task::yield_now().await;
        }
        while !store.shared.lock().queue.is_empty() {
            tokio::task::yield_now().await;
        }
        tasks.extend((1..8).map(|key| tokio::spawn(claim(key))));
        while store.stats().records < 8 {
            tokio::task::yield_now().await;
        }
        drop(hold);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(store.stats().flushes, before.flushes + 2);
    });
}

#[test]
fn nothing_is_shown_before_it_is_durable() {
    let (disk, _, store) = fresh();
    let store = Arc::new(store);
    block_on(async {
        let lease = win(&store, 1).await;
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        disk.interfere(move |call, _| {
            if call == Call::Sync {
                let _ = held.lock().unwrap().recv();
            }
            None
        });
        let completing = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { finish(&store, &lease, vec![1; 50], KEEP).await })
        };
        while store.shared.lock().index.in_progress() > 0 {
            tokio::task::yield_now().await;
        }
        // The completion is decided, and not durable: nobody may learn of it.
        let replay = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { show(&store, 1).await })
        };
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(!replay.is_finished() && !completing.is_finished());
        drop(hold);
        completing.await.unwrap();
        assert!(replay.await.unwrap().is_some());
    });
}

#[test]
fn a_store_at_its_limit_refuses_claims_until_records_expire() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let limit = u64::from(SEGMENT) * 5;
    let store = open_with(&disk, &builder(&clock).max_bytes(limit)).unwrap();
    block_on(async {
        let open = with_upkeep(&store, win(&store, 9999)).await;
        let mut key = 0;
        let error = loop {
            match with_upkeep(&store, store.claim(&attempt(key))).await {
                Ok(Claim::Won(lease)) => {
                    with_upkeep(&store, finish(&store, &lease, vec![3; 700], KEEP)).await;
                }
                Ok(Claim::Held(_)) => panic!("each key is new"),
                Err(error) => break error,
            }
            key += 1;
        };
        assert_eq!(error.kind(), StoreErrorKind::Full);
        assert!(error.to_string().contains("limit"), "{error}");
        assert!(store.stats().allocated_bytes <= limit);
        assert!(key > 20, "{key}");
        // Live records are never evicted.
        for key in 0..key {
            assert!(show(&store, key).await.is_some(), "{key}");
        }
        finish(&store, &open, vec![1; 700], KEEP * 50).await;
        clock.advance(KEEP);
        upkeep(&store);
        for key in 1000..1010 {
            pair(&store, key, 700, KEEP).await;
        }
        assert!(show(&store, 9999).await.is_some());
        assert!(store.stats().allocated_bytes <= limit);
    });
    let _ = disk;
}

#[test]
fn hazard_38_expired_records_give_back_memory_and_disk() {
    let (disk, clock, store) = fresh();
    block_on(async {
        // One that lives long, in the very first segment.
        pair(&store, 5000, 100, KEEP * 1000).await;
        for round in 0..10 {
            for key in 0..20 {
                pair(&store, round * 20 + key, 500, KEEP).await;
            }
            clock.advance(KEEP);
            upkeep(&store);
            upkeep(&store);
            let stats = store.stats();
            assert_eq!(stats.records, 1);
            let most = u64::from(SEGMENT) * 4;
            assert!(stats.allocated_bytes <= most, "round {round}: {stats:?}");
        }
        assert!(show(&store, 5000).await.is_some());
    });
    let logs = disk
        .live()
        .into_keys()
        .filter(|name| name.ends_with(".log"));
    assert!(logs.count() <= 3);
}

#[test]
fn hazard_11_fences_go_on_when_all_that_carried_them_is_gone() {
    for durability in [
        Durability::Record,
        Durability::Relaxed {
            every: Duration::from_secs(60),
        },
    ] {
        let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
        let builder = builder(&clock).durability(durability);
        let store = open_with(&disk, &builder).unwrap();
        let highest = block_on(async {
            for key in 0..40 {
                pair(&store, key, 500, KEEP).await;
            }
            let highest = with_upkeep(&store, win(&store, 40)).await;
            let _ = store.release(&highest).await.unwrap();
            clock.advance(KEEP);
            upkeep(&store);
            highest.fence
        });
        assert_eq!(store.stats().records, 0);
        drop(store);
        let store = open_with(&SimDisk::new(disk.live()), &builder).unwrap();
        let next = block_on(with_upkeep(&store, win(&store, 1)));
        assert!(next.fence > highest);
    }
}

#[test]
fn hazard_11_an_empty_newest_segment_carries_the_fence_on() {
    let disk = SimDisk::new(Image::new());
    let header = SegmentHeader {
        store: [1; 16],
        number: 5,
        capacity: SEGMENT,
        first_seq: 1000,
        fence: 77,
        time: 0,
        oldest: 5,
        previous_end: 0,
    };
    segment::create_spare(&disk, 5, SEGMENT, None).unwrap();
    segment::begin(&disk, &header).unwrap();
    let store = open(&disk, &Arc::new(ManualClock::new())).unwrap();
    assert_eq!(block_on(win(&store, 1)).fence, Fence::new(78));
}

#[test]
fn hazard_11_relaxed_durability_loses_claims_and_never_a_fence() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let every = Duration::from_secs(60);
    let builder = builder(&clock).durability(Durability::Relaxed { every });
    let store = open_with(&disk, &builder).unwrap();
    let told = block_on(async {
        win(&store, 0).await;
        win(&store, 1).await
    });
    let crash = crate::disk::sim::Crash::at_end_of(&disk.base(), &disk.trace());
    drop(store);
    let store = open_with(&SimDisk::new(crash.image(|_| false)), &builder).unwrap();
    block_on(async {
        assert!(show(&store, 1).await.is_none(), "it was not flushed");
        assert!(win(&store, 2).await.fence > told.fence);
    });
}

/// A clock that was set back between two runs makes nothing last longer than it did.
#[test]
fn hazard_13_a_clock_set_back_between_runs_lengthens_nothing() {
    let (disk, clock, store) = fresh();
    clock.advance(Duration::from_secs(1_000_000));
    block_on(async {
        win(&store, 1).await;
        clock.advance(Duration::from_secs(4));
        pair(&store, 2, 10, KEEP).await;
    });
    drop(store);
    let early = Arc::new(ManualClock::new());
    assert!(early.now() < clock.now());
    let store = open(&SimDisk::new(disk.live()), &early).unwrap();
    block_on(async {
        let record = show(&store, 1).await.unwrap();
        let State::InProgress { lease_left } = record.state else {
            panic!("{record:?}");
        };
        assert_eq!(lease_left, Duration::from_secs(6));
        assert_eq!(show(&store, 2).await.unwrap().expires_in, KEEP);
        early.advance(KEEP);
        assert!(show(&store, 2).await.is_none());
    });
}

/// After a crash nobody takes over before the lease has run out that was last promised.
#[test]
fn a_renewed_lease_outlives_a_crash() {
    let (disk, clock, store) = fresh();
    block_on(async {
        let lease = win(&store, 1).await;
        clock.advance(LEASE / 2);
        let renewal = onlyonce_core::Renewal {
            extend: LEASE,
            fingerprint: None,
        };
        assert_eq!(
            store.renew(&lease, &renewal).await.unwrap(),
            Fenced::Applied
        );
    });
    let crash = crate::disk::sim::Crash::at_end_of(&disk.base(), &disk.trace());
    drop(store);
    let store = open(&SimDisk::new(crash.image(|_| false)), &clock).unwrap();
    let retry = Attempt {
        on_unknown: OnUnknown::Retry,
        ..attempt(1)
    };
    block_on(async {
        clock.advance(LEASE - Duration::from_millis(1));
        assert!(matches!(store.claim(&retry).await.unwrap(), Claim::Held(_)));
        clock.advance(Duration::from_millis(1));
        let Claim::Won(lease) = store.claim(&retry).await.unwrap() else {
            panic!("the lease has run out");
        };
        assert_eq!(lease.attempt, 2);
    });
}

#[test]
fn a_record_longer_than_a_segment_gets_one_of_its_own() {
    let (disk, clock, store) = fresh();
    block_on(async {
        for (key, length) in [(1, 100_000), (2, 10), (3, 20_000)] {
            pair(&store, key, length, KEEP).await;
        }
    });
    drop(store);
    let store = open(&disk, &clock).unwrap();
    block_on(async {
        for (key, length) in [(1, 100_000), (2, 10), (3, 20_000)] {
            let record = show(&store, key).await.unwrap();
            let State::Completed {
                kept: Some(kept), ..
            } = record.state
            else {
                panic!("{key} is completed");
            };
            assert_eq!(kept, vec![3; length]);
        }
    });
}

#[test]
fn a_closed_store_says_so_and_its_folder_can_be_opened_again() {
    let (disk, clock, store) = fresh();
    let second = open(&disk, &clock).unwrap_err();
    assert_eq!(second.kind(), StoreErrorKind::Misconfigured);
    assert!(
        second.to_string().contains("is open in another process"),
        "{second}"
    );
    store.close().unwrap();
    store.close().unwrap();
    let error = block_on(store.claim(&attempt(1))).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let again = open(&disk, &clock).unwrap();
    block_on(win(&again, 1));
}

/// The end of a claim may use the room to its last bytes, but not those in which the store says
/// that old room is free: it would stay full for ever.
#[test]
fn a_store_filled_to_its_last_bytes_finds_room_again() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let limit = u64::from(SEGMENT) * 4;
    let builder = builder(&clock).max_bytes(limit);
    let store = open_with(&disk, &builder).unwrap();
    let full = |error: StoreError| assert_eq!(error.kind(), StoreErrorKind::Full);
    block_on(async {
        let mut key = 0;
        loop {
            match with_upkeep(&store, store.claim(&attempt(key))).await {
                Ok(Claim::Won(lease)) => {
                    with_upkeep(&store, finish(&store, &lease, vec![3; 100], KEEP)).await;
                }
                Ok(Claim::Held(_)) => panic!("each key is new"),
                Err(error) => break full(error),
            }
            key += 1;
        }
        // An operator forgets records from the newest on, which takes room before it gives any.
        for key in (0..key).rev() {
            if let Err(error) = with_upkeep(&store, store.forget(&id(key))).await {
                full(error);
                break;
            }
        }
        // How far that comes depends on how soon segments are given back meanwhile.
    });
    // Nor does opening and closing it use them up.
    drop(store);
    let store = open_with(&disk, &builder).unwrap();
    store.close().unwrap();
    let store = open_with(&disk, &builder).unwrap();
    block_on(async {
        clock.advance(KEEP);
        upkeep(&store);
        with_upkeep(&store, win(&store, 9999)).await;
    });
    assert!(store.stats().allocated_bytes <= limit);
}

/// One record that asks for too much says nothing of the others.
#[test]
fn a_store_is_not_full_because_one_record_was_too_long_for_it() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let limit = u64::from(SEGMENT) * 40;
    let store = open_with(&disk, &builder(&clock).max_bytes(limit)).unwrap();
    block_on(async {
        let lease = with_upkeep(&store, win(&store, 500)).await;
        let error = with_upkeep(
            &store,
            store.complete(&lease, &kept(vec![1; 600_000]), KEEP),
        )
        .await
        .unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Full);
        upkeep(&store);
        assert!(!store.stats().full);
    });
}

/// After a segment could not be made, it is some seconds before that is tried again. Who asks for
/// room meanwhile learns at once that there is none.
#[test]
fn nobody_waits_for_a_segment_that_is_not_tried_yet() {
    let (disk, _, store) = fresh();
    disk.interfere(|call, name| {
        let growing = name.ends_with(".spare") && call == Call::Write;
        growing.then_some(Fault::Fail(std::io::ErrorKind::StorageFull))
    });
    block_on(async {
        let lease = win(&store, 1).await;
        let mut upkeep = Upkeep::new(Arc::clone(&store.shared));
        for _ in 0..3 {
            let done = kept(vec![1; 20_000]);
            let mut completing = Box::pin(store.complete(&lease, &done, KEEP));
            let error = std::future::poll_fn(|context| {
                let polled = completing.as_mut().poll(context);
                if polled.is_ready() {
                    return polled;
                }
                upkeep.round(SHARDS);
                completing.as_mut().poll(context)
            })
            .await
            .unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Full);
            // Nothing else needs room: the store does not count as full.
            upkeep.round(SHARDS);
        }
    });
}

/// With the log filled to its end, what little lives in the oldest segment is moved into the
/// room that is kept back: else one long-lived record would keep all that is dead.
#[test]
fn one_long_lived_record_does_not_keep_a_full_store_full() {
    const SEGMENT: u32 = 256 << 10;
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let limit = u64::from(SEGMENT) * 4;
    let builder = builder(&clock).max_bytes(limit);
    let store = DiskStore::start(Arc::new(disk), "sim", &builder, SEGMENT).unwrap();
    block_on(async {
        pair(&store, 9000, 100, KEEP * 1000).await;
        let open = with_upkeep(&store, win(&store, 9001)).await;
        let mut key = 0;
        while let Ok(Claim::Won(lease)) = with_upkeep(&store, store.claim(&attempt(key))).await {
            with_upkeep(&store, finish(&store, &lease, vec![3; 3000], KEEP)).await;
            key += 1;
        }
        // What is under way uses the rest.
        let renewal = onlyonce_core::Renewal {
            extend: LEASE,
            fingerprint: None,
        };
        while with_upkeep(&store, store.renew(&open, &renewal))
            .await
            .is_ok()
        {}
        clock.advance(KEEP * 2);
        upkeep(&store);
        with_upkeep(&store, win(&store, 9999)).await;
        assert!(show(&store, 9000).await.is_some());
    });
    assert!(store.stats().allocated_bytes <= limit);
}
