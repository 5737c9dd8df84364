//! Expiry: an expired record is as good as absent, at once, swept or not.

use std::time::Duration;

use onlyonce_core::{Attempt, Fenced, Lease, Page, Record, Resolution, Resolved, State};

use crate::checks::fencing::assert_powerless;
use crate::rig::{
    KEEP, LEASE, LIFETIME, NOT_KEPT, OUTCOME_UNKNOWN, Rig, attempt, kept, new_id, retry_of,
    successor_of, ticks,
};
use crate::{ExactTime, Harness};

/// Hazard 6: many records expire and nobody sweeps them: each key can be claimed at once.
pub async fn hazard_06_expired_records_are_claimed_at_once<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bids: Vec<_> = (0..200).map(|_| attempt::<H>(new_id())).collect();
    for (number, bid) in bids.iter().enumerate() {
        let lease = rig.win(bid).await;
        if number % 2 == 0 {
            assert_eq!(rig.complete(&lease, "old").await, Fenced::Applied);
        }
    }
    rig.pass(LIFETIME.max(LEASE + KEEP)).await;
    for bid in &bids {
        assert_eq!(rig.win(&retry_of(bid)).await.attempt, 1);
    }
}

/// Expired records are neither shown, nor listed, nor counted, nor settled, nor forgotten.
pub async fn expired_records_are_invisible<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bids: Vec<_> = (0..40).map(|_| attempt::<H>(new_id())).collect();
    for (number, bid) in bids.iter().enumerate() {
        let lease = rig.win(bid).await;
        let ending = match number % 4 {
            0 => continue,
            1 => kept("old"),
            2 => NOT_KEPT,
            _ => OUTCOME_UNKNOWN,
        };
        let keep = ticks::<H>(LIFETIME);
        let done = rig.complete_with(&lease, &ending, keep).await;
        assert_eq!(done, Fenced::Applied);
    }
    rig.pass(LIFETIME.max(LEASE + KEEP)).await;
    assert!(rig.list(&Page::default()).await.is_empty());
    let counts = rig.count().await;
    let live = counts.in_progress + counts.unknown + counts.completed + counts.not_kept;
    assert_eq!(live, 0, "{counts:?}");
    for bid in &bids {
        assert_eq!(rig.show(&bid.id).await, None);
        let resolved = rig.resolve(&bid.id, &Resolution::NotExecuted).await;
        assert_eq!(resolved, Resolved::NotFound);
        assert_eq!(rig.forget(&bid.id).await, Resolved::NotFound);
    }
}

/// The longest durations do not wrap around: ten years, and all that a `Duration` can say.
pub async fn longest_durations_do_not_wrap<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for long in [Duration::from_secs(10 * 366 * 24 * 3600), Duration::MAX] {
        let bid = Attempt {
            lease: long,
            keep: long,
            ..attempt::<H>(new_id())
        };
        let lease = rig.win(&bid).await;
        let renewed = rig.renew_with(&lease, long, None).await;
        assert_eq!(renewed, Fenced::Applied);
        rig.pass(1).await;
        let record = rig.held(&successor_of(&bid)).await;
        assert!(
            matches!(record.state, State::InProgress { lease_left } if !lease_left.is_zero()),
            "{long:?}: {record:?}",
        );
        let done = rig.complete_with(&lease, &kept("done"), long).await;
        assert_eq!(done, Fenced::Applied);
        rig.pass(1).await;
        let record = rig.held(&retry_of(&bid)).await;
        let years = Duration::from_secs(9 * 365 * 24 * 3600);
        assert!(record.expires_in > years, "{long:?}: {record:?}");
    }
}

/// Milliseconds of the exact checks: prime numbers, so that no two deadlines fall together.
const LEASE_MS: u64 = 10_007;
const KEEP_MS: u64 = 40_009;

fn exact_attempt<H: Harness>() -> Attempt {
    Attempt {
        lease: millis(LEASE_MS),
        keep: millis(KEEP_MS),
        ..attempt::<H>(new_id())
    }
}

