use proptest::prelude::*;

use super::*;

fn prefix() -> impl Strategy<Value = Prefix> {
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    // Few different bits, so that prefixes lie within each other.
    let key = prop_oneof![
        any::<u128>(),
        (0..4_u128, 0..8_u8).prop_map(|(bits, byte)| bits << (8 * byte) << 64),
    ];
    (family, key, 0..=128_u8).prop_map(|(family, key, length)| {
        let length = length.min(family.width());
        let key = key & mask(length);
        Prefix {
            family,
            key,
            length,
        }
    })
}

fn found(trie: &Trie<u32>, family: Family, key: u128) -> Vec<u32> {
    let mut found = Vec::new();
    trie.visit((family, key), |value| found.push(*value));
    found
}

fn expected(model: &[(Prefix, u32)], family: Family, key: u128) -> Vec<u32> {
    let holds =
        |prefix: &Prefix| prefix.family == family && (prefix.key ^ key) & mask(prefix.length) == 0;
    let mut found: Vec<_> = model.iter().filter(|(prefix, _)| holds(prefix)).collect();
    found.sort_by_key(|(prefix, _)| prefix.length);
    found.into_iter().map(|(_, value)| *value).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Against a list that is searched from end to end; every state that it was in stays as it was.
    #[test]
    fn it_finds_what_a_list_finds(
        steps in prop::collection::vec((prefix(), any::<bool>()), 1..60),
        keys in prop::collection::vec(any::<u128>(), 4),
    ) {
        let (mut trie, mut model) = (Trie::new(), Vec::<(Prefix, u32)>::new());
        let mut states = Vec::new();
        for (value, (prefix, stays)) in (0..).zip(&steps) {
            model.retain(|(known, _)| known != prefix);
            if *stays {
                model.push((*prefix, value));
            }
            trie.change(prefix, |place| *place = stays.then_some(value));
            states.push((trie.clone(), model.clone()));
        }
        let near = steps.iter().flat_map(|(prefix, _)| {
            let last = prefix.key | !mask(prefix.length);
            [prefix.key, last, last.wrapping_add(1), prefix.key.wrapping_sub(1)]
        });
        let keys: Vec<u128> = keys.into_iter().chain(near).collect();
        for (trie, model) in &states {
            for family in [Family::V4, Family::V6] {
                let bits = mask(family.width());
                for key in keys.iter().map(|key| key & bits) {
                    prop_assert_eq!(found(trie, family, key), expected(model, family, key));
                }
            }
        }
    }
}

#[test]
fn whoever_changes_a_place_sees_what_is_there() {
    let mut trie = Trie::new();
    let prefix = Prefix {
        family: Family::V4,
        key: 10 << 120,
        length: 8,
    };
    trie.change(&prefix, |place| assert_eq!(place.replace(1), None));
    trie.change(&prefix, |place| assert_eq!(place.replace(2), Some(1)));
    assert_eq!(found(&trie, Family::V4, (10 << 120) | (77 << 96)), [2]);
    let long = Prefix {
        length: 32,
        ..prefix
    };
    trie.change(&long, |place| assert_eq!(place.replace(3), None));
    trie.change(&long, |place| assert_eq!(place.replace(4), Some(3)));
    assert_eq!(found(&trie, Family::V4, 10 << 120), [2, 4]);
    trie.change(&long, |place| assert_eq!(place.take(), Some(4)));
    assert_eq!(found(&trie, Family::V4, 10 << 120), [2]);
}
