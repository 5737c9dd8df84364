//! Whether a concurrent history could have happened one step after another.
//!
//! The search of Wing and Gong with the memory of Lowe: of the steps that may come next (none
//! that is left had returned before they were called), try each that the model finds right; never
//! try the same rest from the same state twice.

use std::collections::HashSet;
use std::time::Duration;

use onlyonce_core::{Record, State};

use crate::model::{Answer, Key, Op};

/// Something that took place between two moments.
#[derive(Debug)]
pub(crate) struct Event {
    invoked: u64,
    returned: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Did(Box<(Op, Answer)>),
    Passed(u64),
}

impl Event {
    pub(crate) fn did(invoked: u64, returned: u64, op: Op, answer: Answer) -> Self {
        Self {
            invoked,
            returned,
            what: What::Did(Box::new((op, answer))),
        }
    }

    pub(crate) fn passed(invoked: u64, returned: u64, millis: u64) -> Self {
        Self {
            invoked,
            returned,
            what: What::Passed(millis),
        }
    }

    /// Levels what a record says of time, for histories in which nothing but real time went by,
    /// and all spans were whole hours.
    pub(crate) fn forget_time(&mut self) {
        let What::Did(did) = &mut self.what else {
            return;
        };
        let (Answer::Held(record) | Answer::Shown(Some(record))) = &mut did.1 else {
            return;
        };
        let Record {
            state,
            age,
            expires_in,
            ..
        } = record;
        *age = Duration::ZERO;
        *expires_in = whole_hours(*expires_in);
        if let State::InProgress { lease_left } = state {
            *lease_left = whole_hours(*lease_left);
        }
    }
}

fn whole_hours(left: Duration) -> Duration {
    const HOUR: Duration = Duration::from_secs(3600);
    HOUR * u32::try_from(left.as_nanos().div_ceil(HOUR.as_nanos())).unwrap_or(u32::MAX)
}

/// Finds an order of `events` (64 at most) that keeps to real time and that the model finds
/// right.
pub(crate) fn check(events: &[Event]) -> Result<(), String> {
    assert!(events.len() <= 64, "a set of events is kept in 64 bits");
    let mut search = Search {
        events,
        tried: HashSet::new(),
        furthest: (0, String::new()),
    };
    if search.from(0, 0, &Key::new()) {
        return Ok(());
    }
    let (reached, wrong) = search.furthest;
    let mut story: Vec<_> = events.iter().collect();
    story.sort_by_key(|event| event.invoked);
    let story: Vec<_> = story.iter().map(|event| format!("  {event:?}")).collect();
    Err(format!(
        "no order of these {} events explains the answers:\n{}\n  at best {reached} of them; then:\n{wrong}",
        events.len(),
        story.join("\n"),
    ))
}

struct Search<'a> {
    events: &'a [Event],
    /// What was tried in vain: which events were done, and what was known then.
    tried: HashSet<(u64, Key)>,
    /// For the message: how many events could be explained, and what was wrong with the next.
    furthest: (u32, String),
}

impl Search<'_> {
    fn from(&mut self, done: u64, now: u64, key: &Key) -> bool {
        let events = self.events;
        let left = |number: &usize| done & (1 << number) == 0;
        // Whatever has returned came before all that was invoked later.
        let Some(horizon) = (0..events.len())
            .filter(left)
            .map(|number| events[number].returned)
            .min()
        else {
            return true;
        };
        if !self.tried.insert((done, key.clone())) {
            return false;
        }
        for number in (0..events.len()).filter(left) {
            let event = &events[number];
            if event.invoked > horizon {
                continue;
            }
            let after = done | (1 << number);
            let found = match &event.what {
                What::Passed(millis) => self.from(after, now + millis, key),
                What::Did(did) => match key.step(now, &did.0, &did.1) {
                    Ok(known) => self.from(after, now, &known),
                    Err(wrong) => {
                        if self.furthest.0 <= done.count_ones() {
                            self.furthest = (done.count_ones(), wrong);
                        }
                        false
                    }
                },
            };
            if found {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onlyonce_core::{Fence, Nonce};

    fn claim(invoked: u64, returned: u64, nonce: u8, fence: u64) -> Event {
        let op = Op::Claim {
            nonce: Nonce::from_bytes([nonce; 16]),
            fingerprint: None,
            lease: Duration::from_millis(10),
            keep: Duration::from_millis(10),
            retry: true,
            label: "".into(),
        };
        let attempt = if fence == 1 { 1 } else { 2 };
        let fence = Fence::new(fence);
        Event::did(invoked, returned, op, Answer::Won { fence, attempt })
    }

    #[test]
    fn an_order_is_found_when_there_is_one() {
        // The take-over was called first and returned last; time passed in between.
        let events = [
            claim(0, 9, 2, 2),
            claim(1, 2, 1, 1),
            Event::passed(3, 4, 10),
        ];
        assert_eq!(check(&events), Ok(()));
    }

    #[test]
    fn real_time_is_kept_to() {
        // As before, but the take-over had returned before the first claim was called.
        let events = [
            claim(0, 1, 2, 2),
            claim(2, 3, 1, 1),
            Event::passed(4, 5, 10),
        ];
        assert!(check(&events).is_err());
    }

    #[test]
    fn two_owners_at_once_are_found_out() {
        let events = [claim(0, 5, 1, 1), claim(1, 4, 2, 2), Event::passed(2, 3, 9)];
        let wrong = check(&events).unwrap_err();
        assert!(wrong.contains("its owner is at work"), "{wrong}");
    }
}
