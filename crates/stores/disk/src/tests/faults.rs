//! A disk that fails.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use onlyonce_core::StoreErrorKind;

use super::*;
use crate::disk::sim::{Call, Crash, Fault, Image, Traced};
use crate::log::segment_name;

/// Claims and completes keys until something fails; says what was acknowledged, and the error.
async fn work(store: &DiskStore) -> (Vec<usize>, Vec<usize>, Option<StoreError>) {
    let (mut claimed, mut completed) = (Vec::new(), Vec::new());
    for key in 0..12 {
        let lease = match with_upkeep(store, store.claim(&attempt(key))).await {
            Ok(Claim::Won(lease)) => lease,
            Ok(Claim::Held(record)) => panic!("nobody else claims {key}: {record:?}"),
            Err(error) => return (claimed, completed, Some(error)),
        };
        claimed.push(key);
        let done = kept(vec![7; 800]);
        match with_upkeep(store, store.complete(&lease, &done, KEEP)).await {
            Ok(fenced) => assert_eq!(fenced, Fenced::Applied),
            Err(error) => return (claimed, completed, Some(error)),
        }
        completed.push(key);
    }
    (claimed, completed, None)
}

fn fail_at(disk: &SimDisk, number: usize, call: Call, fault: Fault) -> Arc<AtomicBool> {
    let (seen, failed) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let told = Arc::clone(&failed);
    disk.interfere(move |asked, name| {
        let log = name.ends_with(".log");
        if asked == call && log && seen.fetch_add(1, Ordering::Relaxed) == number {
            failed.store(true, Ordering::Relaxed);
            return Some(fault);
        }
        None
    });
    told
}

fn find(image: Image, clock: &Arc<ManualClock>, claimed: &[usize], completed: &[usize]) {
    let store = open(&SimDisk::new(image), clock).unwrap();
    block_on(async {
        for key in claimed {
            assert!(show(&store, *key).await.is_some(), "{key} was acknowledged");
        }
        for key in completed {
            let record = show(&store, *key).await.unwrap();
            assert!(matches!(record.state, State::Completed { .. }));
        }
    });
}

/// The disk fails once, at each call of this kind in turn. The store stops, and stays stopped;
/// what it acknowledged is there when it is opened again.
fn poisoned_at_each(call: Call, fault: Fault) {
    for number in 0.. {
        let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
        let store = open(&disk, &clock).unwrap();
        let failed = fail_at(&disk, number, call, fault);
        let (claimed, completed, error) = block_on(work(&store));
        if !failed.load(Ordering::Relaxed) {
            assert!(error.is_none() && number > 10, "{error:?}");
            return;
        }
        let sealing = error.is_none();
        if !sealing {
            assert_eq!(error.unwrap().kind(), StoreErrorKind::Poisoned);
            assert!(store.stats().poisoned);
            // No retry on dirty pages: nothing is written any more, and nothing answered.
            let length = disk.trace().len();
            block_on(async {
                let error = store.claim(&attempt(0)).await.unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::Poisoned);
                assert!(store.show(&id(0)).await.is_err());
                assert!(store.watch(&id(0)).await.is_err());
            });
            assert_eq!(store.close().unwrap_err().kind(), StoreErrorKind::Poisoned);
            assert_eq!(disk.trace().len(), length);
        }
        drop(store);
        let crash = Crash::at_end_of(&disk.base(), &disk.trace());
        find(crash.image(|_| false), &clock, &claimed, &completed);
        find(crash.image(|_| true), &clock, &claimed, &completed);
        find(
            crash.image(|doubt| doubt % 2 == 0),
            &clock,
            &claimed,
            &completed,
        );
        // The process alone was started again: the system still holds what it did not flush.
        find(disk.live(), &clock, &claimed, &completed);
    }
}

#[test]
fn hazard_46_a_failed_flush_poisons_the_store() {
    poisoned_at_each(Call::Sync, Fault::Fail(io::ErrorKind::Other));
    poisoned_at_each(Call::Sync, Fault::Fail(io::ErrorKind::StorageFull));
}

#[test]
fn hazard_46_a_failed_write_poisons_the_store() {
    poisoned_at_each(Call::Write, Fault::Fail(io::ErrorKind::Other));
}

#[test]
fn hazard_46_what_a_failed_flush_left_in_memory_is_flushed_before_it_is_shown() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let store = open(&disk, &clock).unwrap();
    fail_at(&disk, 0, Call::Sync, Fault::Fail(io::ErrorKind::Other));
    block_on(async { store.claim(&attempt(1)).await.unwrap_err() });
    drop(store);
    disk.behave();
    // Opened on the system's memory: the claim may be shown only if it survives from now on.
    let store = open(&disk, &clock).unwrap();
    let shown = block_on(show(&store, 1)).is_some();
    let crash = Crash::at_end_of(&disk.base(), &disk.trace());
    drop(store);
    let store = open(&SimDisk::new(crash.image(|_| false)), &clock).unwrap();
    assert_eq!(block_on(show(&store, 1)).is_some(), shown);
    assert!(shown, "it was read back");
}

