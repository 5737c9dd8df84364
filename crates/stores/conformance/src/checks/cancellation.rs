//! Cancellation: a dropped future leaves its effect or leaves none, and a store fit for use.

use onlyonce_core::{Claim, Fenced, Inspect, Page, Resolution, Resolved, Store};

use crate::Harness;
use crate::rig::{
    KEEP, LEASE, LIFETIME, Rig, attempt, kept, new_id, poll_then_drop, result_of, retry_of, soon,
    successor_of, ticks,
};

/// Most times that a future is polled before it is dropped.
const POLLS: u32 = 6;

/// Hazards 3 and 41: a claim was given up in mid-way: sent again, it wins.
pub async fn hazard_03_dropped_claim_can_be_sent_again<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for polls in (0..POLLS).cycle().take(48) {
        let bid = attempt::<H>(new_id());
        let store = rig.store();
        let early = poll_then_drop(store.claim(&bid), polls).await;
        let lease = rig.win(&bid).await;
        assert_eq!(lease.attempt, 1);
        if let Some(Ok(Claim::Won(first))) = early {
            assert_eq!(lease, first);
        }
        assert_eq!(rig.held(&retry_of(&bid)).await.fence, lease.fence);
        assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
    }
    rig.assert_fit().await;
}

/// A completion was given up in mid-way: it took effect whole or not at all, and sent again it
/// is applied.
pub async fn dropped_completion_can_be_sent_again<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for polls in (0..POLLS).cycle().take(48) {
        let bid = attempt::<H>(new_id());
        let lease = rig.win(&bid).await;
        let store = rig.store();
        let (completion, keep) = (kept("done"), ticks::<H>(LIFETIME));
        poll_then_drop(store.complete(&lease, &completion, keep), polls).await;
        let between = rig.held(&retry_of(&bid)).await;
        assert_eq!(between.fence, lease.fence);
        if let Some(result) = result_of(&between) {
            assert_eq!(result, "done");
        }
        assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
        let record = rig.held(&retry_of(&bid)).await;
        assert_eq!(result_of(&record), Some("done".into()));
    }
    rig.assert_fit().await;
}

/// A renewal or a release was given up in mid-way: the record is its owner's, or gone.
pub async fn dropped_renewal_or_release_leaves_a_whole_record<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for polls in (0..POLLS).cycle().take(24) {
        let bid = attempt::<H>(new_id());
        let lease = rig.win(&bid).await;
        let renewal = onlyonce_core::Renewal {
            extend: ticks::<H>(LEASE * 2),
            fingerprint: None,
        };
        let store = rig.store();
        poll_then_drop(store.renew(&lease, &renewal), polls).await;
        assert_eq!(rig.renew(&lease).await, Fenced::Applied);
        poll_then_drop(store.release(&lease), polls).await;
        // Either way the owner can find out, and the key can be claimed.
        let left = rig.release(&lease).await;
        if left == Fenced::Superseded {
            assert_eq!(rig.complete(&lease, "late").await, Fenced::Superseded);
        }
        assert_eq!(rig.win(&retry_of(&bid)).await.attempt, 1);
    }
    rig.assert_fit().await;
}

/// Hazard 38: a watch that was given up before it began leaves nothing.
pub async fn hazard_38_dropped_watch_call_leaves_nothing<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let lease = rig.win(&attempt::<H>(new_id())).await;
    let store = rig.store();
    for polls in (0..POLLS).cycle().take(48) {
        drop(poll_then_drop(store.watch(&lease.id), polls).await);
    }
    soon::<H, _>("watches that were given up leave nothing", async {
        while rig.open_watches() != 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
}

/// An operator's command was given up in mid-way: the store works on, and the command can be
/// given again.
pub async fn dropped_inspection_leaves_the_store_fit<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let store = rig.store();
    for polls in (0..POLLS).cycle().take(24) {
        let bid = attempt::<H>(new_id());
        rig.win(&bid).await;
        rig.pass(LEASE).await;
        let page = Page::default();
        poll_then_drop(store.list(&page), polls).await;
        poll_then_drop(store.show(&bid.id), polls).await;
        poll_then_drop(store.count(), polls).await;
        let resolution = Resolution::Completed {
            status: 200,
            result: Some("the operator's".into()),
        };
        poll_then_drop(store.resolve(&bid.id, &resolution), polls).await;
        let again = rig.resolve(&bid.id, &resolution).await;
        assert!(matches!(again, Resolved::Applied | Resolved::Refused));
        let record = rig.held(&successor_of(&bid)).await;
        assert_eq!(result_of(&record), Some("the operator's".into()));
        poll_then_drop(store.forget(&bid.id), polls).await;
        let again = rig.forget(&bid.id).await;
        assert!(matches!(again, Resolved::Applied | Resolved::NotFound));
        assert_eq!(rig.show(&bid.id).await, None);
    }
    rig.assert_fit().await;
}

/// Many operations at once, many of them dropped wherever they happen to be: nothing hangs, and
/// every key can still be used.
pub async fn operations_dropped_under_load_block_nobody<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let ids: Vec<_> = (0..8).map(|_| new_id()).collect();
    let tasks: Vec<_> = (0..32_u32)
        .map(|number| {
            let (store, ids) = (rig.store(), ids.clone());
            tokio::spawn(async move {
                for (turn, id) in (number..).zip(ids.iter().cycle().take(48)) {
                    let bid = attempt::<H>(*id);
                    let claim = poll_then_drop(store.claim(&bid), turn % POLLS).await;
                    let Some(Ok(Claim::Won(lease))) = claim else {
                        continue;
                    };
                    let polls = (turn / 2) % POLLS;
                    if turn % 3 == 0 {
                        let keep = ticks::<H>(1);
                        let completion = kept("done");
                        poll_then_drop(store.complete(&lease, &completion, keep), polls).await;
                    } else {
                        poll_then_drop(store.release(&lease), polls).await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no operation panics");
    }
    // A claim that was dropped may still land a little later, and lives its time then.
    for id in ids {
        let bid = attempt::<H>(id);
        soon::<H, _>("each key can be claimed in the end", async {
            while !matches!(rig.claim(&bid).await, Claim::Won(lease) if lease.attempt == 1) {
                rig.pass(LEASE + KEEP).await;
            }
        })
        .await;
    }
    rig.assert_fit().await;
}
