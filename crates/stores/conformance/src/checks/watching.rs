//! Watching: a request that waits is told when the record changes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use onlyonce_core::{Attempt, Changes, Claim, Fenced, Lease, Resolution, Resolved, State, Store};

use crate::Harness;
use crate::rig::{
    LEASE, LIFETIME, NOT_KEPT, OUTCOME_UNKNOWN, Rig, attempt, kept, new_id, retry_of, soon, ticks,
};

/// Told of a completion of every kind.
pub async fn completion_is_told<H: Harness>() {
    for ending in [kept("done"), NOT_KEPT, OUTCOME_UNKNOWN] {
        told::<H>("a completion", async |rig, lease| {
            let keep = ticks::<H>(LIFETIME);
            let done = rig.complete_with(lease, &ending, keep).await;
            assert_eq!(done, Fenced::Applied);
        })
        .await;
    }
}

/// Told of a release.
pub async fn release_is_told<H: Harness>() {
    told::<H>("a release", async |rig, lease| {
        assert_eq!(rig.release(lease).await, Fenced::Applied);
    })
    .await;
}

/// Told of an operator's settlement, either way.
pub async fn resolution_is_told<H: Harness>() {
    let completed = Resolution::Completed {
        status: 200,
        result: None,
    };
    for resolution in [completed, Resolution::NotExecuted] {
        told::<H>("a resolution", async |rig, lease| {
            rig.pass(LEASE).await;
            let resolved = rig.resolve(&lease.id, &resolution).await;
            assert_eq!(resolved, Resolved::Applied);
        })
        .await;
    }
}

/// Told when an operator forgets the record.
pub async fn forgetting_is_told<H: Harness>() {
    told::<H>("forgetting", async |rig, lease| {
        rig.pass(LEASE).await;
        assert_eq!(rig.forget(&lease.id).await, Resolved::Applied);
    })
    .await;
}

/// One task watches, and has been polled, when the record changes; and many do at once.
pub async fn everybody_who_watches_is_told<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let lease = rig.win(&attempt::<H>(new_id())).await;
    let mut watchers = Vec::new();
    for _ in 0..64 {
        let mut watch = rig.watch(&lease.id).await;
        assert_eq!(poll_once(&mut watch), Poll::Pending);
        watchers.push(tokio::spawn(watch));
    }
    assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
    for watcher in watchers {
        soon::<H, _>("each watcher is told", watcher)
            .await
            .expect("watching does not panic");
    }
}

/// A watch on a record that nobody touches stays quiet: else whoever waits would spin.
pub async fn watch_is_quiet_while_nothing_happens<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let lease = rig.win(&attempt::<H>(new_id())).await;
    let bystander = rig.win(&attempt::<H>(new_id())).await;
    let mut watch = rig.watch(&lease.id).await;
    assert_eq!(poll_once(&mut watch), Poll::Pending);
    assert_eq!(rig.complete(&bystander, "other").await, Fenced::Applied);
    assert_eq!(poll_once(&mut watch), Poll::Pending, "another's record");
    drop(watch);
    // What happened before the watch began is not told either.
    assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
    let mut watch = rig.watch(&lease.id).await;
    assert_eq!(poll_once(&mut watch), Poll::Pending, "an earlier change");
}

/// A key may be watched before it has a record.
pub async fn absent_record_can_be_watched<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bid = attempt::<H>(new_id());
    let watch = rig.watch(&bid.id).await;
    let lease = rig.win(&bid).await;
    assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
    soon::<H, _>("the watcher is told", watch).await;
}

/// A lost race tells nobody: a write that was refused is no change, and the true one still is.
pub async fn refused_write_does_not_end_a_watch_for_good<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let lease = rig.win(&attempt::<H>(new_id())).await;
    let watch = rig.watch(&lease.id).await;
    let lost = Lease {
        fence: onlyonce_core::Fence::new(0),
        ..lease.clone()
    };
    assert_eq!(rig.release(&lost).await, Fenced::Superseded);
    assert_eq!(rig.forget(&lease.id).await, Resolved::Refused);
    let task = tokio::spawn(watch);
    assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
    soon::<H, _>("the watcher is told", task)
        .await
        .expect("watching does not panic");
}

