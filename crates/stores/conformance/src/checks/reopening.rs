//! Closing and opening: what was acknowledged is there again, and nothing else.

use std::time::Duration;

use onlyonce_core::{Attempt, Fenced, Lease, Resolution, Resolved};

use crate::checks::fencing::assert_powerless;
use crate::rig::{
    KEEP, LEASE, LIFETIME, Lasting, NOT_KEPT, OUTCOME_UNKNOWN, Rig, attempt, kept, new_id,
    result_of, retry_of, successor_of, ticks,
};
use crate::{ExactTime, Reopen};

/// Records in every state come back as they were, results byte for byte.
pub async fn records_come_back<H: Reopen>() {
    let rig = Rig::<H>::new().await;
    let large: Vec<u8> = (0_u8..=250).cycle().take(1 << 20).collect();
    let endings = [
        None,
        Some(kept("done")),
        Some(kept("")),
        Some(kept(large)),
        Some(NOT_KEPT),
        Some(OUTCOME_UNKNOWN),
    ];
    let mut before = Vec::new();
    for ending in endings {
        let bid = attempt::<H>(new_id());
        let lease = rig.win(&bid).await;
        if let Some(ending) = ending {
            let keep = ticks::<H>(LIFETIME);
            let done = rig.complete_with(&lease, &ending, keep).await;
            assert_eq!(done, Fenced::Applied);
        }
        let record = rig.record(&bid.id).await;
        before.push((bid, Lasting::of(&record), record.expires_in));
    }
    let rig = rig.reopen().await;
    let rig = rig.reopen().await;
    for (bid, before, expires_in) in before {
        let record = rig.held(&retry_of(&bid)).await;
        assert!(Lasting::of(&record) == before, "{:?}", record.fence);
        assert!(record.expires_in <= expires_in, "opening prolongs nothing");
        assert!(record.expires_in + ticks::<H>(LEASE) > expires_in);
    }
}

/// What was released, forgotten, settled as not executed, or had expired stays gone.
pub async fn what_is_gone_stays_gone<H: Reopen>() {
    let rig = Rig::<H>::new().await;
    let bids: [_; 4] = std::array::from_fn(|_| attempt::<H>(new_id()));
    let mut leases = Vec::new();
    for bid in &bids {
        leases.push(rig.win(bid).await);
    }
    assert_eq!(rig.release(&leases[0]).await, Fenced::Applied);
    assert_eq!(rig.complete(&leases[1], "done").await, Fenced::Applied);
    assert_eq!(rig.forget(&bids[1].id).await, Resolved::Applied);
    rig.pass(LEASE).await;
    let resolved = rig.resolve(&bids[2].id, &Resolution::NotExecuted).await;
    assert_eq!(resolved, Resolved::Applied);
    let rig = rig.reopen().await;
    for bid in &bids[..3] {
        assert_eq!(rig.show(&bid.id).await, None);
    }
    assert!(rig.show(&bids[3].id).await.is_some());
    rig.pass(KEEP).await;
    let rig = rig.reopen().await;
    for (bid, lease) in bids.iter().zip(&leases) {
        assert_eq!(rig.show(&bid.id).await, None);
        assert_powerless(&rig, lease).await;
        assert_eq!(rig.win(&retry_of(bid)).await.attempt, 1);
    }
}

/// Time goes on where it was: a record that was half through its life is half through it.
pub async fn deadlines_are_kept<H: Reopen>() {
    let rig = Rig::<H>::new().await;
    let (open, done) = (attempt::<H>(new_id()), attempt::<H>(new_id()));
    rig.win(&open).await;
    let lease = rig.win(&done).await;
    assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
    rig.pass(LEASE / 2).await;
    let rig = rig.reopen().await;
    assert_eq!(rig.held(&successor_of(&open)).await.attempt, 1);
    rig.pass(LEASE / 2 + 1).await;
    assert_eq!(rig.win(&successor_of(&open)).await.attempt, 2);
    rig.pass(LIFETIME).await;
    let rig = rig.reopen().await;
    assert_eq!(rig.win(&retry_of(&done)).await.attempt, 1);
}

