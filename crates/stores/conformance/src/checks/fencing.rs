//! Fencing: an owner that lost its record changes nothing any more, however it lost it.

use onlyonce_core::{Fence, Fenced, Lease, RecordId, Resolution, Resolved};

use crate::Harness;
use crate::rig::{
    KEEP, LEASE, LIFETIME, Lasting, OUTCOME_UNKNOWN, Rig, attempt, fingerprint, kept, new_id,
    result_of, retry_of, successor_of, ticks,
};

/// Hazards 10 and 42: it slept past its lease, and a successor is at work.
pub async fn hazard_10_late_owner_after_take_over<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let first = attempt::<H>(new_id());
    let late = rig.win(&first).await;
    rig.pass(LEASE).await;
    let successor = rig.win(&successor_of(&first)).await;
    assert_powerless(&rig, &late).await;
    assert_eq!(rig.renew(&successor).await, Fenced::Applied);
    assert_eq!(rig.complete(&successor, "second").await, Fenced::Applied);
    assert_powerless(&rig, &late).await;
    let record = rig.held(&retry_of(&first)).await;
    assert_eq!(result_of(&record), Some("second".into()));
}

/// Each of a chain of owners is fenced off, not only the last but one.
pub async fn hazard_42_late_owners_of_every_generation<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let first = attempt::<H>(new_id());
    let mut lost = vec![rig.win(&first).await];
    for generation in 2..=5 {
        rig.pass(LEASE).await;
        let next = rig.win(&successor_of(&first)).await;
        assert_eq!(next.attempt, generation);
        for late in &lost {
            assert_powerless(&rig, late).await;
        }
        lost.push(next);
    }
}

/// Hazard 11: the key was released and claimed anew.
pub async fn hazard_11_late_owner_after_release_and_claim<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let first = attempt::<H>(new_id());
    let late = rig.win(&first).await;
    assert_eq!(rig.release(&late).await, Fenced::Applied);
    assert_powerless(&rig, &late).await;
    let next = rig.win(&retry_of(&first)).await;
    assert_eq!(next.attempt, 1);
    assert_powerless(&rig, &late).await;
    assert_eq!(rig.complete(&next, "next").await, Fenced::Applied);
}

/// Hazard 11: an operator forgot the record, and the key was claimed anew.
pub async fn hazard_11_late_owner_after_forget_and_claim<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let first = attempt::<H>(new_id());
    let late = rig.win(&first).await;
    rig.pass(LEASE).await;
    assert_eq!(rig.forget(&first.id).await, Resolved::Applied);
    assert_powerless(&rig, &late).await;
    let next = rig.win(&retry_of(&first)).await;
    assert_eq!(next.attempt, 1);
    assert_powerless(&rig, &late).await;
    assert_eq!(rig.complete(&next, "next").await, Fenced::Applied);
}

/// An operator settled the record as executed while its owner slept.
pub async fn late_owner_after_resolution_as_completed<H: Harness>() {
    for result in [None, Some("the operator's".into())] {
        let rig = Rig::<H>::new().await;
        let first = attempt::<H>(new_id());
        let late = rig.win(&first).await;
        rig.pass(LEASE).await;
        let resolution = Resolution::Completed {
            status: 200,
            result: result.clone(),
        };
        assert_eq!(rig.resolve(&first.id, &resolution).await, Resolved::Applied);
        assert_powerless(&rig, &late).await;
        assert_eq!(result_of(&rig.held(&retry_of(&first)).await), result);
    }
}

/// An operator settled the record as not executed, and the key was claimed anew.
pub async fn late_owner_after_resolution_as_not_executed<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let first = attempt::<H>(new_id());
    let late = rig.win(&first).await;
    rig.pass(LEASE).await;
    let resolved = rig.resolve(&first.id, &Resolution::NotExecuted).await;
    assert_eq!(resolved, Resolved::Applied);
    assert_powerless(&rig, &late).await;
    let next = rig.win(&retry_of(&first)).await;
    assert_eq!(next.attempt, 1);
    assert_powerless(&rig, &late).await;
    assert_eq!(rig.complete(&next, "next").await, Fenced::Applied);
}

/// Hazard 11: the record expired (swept or not), and then the key was claimed anew.
pub async fn hazard_11_late_owner_after_expiry<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let first = attempt::<H>(new_id());
    let late = rig.win(&first).await;
    rig.pass(LEASE + KEEP).await;
    assert_powerless(&rig, &late).await;
    assert_eq!(rig.show(&first.id).await, None, "it stays gone");
    let next = rig.win(&retry_of(&first)).await;
    assert_eq!(next.attempt, 1);
    assert_powerless(&rig, &late).await;
    assert_eq!(rig.complete(&next, "next").await, Fenced::Applied);
    // The completed record expires too, and the owner that completed it is late as well.
    rig.pass(LIFETIME).await;
    assert_powerless(&rig, &next).await;
}

/// Once it has completed its record, an owner has no more say: it can neither renew, nor release,
/// nor mark it unknown. (That it may complete again is [`completion`](super::completion)'s.)
pub async fn owner_after_its_completion<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for ending in [kept("done"), OUTCOME_UNKNOWN] {
        let first = attempt::<H>(new_id());
        let lease = rig.win(&first).await;
        let keep = ticks::<H>(LIFETIME);
        let done = rig.complete_with(&lease, &ending, keep).await;
        assert_eq!(done, Fenced::Applied);
        let before = rig.record(&first.id).await;
        assert_eq!(rig.renew(&lease).await, Fenced::Superseded);
        assert_eq!(rig.release(&lease).await, Fenced::Superseded);
        let after = rig.record(&first.id).await;
        assert_eq!(Lasting::of(&after), Lasting::of(&before));
        assert!(after.expires_in <= before.expires_in, "nothing was renewed");
    }
}

