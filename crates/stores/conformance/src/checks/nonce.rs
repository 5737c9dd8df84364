//! A claim whose reply was lost is sent again, under the same nonce.

use onlyonce_core::{Attempt, Claim, Fenced, OnUnknown, State};

use crate::Harness;
use crate::checks::fencing::assert_powerless;
use crate::rig::{KEEP, LEASE, Rig, attempt, new_id, result_of, retry_of, successor_of, ticks};

/// Sent again while its lease lives: won again, with the same fence and attempt; others see the
/// same owner.
pub async fn hazard_41_resent_claim_wins_again<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bid = attempt::<H>(new_id());
    let lease = rig.win(&bid).await;
    for _ in 0..3 {
        assert_eq!(rig.win(&bid).await, lease);
    }
    let record = rig.held(&retry_of(&bid)).await;
    assert_eq!((record.fence, record.attempt), (lease.fence, 1));
    assert_eq!(record.fingerprint, bid.fingerprint);
    assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
}

/// Sent again, its lease is counted anew, and so is what is kept beyond it.
pub async fn resent_claim_counts_its_lease_anew<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bid = attempt::<H>(new_id());
    let lease = rig.win(&bid).await;
    rig.pass(LEASE - 4).await;
    assert_eq!(rig.win(&bid).await, lease);
    rig.pass(LEASE - 4).await;
    let record = rig.held(&successor_of(&bid)).await;
    assert!(
        matches!(record.state, State::InProgress { lease_left } if !lease_left.is_zero()),
        "the lease counts from the last time the claim was sent: {record:?}",
    );
    // Past the first expiry by three ticks, before the second by three.
    rig.pass(KEEP + 1).await;
    assert!(rig.show(&bid.id).await.is_some(), "so does its keeping");
    rig.pass(6).await;
    assert_eq!(rig.show(&bid.id).await, None);
}

/// Hazard 41: sent again after its lease ran out, with nobody else come in between: it is still
/// this request's own, under `Hold` too.
pub async fn hazard_41_resent_claim_wins_after_its_lease<H: Harness>() {
    for on_unknown in [OnUnknown::Hold, OnUnknown::Retry] {
        let rig = Rig::<H>::new().await;
        let bid = Attempt {
            on_unknown,
            ..attempt::<H>(new_id())
        };
        let lease = rig.win(&bid).await;
        rig.pass(LEASE + 2).await;
        assert_eq!(rig.win(&bid).await, lease, "{on_unknown:?}");
        let record = rig.held(&successor_of(&bid)).await;
        assert!(
            matches!(record.state, State::InProgress { lease_left } if !lease_left.is_zero()),
            "{on_unknown:?}: its lease lives again: {record:?}",
        );
    }
}

/// Never after a take-over: the record names its successor's nonce now. While the successor
/// lives it is held; later it may take over in its turn, as another attempt with a newer fence.
pub async fn resent_claim_never_undoes_a_take_over<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bid = Attempt {
        on_unknown: OnUnknown::Retry,
        ..attempt::<H>(new_id())
    };
    let first = rig.win(&bid).await;
    rig.pass(LEASE).await;
    let second = rig.win(&successor_of(&bid)).await;
    let record = rig.held(&bid).await;
    assert_eq!((record.fence, record.attempt), (second.fence, 2));
    rig.pass(LEASE).await;
    let third = rig.win(&bid).await;
    assert_eq!(third.attempt, 3);
    assert!(third.fence > second.fence);
    assert_powerless(&rig, &first).await;
    assert_powerless(&rig, &second).await;
}

/// Sent again after the request was completed: held, and nothing begins anew.
pub async fn resent_claim_after_completion_is_held<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bid = attempt::<H>(new_id());
    let lease = rig.win(&bid).await;
    assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
    assert_eq!(result_of(&rig.held(&bid).await), Some("done".into()));
}

/// Sent again after its release or its expiry it is a first claim like any other.
pub async fn resent_claim_begins_anew_when_the_record_is_gone<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bid = attempt::<H>(new_id());
    let first = rig.win(&bid).await;
    assert_eq!(rig.release(&first).await, Fenced::Applied);
    let second = rig.win(&bid).await;
    assert!(second.fence > first.fence && second.attempt == 1);
    rig.pass(LEASE + KEEP).await;
    let third = rig.win(&bid).await;
    assert!(third.fence > second.fence && third.attempt == 1);
    assert_powerless(&rig, &first).await;
    assert_powerless(&rig, &second).await;
}

/// The same claim sent many times at once is one claim.
pub async fn claim_sent_many_times_at_once_is_one_claim<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for _ in 0..16 {
        let bid = attempt::<H>(new_id());
        let sent = (0..16).map(|_| {
            let (store, bid) = (rig.store(), bid.clone());
            tokio::spawn(async move { onlyonce_core::Store::claim(&*store, &bid).await })
        });
        let mut leases = Vec::new();
        for claim in sent.collect::<Vec<_>>() {
            match claim.await.expect("the claim does not panic") {
                Ok(Claim::Won(lease)) => leases.push(lease),
                other => panic!("every one of them wins, not {other:?}"),
            }
        }
        leases.dedup();
        assert_eq!(leases.len(), 1, "one fence for all of them: {leases:?}");
        let lease = leases.remove(0);
        assert_eq!(
            rig.renew_with(&lease, ticks::<H>(LEASE), None).await,
            Fenced::Applied
        );
    }
}