#[test]
fn short_writes_are_carried_on() {
    for length in [1, 7, 512, 600] {
        let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
        let store = open(&disk, &clock).unwrap();
        disk.interfere(move |call, _| (call == Call::Write).then_some(Fault::Short(length)));
        let (claimed, completed, error) = block_on(work(&store));
        assert!(error.is_none());
        drop(store);
        disk.behave();
        find(disk.live(), &clock, &claimed, &completed);
    }
}

/// A disk on which even preallocated room is not sure, at each write in turn.
#[test]
fn hazard_46_a_full_disk_in_mid_write_loses_nothing_and_is_waited_out() {
    for number in 0..6 {
        let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
        let store = Arc::new(open(&disk, &clock).unwrap());
        let (seen, full) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(true)));
        let still = Arc::clone(&full);
        disk.interfere(move |call, name| {
            let due = call == Call::Write
                && name.ends_with(".log")
                && seen.fetch_add(1, Ordering::Relaxed) >= number
                && still.load(Ordering::Relaxed);
            due.then_some(Fault::Fail(io::ErrorKind::StorageFull))
        });
        let (claimed, completed) = block_on(async {
            let working = {
                let store = Arc::clone(&store);
                async move { work(&store).await }
            };
            let watching = {
                let store = Arc::clone(&store);
                async move {
                    while !store.stats().full {
                        tokio::task::yield_now().await;
                    }
                    // New claims are refused at once; nobody waits for room that may not come.
                    let error = store.claim(&attempt(77)).await.unwrap_err();
                    assert_eq!(error.kind(), StoreErrorKind::Full);
                    full.store(false, Ordering::Relaxed);
                }
            };
            let ((claimed, completed, error), ()) = tokio::join!(working, watching);
            // What was being written has landed; the claims begun meanwhile were refused.
            if let Some(error) = error {
                assert_eq!(error.kind(), StoreErrorKind::Full);
            }
            with_upkeep(&store, win(&store, 78)).await;
            (claimed, completed)
        });
        find(disk.live(), &clock, &claimed, &completed);
    }
}

#[test]
fn hazard_46_a_full_disk_refuses_new_claims_and_lands_what_is_under_way() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let store = open(&disk, &clock).unwrap();
    disk.interfere(|call, name| {
        let growing = name.ends_with(".spare") && matches!(call, Call::Create | Call::Write);
        growing.then_some(Fault::Fail(io::ErrorKind::StorageFull))
    });
    block_on(async {
        let mut leases = Vec::new();
        let error = loop {
            let attempt = attempt(leases.len());
            match with_upkeep(&store, store.claim(&attempt)).await {
                Ok(Claim::Won(lease)) => leases.push(lease),
                Ok(Claim::Held(_)) => panic!("each key is new"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), StoreErrorKind::Full);
        assert!(error.to_string().contains("make room"), "{error}");
        assert!(store.stats().full && leases.len() > 3);
        for (key, lease) in leases.iter().enumerate() {
            finish(&store, lease, vec![1; 100], KEEP).await;
            assert!(show(&store, key).await.is_some());
        }
        // A replay takes no room.
        assert!(matches!(
            store.claim(&attempt(0)).await.unwrap(),
            Claim::Held(_)
        ));
        // There is room again: found out by the upkeep, by itself.
        disk.behave();
        upkeep(&store);
        assert!(!store.stats().full);
        with_upkeep(&store, win(&store, 500)).await;
    });
}

/// What survives if from now on nothing that was not flushed does: it must open, and hold this.
fn survives_without_what_was_not_flushed(disk: &SimDisk, clock: &Arc<ManualClock>, key: usize) {
    let crash = Crash::at_end_of(&disk.base(), &disk.trace());
    let store = open(&SimDisk::new(crash.image(|_| false)), clock).unwrap();
    let found = block_on(show(&store, key));
    assert!(found.is_some(), "{key} was acknowledged");
}

/// The process ends between a segment's rename and the flush of the folder. The next one sees
/// the new name, which is in the system's memory alone, and goes on writing there.
#[test]
fn hazard_46_a_new_segments_name_is_flushed_before_anything_is_acknowledged_in_it() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let store = open(&disk, &clock).unwrap();
    disk.interfere(|call, _| {
        (call == Call::SyncFolder).then_some(Fault::Fail(io::ErrorKind::Other))
    });
    let (_, _, error) = block_on(work(&store));
    assert_eq!(error.unwrap().kind(), StoreErrorKind::Poisoned);
    drop(store);
    disk.behave();
    let store = open(&disk, &clock).unwrap();
    assert!(disk.live().contains_key(&segment_name(2)), "it was renamed");
    block_on(win(&store, 500));
    survives_without_what_was_not_flushed(&disk, &clock, 500);
}