/// A record is renewed as before: what it is to be kept beyond its lease is not rounded down.
pub async fn fractions_of_a_millisecond_survive<H: ExactTime + Reopen>() {
    let rig = Rig::<H>::new().await;
    let bid = Attempt {
        lease: Duration::from_millis(10),
        keep: Duration::from_micros(1_001),
        ..attempt::<H>(new_id())
    };
    let lease = rig.win(&bid).await;
    let rig = rig.reopen().await;
    for extend in [10, 3].map(Duration::from_millis) {
        let renewed = rig.renew_with(&lease, extend, None).await;
        assert_eq!(renewed, Fenced::Applied);
        let expected = extend + Duration::from_millis(2);
        assert_eq!(rig.record(&bid.id).await.expires_in, expected);
    }
}

/// Hazard 11: fences never go back, not even when every record went before the store closed.
pub async fn hazard_11_fences_grow_across_reopening<H: Reopen>() {
    let mut rig = Rig::<H>::new().await;
    let mut highest = None;
    for round in 0..4 {
        for _ in 0..20 {
            let bid = attempt::<H>(new_id());
            let lease = rig.win(&bid).await;
            assert!(Some(lease.fence) > highest, "{:?}", lease.fence);
            highest = Some(lease.fence);
            if round % 2 == 0 {
                assert_eq!(rig.release(&lease).await, Fenced::Applied);
            }
        }
        if round == 1 {
            rig.pass(LEASE + KEEP).await;
        }
        rig = rig.reopen().await;
    }
    // A fence that only a resolution drew counts as well.
    let bid = attempt::<H>(new_id());
    rig.win(&bid).await;
    rig.pass(LEASE).await;
    let resolution = Resolution::Completed {
        status: 200,
        result: None,
    };
    assert_eq!(rig.resolve(&bid.id, &resolution).await, Resolved::Applied);
    let drawn = rig.record(&bid.id).await.fence;
    assert_eq!(rig.forget(&bid.id).await, Resolved::Applied);
    let rig = rig.reopen().await;
    assert!(rig.win(&attempt::<H>(new_id())).await.fence > drawn);
}

/// An owner goes on across it: it may renew, complete, and complete again; a claim whose reply
/// was lost in between is sent again and wins.
pub async fn owners_go_on<H: Reopen>() {
    let rig = Rig::<H>::new().await;
    let bid = attempt::<H>(new_id());
    let lease = rig.win(&bid).await;
    let rig = rig.reopen().await;
    assert_eq!(rig.win(&bid).await, lease);
    assert_eq!(rig.renew(&lease).await, Fenced::Applied);
    let rig = rig.reopen().await;
    assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
    let rig = rig.reopen().await;
    assert_eq!(rig.complete(&lease, "other").await, Fenced::Applied);
    let record = rig.held(&retry_of(&bid)).await;
    assert_eq!(result_of(&record), Some("done".into()));
}

/// An owner that was superseded before it stays superseded after it.
pub async fn late_owners_stay_fenced_off<H: Reopen>() {
    let rig = Rig::<H>::new().await;
    let bid = attempt::<H>(new_id());
    let late = rig.win(&bid).await;
    rig.pass(LEASE).await;
    let successor = rig.win(&successor_of(&bid)).await;
    let rig = rig.reopen().await;
    assert_powerless(&rig, &late).await;
    assert_eq!(rig.release(&successor).await, Fenced::Applied);
    let rig = rig.reopen().await;
    for lease in [&late, &successor] {
        assert_powerless::<H>(&rig, lease as &Lease).await;
    }
    assert_eq!(rig.win(&retry_of(&bid)).await.attempt, 1);
}