/// Completed, kept or not: there at its deadline less a millisecond, absent at its deadline.
pub async fn completed_record_ends_to_the_millisecond<H: ExactTime>() {
    for ending in [kept("done"), NOT_KEPT] {
        ends_exactly::<H>(millis(12_345), async |rig, lease| {
            let done = rig.complete_with(lease, &ending, millis(12_345)).await;
            assert_eq!(done, Fenced::Applied);
        })
        .await;
    }
}

/// Marked unknown: likewise.
pub async fn unknown_record_ends_to_the_millisecond<H: ExactTime>() {
    ends_exactly::<H>(millis(12_345), async |rig, lease| {
        let keep = millis(12_345);
        let done = rig.complete_with(lease, &OUTCOME_UNKNOWN, keep).await;
        assert_eq!(done, Fenced::Applied);
    })
    .await;
}

/// Never finished: kept for `keep` beyond the end of its lease, to the millisecond.
pub async fn unfinished_record_ends_to_the_millisecond<H: ExactTime>() {
    ends_exactly::<H>(millis(LEASE_MS + KEEP_MS), async |_, _| {}).await;
}

/// Renewed, never finished: `keep` beyond the end of the new lease.
pub async fn renewed_record_ends_to_the_millisecond<H: ExactTime>() {
    ends_exactly::<H>(millis(3_001 + KEEP_MS), async |rig, lease| {
        rig.advance_millis(LEASE_MS - 1).await;
        let renewed = rig.renew_with(lease, millis(3_001), None).await;
        assert_eq!(renewed, Fenced::Applied);
    })
    .await;
}

/// Settled as completed: the expiry that it had stands.
pub async fn resolved_record_ends_to_the_millisecond<H: ExactTime>() {
    let resolution = Resolution::Completed {
        status: 200,
        result: Some("the operator's".into()),
    };
    ends_exactly::<H>(millis(KEEP_MS - 5), async |rig, lease| {
        rig.advance_millis(LEASE_MS + 5).await;
        let resolved = rig.resolve(&lease.id, &resolution).await;
        assert_eq!(resolved, Resolved::Applied);
    })
    .await;
    ends_exactly::<H>(millis(12_345 - 7), async |rig, lease| {
        let keep = millis(12_345);
        let done = rig.complete_with(lease, &OUTCOME_UNKNOWN, keep).await;
        assert_eq!(done, Fenced::Applied);
        rig.advance_millis(7).await;
        let resolved = rig.resolve(&lease.id, &resolution).await;
        assert_eq!(resolved, Resolved::Applied);
    })
    .await;
}

/// A lease is live a millisecond before its end, and has run out at its end.
pub async fn lease_ends_to_the_millisecond<H: ExactTime>() {
    let rig = Rig::<H>::new().await;
    let bid = exact_attempt::<H>();
    let lease = rig.win(&bid).await;
    rig.advance_millis(LEASE_MS - 1).await;
    assert_eq!(lease_left(&rig.held(&successor_of(&bid)).await), millis(1));
    rig.advance_millis(1).await;
    assert_eq!(lease_left(&rig.held(&retry_of(&bid)).await), Duration::ZERO);
    // The owner, woken at that moment, is not too late; and its new lease is as exact.
    let renewed = rig.renew_with(&lease, millis(31), None).await;
    assert_eq!(renewed, Fenced::Applied);
    rig.advance_millis(30).await;
    assert_eq!(lease_left(&rig.held(&successor_of(&bid)).await), millis(1));
    rig.advance_millis(1).await;
    assert_eq!(rig.win(&successor_of(&bid)).await.attempt, 2);
}

/// An owner's writes land until the last millisecond of its record, and not at its deadline.
pub async fn late_writes_land_until_the_deadline<H: ExactTime>() {
    for late in [false, true] {
        let rig = Rig::<H>::new().await;
        let bids: [Attempt; 4] = std::array::from_fn(|_| exact_attempt::<H>());
        let mut leases = Vec::new();
        for bid in &bids {
            leases.push(rig.win(bid).await);
        }
        let left = u64::from(!late);
        rig.advance_millis(LEASE_MS + KEEP_MS - left).await;
        if late {
            for lease in &leases {
                assert_powerless(&rig, lease).await;
            }
            continue;
        }
        assert_eq!(rig.renew(&leases[0]).await, Fenced::Applied);
        assert_eq!(rig.complete(&leases[1], "late").await, Fenced::Applied);
        assert_eq!(rig.release(&leases[2]).await, Fenced::Applied);
        let keep = ticks::<H>(LIFETIME);
        let unknown = rig.complete_with(&leases[3], &OUTCOME_UNKNOWN, keep).await;
        assert_eq!(unknown, Fenced::Applied);
    }
}

