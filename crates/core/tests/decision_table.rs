//! The decision table against an independent model: a literal transcription of the table in
//! `docs/behaviour.md`, row by row and column by column, that shares no code with `decide`.

use std::time::Duration;

use onlyonce_core::{Decision, Fence, Fingerprint, OnUnknown, Record, State, decide};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    None,
    InProgressLive,
    InProgressExpired,
    Completed,
    NotKept,
    Held,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Same,
    Other,
    /// The request's body is still to be read; the record has a fingerprint.
    RequestUnread,
    /// The owner's body is still being read.
    OwnerUnread,
}

fn model(row: Row, column: Column, on_unknown: OnUnknown) -> Decision {
    use Column::{Other, OwnerUnread, RequestUnread, Same};
    use Decision::{Execute, InProgress, Mismatch, NotKept, Replay, TakeOver, Unknown};
    match (row, column, on_unknown) {
        (Row::None, _, _) => Execute,
        (_, Other, _) => Mismatch,
        (Row::InProgressLive, _, _) => InProgress,
        (Row::InProgressExpired, Same | OwnerUnread, OnUnknown::Retry) => TakeOver,
        (Row::InProgressExpired, RequestUnread, OnUnknown::Retry) => Unknown,
        (Row::InProgressExpired, _, OnUnknown::Hold) => Unknown,
        (Row::Completed, _, _) => Replay,
        (Row::NotKept, _, _) => NotKept,
        (Row::Held, _, _) => Unknown,
    }
}

fn record(row: Row, fingerprint: Option<Fingerprint>, left: u64) -> Option<Record> {
    let state = match row {
        Row::None => return None,
        Row::InProgressLive => State::InProgress {
            lease_left: Duration::from_millis(left),
        },
        Row::InProgressExpired => State::InProgress {
            lease_left: Duration::ZERO,
        },
        Row::Completed => State::Completed {
            status: 200,
            kept: Some("x".into()),
        },
        Row::NotKept => State::Completed {
            status: 200,
            kept: None,
        },
        Row::Held => State::Unknown,
    };
    Some(Record {
        fingerprint,
        attempt: 1,
        fence: Fence::new(1),
        state,
        age: Duration::ZERO,
        expires_in: Duration::from_millis(left),
        label: "POST /".into(),
    })
}

proptest! {
    #[test]
    fn decide_is_the_table(
        row in prop_oneof![
            Just(Row::None), Just(Row::InProgressLive), Just(Row::InProgressExpired),
            Just(Row::Completed), Just(Row::NotKept), Just(Row::Held),
        ],
        column in prop_oneof![
            Just(Column::Same), Just(Column::Other),
            Just(Column::RequestUnread), Just(Column::OwnerUnread),
        ],
        retry in any::<bool>(),
        left in 1_u64..1_000_000,
        body in any::<[u8; 4]>(),
    ) {
        let mine = Fingerprint::of(&body);
        let other = Fingerprint::of(&[&body[..], b"!"].concat());
        let (theirs, ours) = match column {
            Column::Same => (Some(mine), Some(mine)),
            Column::Other => (Some(other), Some(mine)),
            Column::RequestUnread => (Some(other), None),
            Column::OwnerUnread => (None, Some(mine)),
        };
        let on_unknown = if retry { OnUnknown::Retry } else { OnUnknown::Hold };
        prop_assert_eq!(
            decide(record(row, theirs, left).as_ref(), ours.as_ref(), on_unknown),
            model(row, column, on_unknown)
        );
    }
}

#[test]
fn one_that_is_off_matches_either_way() {
    let with = |fingerprint| record(Row::Completed, Some(fingerprint), 1);
    let one = Fingerprint::of(b"1");
    for (theirs, ours) in [(Fingerprint::OFF, one), (one, Fingerprint::OFF)] {
        let decision = decide(with(theirs).as_ref(), Some(&ours), OnUnknown::Hold);
        assert_eq!(decision, Decision::Replay);
    }
}

#[test]
fn hazard_05_a_live_claim_is_never_taken_over() {
    let mine = Fingerprint::of(b"1");
    let live = record(Row::InProgressLive, Some(mine), 1);
    assert_eq!(
        decide(live.as_ref(), Some(&mine), OnUnknown::Retry),
        Decision::InProgress
    );
}
