//! Completions: what is recorded first stands, whole, until it expires.

use std::time::Duration;

use onlyonce_core::{Attempt, Completion, Done, Fenced, State};

use crate::Harness;
use crate::rig::{
    LIFETIME, Lasting, NOT_KEPT, OUTCOME_UNKNOWN, Rig, attempt, fingerprint, kept, new_id,
    result_of, retry_of, ticks,
};

/// Sent again after a lost reply: applied again, and the first result stands, whatever the later
/// ones say and however long they would keep it.
pub async fn hazard_41_repeated_completion_keeps_the_first_result<H: Harness>() {
    let endings = [kept("first"), NOT_KEPT, OUTCOME_UNKNOWN];
    for first in &endings {
        let rig = Rig::<H>::new().await;
        let bid = attempt::<H>(new_id());
        let lease = rig.win(&bid).await;
        let keep = ticks::<H>(LIFETIME);
        let done = rig.complete_with(&lease, first, keep).await;
        assert_eq!(done, Fenced::Applied);
        let before = rig.record(&bid.id).await;
        for again in [kept("first"), kept("second"), NOT_KEPT, OUTCOME_UNKNOWN] {
            let again = Completion {
                fingerprint: Some(fingerprint(7)),
                ..again
            };
            let done = rig.complete_with(&lease, &again, keep * 100).await;
            assert_eq!(done, Fenced::Applied, "{again:?} after {first:?}");
            let after = rig.record(&bid.id).await;
            assert_eq!(Lasting::of(&after), Lasting::of(&before));
            assert!(
                after.expires_in <= before.expires_in,
                "kept as long as at first"
            );
        }
        rig.pass(LIFETIME).await;
        assert_eq!(rig.show(&bid.id).await, None);
    }
}

/// Each way to end a claim is told as it was recorded, to claims and to operators.
pub async fn each_ending_is_told_as_recorded<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for status in [0, 100, 204, 304, 422, 500, 999, u16::MAX] {
        let ways = [
            Done::Kept {
                status,
                result: "a result".into(),
            },
            Done::NotKept { status },
        ];
        for done in ways {
            let expected = match &done {
                Done::Kept { result, .. } => Some(result.clone()),
                Done::NotKept { .. } | Done::Unknown => None,
            };
            let bid = attempt::<H>(new_id());
            let lease = rig.win(&bid).await;
            let completion = Completion {
                fingerprint: None,
                done,
            };
            let keep = ticks::<H>(LIFETIME);
            let ended = rig.complete_with(&lease, &completion, keep).await;
            assert_eq!(ended, Fenced::Applied);
            let expected = State::Completed {
                status,
                kept: expected,
            };
            assert_eq!(rig.held(&retry_of(&bid)).await.state, expected);
            assert_eq!(rig.record(&bid.id).await.state, expected);
        }
    }
}

/// Hazard 26: the fingerprint of the claim is still there when the record is completed; one that
/// became known only since then is added.
pub async fn hazard_26_fingerprint_outlives_completion<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let cases = [
        (Some(fingerprint(1)), None, Some(fingerprint(1))),
        (None, Some(fingerprint(2)), Some(fingerprint(2))),
        (
            Some(fingerprint(3)),
            Some(fingerprint(3)),
            Some(fingerprint(3)),
        ),
        (None, None, None),
    ];
    for ending in [kept("done"), NOT_KEPT, OUTCOME_UNKNOWN] {
        for (claimed, completed, expected) in cases {
            let bid = Attempt {
                fingerprint: claimed,
                ..attempt::<H>(new_id())
            };
            let lease = rig.win(&bid).await;
            let completion = Completion {
                fingerprint: completed,
                ..ending.clone()
            };
            let keep = ticks::<H>(LIFETIME);
            let done = rig.complete_with(&lease, &completion, keep).await;
            assert_eq!(done, Fenced::Applied);
            let record = rig.held(&retry_of(&bid)).await;
            assert_eq!(record.fingerprint, expected, "{completion:?}");
            assert_eq!(record.label, bid.label);
            assert_eq!((record.fence, record.attempt), (lease.fence, 1));
        }
    }
}

/// Kept for no time at all: applied, and absent at once.
pub async fn completion_kept_for_no_time_is_gone<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bid = attempt::<H>(new_id());
    let lease = rig.win(&bid).await;
    let done = rig
        .complete_with(&lease, &kept("gone"), Duration::ZERO)
        .await;
    assert_eq!(done, Fenced::Applied);
    assert_eq!(rig.show(&bid.id).await, None);
    assert_eq!(rig.win(&retry_of(&bid)).await.attempt, 1);
}

/// A completion may end a claim long before its lease does, and its record outlives the lease.
pub async fn completed_record_outlives_its_lease<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bid = attempt::<H>(new_id());
    let lease = rig.win(&bid).await;
    assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
    rig.pass(LIFETIME - 2).await;
    assert_eq!(
        result_of(&rig.held(&retry_of(&bid)).await),
        Some("done".into())
    );
}
