//! The rules against a list that is searched from end to end.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use onlyonce_core::{Clock as _, ManualClock};
use proptest::prelude::*;

use super::super::rules::{Book, NoRoom};
use super::super::*;

#[derive(Clone, Debug)]
enum Step {
    Put(u64, Entry),
    Remove(u64),
    Wait,
}

fn entry() -> impl Strategy<Value = Entry> {
    let ip = prop_oneof![
        (0..32_u8).prop_map(|last| format!("10.0.0.{last}")),
        (0..32_u8, 24..=32_u8).prop_map(|(last, length)| format!("10.0.0.{last}/{length}")),
        (0..16_u8, 16..32_u8).prop_map(|(from, to)| format!("10.0.0.{from}-{to}")),
        (0..32_u8, 0..32_u8).prop_map(|(one, two)| format!("10.0.0.{one}, 10.0.0.{two}")),
        Just("*".to_owned()),
    ];
    let millis = ManualClock::new().now().as_millis();
    (ip, any::<bool>(), prop::option::of(0..20_u64)).prop_map(move |(ip, on, expires)| Entry {
        id: EntryId(0),
        ip,
        remark: String::new(),
        status: if on { Status::On } else { Status::Off },
        created: Default::default(),
        updated: Default::default(),
        expires: expires.map(|after| onlyonce_core::Timestamp::from_millis(millis + after)),
        hits: 0,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12_u64, entry()).prop_map(|(id, entry)| {
            Step::Put(id, Entry { id: EntryId(id), ..entry })
        }),
        3 => (0..12_u64).prop_map(Step::Remove),
        1 => Just(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn they_refuse_whom_a_list_would_refuse(steps in prop::collection::vec(step(), 1..80)) {
        let clock = ManualClock::new();
        let mut book = Book::new(10_000);
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(id, entry) => {
                    let set = entry.ip.parse().unwrap();
                    book.put(&entry, &set, clock.now()).unwrap();
                    model.insert(id, (entry, set));
                }
                Step::Remove(id) => {
                    book.remove(EntryId(id));
                    model.remove(&id);
                }
                Step::Wait => clock.advance(Duration::from_millis(3)),
            }
            let snapshot = book.snapshot();
            let now = clock.now();
            for last in 0..34 {
                let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
                let refuses = |(entry, set): &&(Entry, AddressSet)| {
                    entry.status == Status::On
                        && entry.expires.is_none_or(|expires| now < expires)
                        && set.contains(address)
                };
                let candidates: Vec<EntryId> =
                    model.values().filter(refuses).map(|(entry, _)| entry.id).collect();
                match snapshot.find(address, now) {
                    Some(rule) => prop_assert!(candidates.contains(&rule.id), "{}", address),
                    None => prop_assert_eq!(candidates, [], "{}", address),
                }
            }
            prop_assert_eq!(book.len(), model.len());
        }
        for id in 0..12 {
            book.remove(EntryId(id));
        }
        prop_assert_eq!((book.len(), book.prefixes()), (0, 0));
    }
}

#[test]
fn what_has_no_room_changes_nothing() {
    let mut book = Book::new(2);
    let now = ManualClock::new().now();
    let mut put = |id: u64, ip: &str| {
        let entry = Draft::new(ip).entry(EntryId(id), now);
        let put = book.put(&entry, &ip.parse().unwrap(), now);
        (put, book.prefixes())
    };
    assert_eq!(put(1, "10.0.0.1,10.0.0.2"), (Ok(()), 2));
    assert_eq!(put(2, "10.0.0.3"), (Err(NoRoom), 2));
    // An entry's own room is its own.
    assert_eq!(put(1, "10.0.0.3,10.0.0.4"), (Ok(()), 2));
    assert_eq!(put(1, "10.0.0.3"), (Ok(()), 1));
    assert_eq!(put(2, "10.0.0.3"), (Ok(()), 2));
}