/// Fences that were never handed out for this record fit nowhere, whatever their number.
pub async fn foreign_fences_fit_nowhere<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let (first, other) = (attempt::<H>(new_id()), attempt::<H>(new_id()));
    let lease = rig.win(&first).await;
    let others = rig.win(&other).await;
    let number = lease.fence.get();
    let numbers = [0, number.wrapping_sub(1), number.wrapping_add(1), u64::MAX];
    let fences = numbers.map(Fence::new).into_iter().chain([others.fence]);
    for fence in fences.filter(|fence| *fence != lease.fence) {
        let forged = Lease {
            fence,
            ..lease.clone()
        };
        assert_powerless(&rig, &forged).await;
    }
    let misdirected = Lease {
        id: new_id(),
        ..lease.clone()
    };
    assert_powerless(&rig, &misdirected).await;
    assert_eq!(rig.complete(&lease, "mine").await, Fenced::Applied);
    assert_eq!(rig.complete(&others, "mine").await, Fenced::Applied);
}

/// A lease that ran out is still its owner's as long as nobody took over: a slow renewal or
/// completion lands.
pub async fn lapsed_lease_still_writes<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let [renews, completes, releases, gives_up] = std::array::from_fn(|_| attempt::<H>(new_id()));
    let mut leases = Vec::new();
    for attempt in [&renews, &completes, &releases, &gives_up] {
        leases.push(rig.win(attempt).await);
    }
    rig.pass(LEASE + 1).await;
    assert_eq!(rig.renew(&leases[0]).await, Fenced::Applied);
    assert_eq!(rig.complete(&leases[1], "late").await, Fenced::Applied);
    assert_eq!(rig.release(&leases[2]).await, Fenced::Applied);
    let keep = ticks::<H>(LIFETIME);
    let unknown = rig.complete_with(&leases[3], &OUTCOME_UNKNOWN, keep).await;
    assert_eq!(unknown, Fenced::Applied);
    let record = rig.held(&retry_of(&completes)).await;
    assert_eq!(result_of(&record), Some("late".into()));
}

/// Fences come from one sequence for the whole store: each is higher than every one before,
/// over all records and all their lives.
pub async fn hazard_11_fences_grow_store_wide<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let ids: [RecordId; 4] = std::array::from_fn(|_| new_id());
    let mut last = None;
    for round in 0..3 {
        for id in ids {
            let bid = attempt::<H>(id);
            let lease = rig.win(&bid).await;
            assert_grown(&mut last, lease.fence);
            rig.pass(LEASE).await;
            let lease = rig.win(&successor_of(&bid)).await;
            assert_grown(&mut last, lease.fence);
            // Each round ends its records' lives in another way.
            match round {
                0 => assert_eq!(rig.release(&lease).await, Fenced::Applied),
                1 => {
                    assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
                    assert_eq!(rig.forget(&id).await, Resolved::Applied);
                }
                _ => rig.pass(LEASE + KEEP).await,
            }
        }
    }
}

/// A resolution draws a fence of its own, newer than its record's.
pub async fn resolution_takes_a_newer_fence<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let first = attempt::<H>(new_id());
    let lease = rig.win(&first).await;
    rig.pass(LEASE).await;
    let resolution = Resolution::Completed {
        status: 200,
        result: None,
    };
    assert_eq!(rig.resolve(&first.id, &resolution).await, Resolved::Applied);
    let resolved = rig.record(&first.id).await.fence;
    assert!(resolved > lease.fence);
    let next = rig.win(&attempt::<H>(new_id())).await;
    assert!(next.fence > resolved);
}

fn assert_grown(last: &mut Option<Fence>, fence: Fence) {
    if let Some(last) = *last {
        assert!(fence > last, "fence {fence} came after fence {last}");
    }
    *last = Some(fence);
}

/// Every write under `lease` is refused and leaves its record, or its absence, as it was.
pub(super) async fn assert_powerless<H: Harness>(rig: &Rig<H>, lease: &Lease) {
    let before = rig.show(&lease.id).await;
    // Long ones, so that one that got through would show.
    let long = ticks::<H>(100_000);
    let renewed = rig.renew_with(lease, long, Some(fingerprint(9))).await;
    assert_eq!(renewed, Fenced::Superseded, "renew under a lost fence");
    let done = rig.complete_with(lease, &kept("late"), long).await;
    assert_eq!(done, Fenced::Superseded, "complete under a lost fence");
    let unknown = rig.complete_with(lease, &OUTCOME_UNKNOWN, long).await;
    assert_eq!(
        unknown,
        Fenced::Superseded,
        "mark unknown under a lost fence"
    );
    let released = rig.release(lease).await;
    assert_eq!(released, Fenced::Superseded, "release under a lost fence");
    let after = rig.show(&lease.id).await;
    assert_eq!(
        after.as_ref().map(Lasting::of),
        before.as_ref().map(Lasting::of),
        "a write under a lost fence changes nothing",
    );
    if let (Some(before), Some(after)) = (before, after) {
        assert!(
            after.expires_in <= before.expires_in,
            "nor moves the expiry"
        );
    }
}