/// The mark of a proper end may be in the system's memory alone, like anything else.
#[test]
fn hazard_46_a_close_whose_flush_failed_leaves_no_hole() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let store = open(&disk, &clock).unwrap();
    block_on(win(&store, 1));
    fail_at(&disk, 0, Call::Sync, Fault::Fail(io::ErrorKind::Other));
    assert_eq!(store.close().unwrap_err().kind(), StoreErrorKind::Poisoned);
    drop(store);
    disk.behave();
    let store = open(&disk, &clock).unwrap();
    block_on(win(&store, 500));
    survives_without_what_was_not_flushed(&disk, &clock, 500);
}

/// A torn end is overwritten with zeros, and the flush of these fails: at the second try the
/// system shows zeros where the disk still holds what was torn.
#[test]
fn hazard_46_zeros_whose_flush_failed_are_written_again() {
    for closed_before in [false, true] {
        let (mut disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
        let mut store = open(&disk, &clock).unwrap();
        let lease = block_on(win(&store, 1));
        if closed_before {
            drop(store);
            disk = SimDisk::new(disk.live());
            store = open(&disk, &clock).unwrap();
        }
        block_on(finish(&store, &lease, vec![7; 3000], KEEP));
        let mut trace = disk.trace();
        drop(store);
        assert!(matches!(trace.pop(), Some(Traced::Sync { .. })));
        let crash = Crash::at_end_of(&disk.base(), &trace);
        let last = crash.doubts() - 1;
        let disk = SimDisk::new(crash.image(|doubt| doubt != last));
        fail_at(&disk, 0, Call::Sync, Fault::Fail(io::ErrorKind::Other));
        open(&disk, &clock).unwrap_err();
        disk.behave();
        let store = open(&disk, &clock).unwrap();
        block_on(win(&store, 500));
        survives_without_what_was_not_flushed(&disk, &clock, 500);
    }
}

/// A listing reads completed records from the disk; one that was moved meanwhile is still there.
#[test]
fn a_record_that_moves_while_it_is_listed_is_listed() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let store = open(&disk, &clock).unwrap();
    block_on(async {
        let lease = win(&store, 1).await;
        finish(&store, &lease, vec![7; 100], KEEP).await;
        // As if the segment had gone, and the record with it to another, just before it is read.
        fail_at(&disk, 0, Call::Open, Fault::Fail(io::ErrorKind::NotFound));
        let listed = store.list(&onlyonce_core::Page::default()).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].id, id(1));
    });
}

/// A clock whose reading fails once, as any foreign code may.
#[derive(Debug)]
struct FailingClock(Arc<ManualClock>, Arc<AtomicBool>);

impl onlyonce_core::Clock for FailingClock {
    fn now(&self) -> onlyonce_core::Timestamp {
        assert!(!self.1.load(Ordering::Relaxed), "the clock is broken");
        self.0.now()
    }
}

#[test]
fn a_step_that_panics_leaves_nobody_waiting() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let broken = Arc::new(AtomicBool::new(false));
    let failing = FailingClock(Arc::clone(&clock), Arc::clone(&broken));
    let store = open_with(&disk, &builder(&clock).clock(failing)).unwrap();
    let store = Arc::new(store);
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    disk.interfere(move |call, _| {
        if call == Call::Sync {
            let _ = held.lock().unwrap().recv();
        }
        None
    });
    block_on(async {
        // The first one's flush takes its time, the second one waits for the next.
        let claim = |key| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.claim(&attempt(key)).await })
        };
        let first = claim(1);
        while store.stats().records < 1 || !store.shared.lock().queue.is_empty() {
            tokio::task::yield_now().await;
        }
        let second = claim(2);
        while store.stats().records < 2 {
            tokio::task::yield_now().await;
        }
        broken.store(true, Ordering::Relaxed);
        claim(3).await.unwrap_err();
        drop(hold);
        let error = second.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Poisoned);
        let _ = first.await.unwrap();
        assert!(store.stats().poisoned);
    });
    broken.store(false, Ordering::Relaxed);
}

/// What an expired record hides may rise again after a crash, for as long as its frame is not
/// durable: that it is gone may not be told before.
#[test]
fn an_absence_by_expiry_is_told_when_it_is_durable() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let store = Arc::new(open(&disk, &clock).unwrap());
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
            let keep = Duration::from_millis(1);
            tokio::spawn(async move { finish(&store, &lease, vec![1; 50], keep).await })
        };
        while store.shared.lock().index.in_progress() > 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_millis(1));
        // Swept or not.
        let asked: Vec<_> = [false, true]
            .into_iter()
            .map(|swept| {
                if swept {
                    upkeep(&store);
                }
                let mut showing = Box::pin(show(&store, 1));
                let mut listing =
                    Box::pin(async { store.list(&onlyonce_core::Page::default()).await.unwrap() });
                let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
                let shown = showing.as_mut().poll(context).is_ready();
                let listed = listing.as_mut().poll(context).is_ready();
                (swept, shown, listed)
            })
            .collect();
        drop(hold);
        completing.await.unwrap();
        assert_eq!(asked, [(false, false, false), (true, false, false)]);
        assert!(show(&store, 1).await.is_none());
        assert!(
            store
                .list(&onlyonce_core::Page::default())
                .await
                .unwrap()
                .is_empty()
        );
    });
}
