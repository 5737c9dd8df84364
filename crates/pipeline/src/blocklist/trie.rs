//! Prefixes in a trie of eight bits at a step.
//!
//! Whatever the number of prefixes, a lookup takes at most as many steps as an address has bytes,
//! and mostly fewer: a prefix that is alone below some point hangs there as a leaf. A copy is cheap
//! and shares all nodes; changing one of two copies makes new nodes along one path only.

use std::sync::Arc;

use super::prefix::{Family, Prefix};

/// Values by prefixes of both families.
#[derive(Clone, Debug)]
pub(super) struct Trie<V> {
    v4: Arc<Node<V>>,
    v6: Arc<Node<V>>,
}

/// What is known of addresses that have the bytes up to here in common.
#[derive(Clone, Debug)]
struct Node<V> {
    /// Prefixes that end within the next byte: the heap order of a binary tree of nine levels,
    /// whose root is the prefix that ends right here.
    endings: Sparse<V, 8>,
    /// By the next byte.
    children: Sparse<Child<V>, 4>,
}

#[derive(Clone, Debug)]
enum Child<V> {
    Node(Arc<Node<V>>),
    /// The only one from here on.
    Leaf {
        key: u128,
        length: u8,
        value: V,
    },
}

const STRIDE: u8 = 8;

impl<V: Clone> Trie<V> {
    pub(super) fn new() -> Self {
        Self {
            v4: Arc::default(),
            v6: Arc::default(),
        }
    }

    /// Calls `seen` with the values of all prefixes that hold this key, longer ones later.
    pub(super) fn visit<'a>(&'a self, (family, key): (Family, u128), mut seen: impl FnMut(&'a V)) {
        let mut node = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        let mut depth = 0;
        loop {
            let byte = byte_at(key, depth);
            for length in 0..=STRIDE {
                if let Some(value) = node.endings.at(ending(byte, length)) {
                    seen(value);
                }
            }
            match node.children.at(usize::from(byte)) {
                Some(Child::Node(child)) => node = child,
                Some(Child::Leaf {
                    key: of,
                    length,
                    value,
                }) => {
                    if (of ^ key) & mask(*length) == 0 {
                        seen(value);
                    }
                    return;
                }
                None => return,
            }
            depth += 1;
        }
    }

    /// Changes what stands at `prefix`: from `None` to put something there, to `None` to take it
    /// away.
    pub(super) fn change(&mut self, prefix: &Prefix, change: impl FnOnce(&mut Option<V>)) {
        let mut node = Arc::make_mut(match prefix.family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        });
        let Prefix { key, length, .. } = *prefix;
        let mut depth = 0;
        loop {
            let byte = byte_at(key, depth);
            if length <= (depth + 1) * STRIDE {
                let rest = length - depth * STRIDE;
                return node.endings.change(ending(byte, rest), change);
            }
            let at = usize::from(byte);
            match node.children.at(at) {
                None => {
                    let mut value = None;
                    change(&mut value);
                    if let Some(value) = value {
                        let leaf = Child::Leaf { key, length, value };
                        node.children.change(at, |child| *child = Some(leaf));
                    }
                    return;
                }
                Some(Child::Leaf {
                    key: of,
                    length: to,
                    ..
                }) if (*of, *to) == (key, length) => {
                    return node.children.change(at, |child| {
                        let mut value = match child.take() {
                            Some(Child::Leaf { value, .. }) => Some(value),
                            _ => None,
                        };
                        change(&mut value);
                        *child = value.map(|value| Child::Leaf { key, length, value });
                    });
                }
                // No longer alone: it moves one step down.
                Some(Child::Leaf { .. }) => node.children.change(at, |child| {
                    if let Some(Child::Leaf { key, length, value }) = child.take() {
                        let mut below = Node::default();
                        below.hang(depth + 1, key, length, value);
                        *child = Some(Child::Node(Arc::new(below)));
                    }
                }),
                Some(Child::Node(_)) => {}
            }
            node = match node.children.at_mut(at) {
                Some(Child::Node(child)) => Arc::make_mut(child),
                _ => return,
            };
            depth += 1;
        }
    }
}

impl<V> Node<V> {
    /// Puts the first prefix into an empty node.
    fn hang(&mut self, depth: u8, key: u128, length: u8, value: V) {
        let byte = byte_at(key, depth);
        if length <= (depth + 1) * STRIDE {
            let at = ending(byte, length - depth * STRIDE);
            self.endings.change(at, |ending| *ending = Some(value));
        } else {
            let leaf = Child::Leaf { key, length, value };
            self.children
                .change(usize::from(byte), |child| *child = Some(leaf));
        }
    }
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self {
            endings: Sparse::default(),
            children: Sparse::default(),
        }
    }
}

fn byte_at(key: u128, depth: u8) -> u8 {
    key.to_be_bytes()[usize::from(depth)]
}

/// The place in heap order of the first `length` bits of a byte.
fn ending(byte: u8, length: u8) -> usize {
    (1 << length) + (usize::from(byte) >> (STRIDE - length))
}

fn mask(length: u8) -> u128 {
    match length {
        0 => 0,
        length => u128::MAX << (128 - length),
    }
}

/// An array of 64 times `WORDS` places of which few are taken.
#[derive(Clone, Debug)]
struct Sparse<T, const WORDS: usize> {
    taken: [u64; WORDS],
    /// What stands in the places that are taken, in their order.
    items: Vec<T>,
}

impl<T, const WORDS: usize> Sparse<T, WORDS> {
    fn at(&self, place: usize) -> Option<&T> {
        self.is_taken(place).then(|| &self.items[self.rank(place)])
    }

    fn at_mut(&mut self, place: usize) -> Option<&mut T> {
        let rank = self.rank(place);
        self.is_taken(place).then(|| &mut self.items[rank])
    }

    fn change(&mut self, place: usize, change: impl FnOnce(&mut Option<T>)) {
        let rank = self.rank(place);
        let before = self.is_taken(place);
        // Whoever changes it may look at it, so it comes out first.
        let mut item = before.then(|| self.items.remove(rank));
        change(&mut item);
        let bit = 1 << (place % 64);
        match item {
            Some(item) => {
                self.items.insert(rank, item);
                self.taken[place / 64] |= bit;
            }
            None => self.taken[place / 64] &= !bit,
        }
    }

    fn is_taken(&self, place: usize) -> bool {
        self.taken[place / 64] & (1 << (place % 64)) != 0
    }

    /// How many places before this one are taken.
    fn rank(&self, place: usize) -> usize {
        let whole = self.taken[..place / 64]
            .iter()
            .map(|word| word.count_ones());
        let rest = self.taken[place / 64] & ((1 << (place % 64)) - 1);
        (whole.sum::<u32>() + rest.count_ones()) as usize
    }
}

impl<T, const WORDS: usize> Default for Sparse<T, WORDS> {
    fn default() -> Self {
        Self {
            taken: [0; WORDS],
            items: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
