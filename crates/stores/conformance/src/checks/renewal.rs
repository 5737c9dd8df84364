//! Renewals: a lease that is renewed in time never runs out.

use onlyonce_core::{Attempt, Fenced, State};

use crate::Harness;
use crate::rig::{KEEP, LEASE, Rig, attempt, fingerprint, new_id, retry_of, successor_of, ticks};

/// Hazard 9: renewed every third of its lease, the record stays its owner's for as long as the
/// work takes, and past the expiry it had at first.
pub async fn hazard_09_renewed_lease_never_runs_out<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bid = attempt::<H>(new_id());
    let lease = rig.win(&bid).await;
    for _ in 0..=(LEASE + KEEP) / 3 {
        rig.pass(LEASE / 3).await;
        assert_eq!(rig.renew(&lease).await, Fenced::Applied);
        let record = rig.held(&successor_of(&bid)).await;
        assert_eq!((record.fence, record.attempt), (lease.fence, 1));
    }
    assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
}

/// A renewal moves the expiry along with the lease's end: the record is kept as long beyond the
/// new one as it would have been beyond the old.
pub async fn renewal_moves_the_expiry<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bid = attempt::<H>(new_id());
    let lease = rig.win(&bid).await;
    rig.pass(LEASE - 2).await;
    assert_eq!(rig.renew(&lease).await, Fenced::Applied);
    rig.pass(KEEP + 4).await;
    assert!(rig.show(&bid.id).await.is_some(), "past its first expiry");
    rig.pass(LEASE).await;
    assert_eq!(rig.show(&bid.id).await, None);
}

/// Hazard 14: the lease, not the lifetime of the record, bounds how long a vanished owner is
/// taken to be at work, after renewals too.
pub async fn hazard_14_renewed_lease_ends_when_renewals_do<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bid = attempt::<H>(new_id());
    let lease = rig.win(&bid).await;
    rig.pass(LEASE / 2).await;
    let shorter = ticks::<H>(LEASE / 2 - 2);
    let renewed = rig.renew_with(&lease, shorter, None).await;
    assert_eq!(renewed, Fenced::Applied);
    rig.pass(LEASE / 2 - 2).await;
    let State::InProgress { lease_left } = rig.held(&retry_of(&bid)).await.state else {
        panic!("it is still in progress");
    };
    assert!(
        lease_left.is_zero(),
        "the last renewal counts: {lease_left:?}"
    );
    assert_eq!(rig.win(&successor_of(&bid)).await.attempt, 2);
}

/// A renewal carries the fingerprint as soon as the owner has read its request's body; one
/// without leaves what is known.
pub async fn renewal_carries_the_fingerprint<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bid = Attempt {
        fingerprint: None,
        ..attempt::<H>(new_id())
    };
    let lease = rig.win(&bid).await;
    assert_eq!(rig.renew(&lease).await, Fenced::Applied);
    assert_eq!(rig.held(&retry_of(&bid)).await.fingerprint, None);
    let known = Some(fingerprint(1));
    let extend = ticks::<H>(LEASE);
    assert_eq!(rig.renew_with(&lease, extend, known).await, Fenced::Applied);
    assert_eq!(rig.held(&retry_of(&bid)).await.fingerprint, known);
    assert_eq!(rig.renew(&lease).await, Fenced::Applied);
    assert_eq!(rig.held(&retry_of(&bid)).await.fingerprint, known);
    // What was learnt decides who may take over.
    rig.pass(LEASE).await;
    let other = Attempt {
        fingerprint: Some(fingerprint(2)),
        ..successor_of(&bid)
    };
    assert_eq!(rig.held(&other).await.fence, lease.fence);
    let same = Attempt {
        fingerprint: known,
        ..successor_of(&bid)
    };
    assert_eq!(rig.win(&same).await.attempt, 2);
}