/// What a record says of time is exact at every moment of its life.
pub async fn durations_are_told_exactly<H: ExactTime>() {
    let rig = Rig::<H>::new().await;
    let bid = exact_attempt::<H>();
    rig.win(&bid).await;
    rig.advance_millis(7).await;
    let record = rig.held(&retry_of(&bid)).await;
    assert_eq!(record.age, millis(7));
    assert_eq!(lease_left(&record), millis(LEASE_MS - 7));
    assert_eq!(record.expires_in, millis(LEASE_MS + KEEP_MS - 7));

    rig.advance_millis(LEASE_MS).await;
    let record = rig.record(&bid.id).await;
    assert_eq!(record.age, millis(LEASE_MS + 7));
    assert_eq!(lease_left(&record), Duration::ZERO);
    assert_eq!(record.expires_in, millis(KEEP_MS - 7));

    // A take-over begins a new lease, not a new record: the age goes on.
    let lease = rig.win(&successor_of(&bid)).await;
    rig.advance_millis(3).await;
    let done = rig.complete_with(&lease, &kept("done"), millis(500)).await;
    assert_eq!(done, Fenced::Applied);
    rig.advance_millis(11).await;
    let record = rig.held(&retry_of(&bid)).await;
    assert_eq!(record.age, millis(LEASE_MS + 7 + 3 + 11));
    assert_eq!(record.expires_in, millis(489));
}

/// A fraction of a millisecond counts as a whole one: what was promised for "at least so long"
/// is kept.
pub async fn fractions_of_a_millisecond_round_up<H: ExactTime>() {
    let rig = Rig::<H>::new().await;
    let bid = Attempt {
        lease: Duration::from_micros(1_001),
        ..exact_attempt::<H>()
    };
    let lease = rig.win(&bid).await;
    rig.advance_millis(1).await;
    assert_eq!(lease_left(&rig.held(&retry_of(&bid)).await), millis(1));
    let extend = Duration::from_nanos(2_000_001);
    assert_eq!(rig.renew_with(&lease, extend, None).await, Fenced::Applied);
    assert_eq!(lease_left(&rig.held(&retry_of(&bid)).await), millis(3));
    let keep = Duration::from_nanos(1);
    let done = rig.complete_with(&lease, &kept("done"), keep).await;
    assert_eq!(done, Fenced::Applied);
    assert_eq!(rig.record(&bid.id).await.expires_in, millis(1));
    rig.advance_millis(1).await;
    assert_eq!(rig.show(&bid.id).await, None);
}

/// Sets a record up, then checks that it ends `left` from then, not a millisecond sooner or later.
async fn ends_exactly<H: ExactTime>(left: Duration, set_up: impl AsyncFn(&Rig<H>, &Lease)) {
    let rig = Rig::<H>::new().await;
    let bid = exact_attempt::<H>();
    let lease = rig.win(&bid).await;
    set_up(&rig, &lease).await;
    assert_eq!(rig.record(&bid.id).await.expires_in, left);
    rig.advance(left - millis(1)).await;
    assert_eq!(rig.held(&retry_of(&bid)).await.expires_in, millis(1));
    assert_eq!(rig.list(&Page::default()).await.len(), 1);
    rig.advance_millis(1).await;
    assert_eq!(rig.show(&bid.id).await, None, "absent at its deadline");
    assert!(rig.list(&Page::default()).await.is_empty());
    let next = rig.win(&retry_of(&bid)).await;
    assert_eq!(next.attempt, 1);
    assert!(next.fence > lease.fence);
}

fn lease_left(record: &Record) -> Duration {
    match record.state {
        State::InProgress { lease_left } => lease_left,
        State::Unknown | State::Completed { .. } => panic!("in progress, not {record:?}"),
    }
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