/// Hazard 38: a watch that was dropped, told or not, polled or not, leaves nothing behind.
pub async fn hazard_38_dropped_watch_leaves_nothing<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let leases = [
        rig.win(&attempt::<H>(new_id())).await,
        rig.win(&attempt::<H>(new_id())).await,
    ];
    let mut kept_open = rig.watch(&leases[0].id).await;
    for number in 0..500 {
        let mut watch = rig.watch(&leases[number % 2].id).await;
        if number % 3 == 0 {
            let _ = poll_once(&mut watch);
        }
    }
    assert_open(&rig, 1).await;
    assert_eq!(poll_once(&mut kept_open), Poll::Pending);
    assert_eq!(rig.complete(&leases[0], "done").await, Fenced::Applied);
    soon::<H, _>("the watch that was kept is told", kept_open).await;
    assert_open(&rig, 0).await;
}

/// Hazard 18, the store's part: an owner fails and releases its key; of all who wait for it
/// exactly one executes, over and over, and nobody is left waiting.
pub async fn hazard_18_one_waiter_succeeds_each_release<H: Harness>() {
    const WAITERS: u32 = 24;
    const FAILURES: u32 = 5;
    let rig = Rig::<H>::new().await;
    // Leases so long that nothing but the owners' own doing ends them.
    let bid = Attempt {
        lease: Duration::from_secs(3600),
        ..attempt::<H>(new_id())
    };
    let first = rig.win(&bid).await;
    let (at_work, executed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut waiters = Vec::new();
    for _ in 0..WAITERS {
        let (store, bid) = (rig.store(), retry_of(&bid));
        let (at_work, executed) = (Arc::clone(&at_work), Arc::clone(&executed));
        waiters.push(tokio::spawn(async move {
            loop {
                let changed = store.watch(&bid.id).await.expect("a watch");
                match store.claim(&bid).await.expect("a claim") {
                    Claim::Held(record) if matches!(record.state, State::Completed { .. }) => {
                        return;
                    }
                    Claim::Held(_) => changed.await,
                    Claim::Won(lease) => {
                        assert_eq!(at_work.fetch_add(1, Ordering::SeqCst), 0, "alone at work");
                        tokio::task::yield_now().await;
                        let turn = executed.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(at_work.fetch_sub(1, Ordering::SeqCst), 1);
                        let ended = if turn < FAILURES {
                            store.release(&lease).await
                        } else {
                            let lifetime = Duration::from_secs(3600);
                            store.complete(&lease, &kept("done"), lifetime).await
                        };
                        assert_eq!(ended.expect("an ending"), Fenced::Applied);
                        if turn >= FAILURES {
                            return;
                        }
                    }
                }
            }
        }));
    }
    tokio::task::yield_now().await;
    assert_eq!(rig.release(&first).await, Fenced::Applied);
    for waiter in waiters {
        soon::<H, _>("every waiter gets an answer", waiter)
            .await
            .expect("no two are at work at once");
    }
    // A failed owner goes on to wait like the others, so the turns are exactly these.
    assert_eq!(executed.load(Ordering::SeqCst), FAILURES + 1);
    assert_open(&rig, 0).await;
}

/// Watches, lets `change` happen before the watch is first polled, and expects to be told.
async fn told<H: Harness>(what: &str, change: impl AsyncFn(&Rig<H>, &Lease)) {
    for polled_before in [false, true] {
        let rig = Rig::<H>::new().await;
        let lease = rig.win(&attempt::<H>(new_id())).await;
        let mut watch = rig.watch(&lease.id).await;
        if polled_before {
            assert_eq!(poll_once(&mut watch), Poll::Pending);
        }
        change(&rig, &lease).await;
        soon::<H, _>(what, watch).await;
    }
}

fn poll_once(watch: &mut Changes) -> Poll<()> {
    Future::poll(Pin::new(watch), &mut Context::from_waker(Waker::noop()))
}

/// A remote store may end a watch a little later than its drop: asked until patience ends.
async fn assert_open<H: Harness>(rig: &Rig<H>, expected: usize) {
    soon::<H, _>("watches that were dropped leave nothing", async {
        while rig.open_watches() != expected {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
