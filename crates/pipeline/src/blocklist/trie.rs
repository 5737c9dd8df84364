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
    /// By the next byte: where there is more to tell apart. Apart from leaves, so that what leads
    /// to nodes is small and stays in the processor's cache.
    nodes: Sparse<Arc<Self>, 4>,
    /// By the next byte: the only prefix from here on.
    leaves: Sparse<Leaf<V>, 4>,
    /// Prefixes that end within the next byte: the heap order of a binary tree of nine levels,
    /// whose root is the prefix that ends right here.
    endings: Sparse<V, 8>,
}

#[derive(Clone, Debug)]
struct Leaf<V> {
    /// The upper and the lower half: 16 bytes at once would have to be aligned.
    key: [u64; 2],
    length: u8,
    value: V,
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
            node.visit_endings(byte, &mut seen);
            if let Some(child) = node.nodes.at(usize::from(byte)) {
                node = child;
                depth += 1;
                continue;
            }
            if let Some(leaf) = node.leaves.at(usize::from(byte))
                && (leaf.key() ^ key) & mask(leaf.length) == 0
            {
                seen(&leaf.value);
            }
            return;
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
            if node.nodes.at(at).is_none() {
                let alone = node.leaves.at(at).is_none_or(|leaf| leaf.is(prefix));
                if alone {
                    return node.leaves.change(at, |leaf| {
                        let mut value = leaf.take().map(|leaf| leaf.value);
                        change(&mut value);
                        *leaf = value.map(|value| Leaf::new(key, length, value));
                    });
                }
                // No longer alone: it moves one step down.
                let mut below = Node::default();
                node.leaves.change(at, |leaf| {
                    if let Some(leaf) = leaf.take() {
                        below.hang(depth + 1, leaf);
                    }
                });
                node.nodes
                    .change(at, |child| *child = Some(Arc::new(below)));
            }
            node = match node.nodes.at_mut(at) {
                Some(child) => Arc::make_mut(child),
                None => return,
            };
            depth += 1;
        }
    }
}

impl<V> Node<V> {
    fn visit_endings<'a>(&'a self, byte: u8, seen: &mut impl FnMut(&'a V)) {
        if self.endings.items.is_empty() {
            return;
        }
        // All places of the first six levels are in the first word.
        let mut path = 0_u64;
        for length in 0..6 {
            path |= 1 << ending(byte, length);
        }
        let begin = if self.endings.taken[0] & path == 0 {
            6
        } else {
            0
        };
        for length in begin..=STRIDE {
            if let Some(value) = self.endings.at(ending(byte, length)) {
                seen(value);
            }
        }
    }

    /// Puts the first prefix into an empty node.
    fn hang(&mut self, depth: u8, leaf: Leaf<V>) {
        let byte = byte_at(leaf.key(), depth);
        if leaf.length <= (depth + 1) * STRIDE {
            let at = ending(byte, leaf.length - depth * STRIDE);
            self.endings.change(at, |ending| *ending = Some(leaf.value));
        } else {
            self.leaves
                .change(usize::from(byte), |place| *place = Some(leaf));
        }
    }
}

impl<V> Leaf<V> {
    fn new(key: u128, length: u8, value: V) -> Self {
        Self {
            #[expect(clippy::cast_possible_truncation, reason = "the halves of a whole")]
            key: [(key >> 64) as u64, key as u64],
            length,
            value,
        }
    }

    fn key(&self) -> u128 {
        (u128::from(self.key[0]) << 64) | u128::from(self.key[1])
    }

    fn is(&self, prefix: &Prefix) -> bool {
        (self.key(), self.length) == (prefix.key, prefix.length)
    }
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self {
            nodes: Sparse::default(),
            leaves: Sparse::default(),
            endings: Sparse::default(),
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
    /// What stands in the places that are taken, in their order; no larger than it must be.
    items: Box<[T]>,
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
        let mut items = std::mem::take(&mut self.items).into_vec();
        // Whoever changes it may look at it, so it comes out first.
        let mut item = self.is_taken(place).then(|| items.remove(rank));
        change(&mut item);
        let bit = 1 << (place % 64);
        match item {
            Some(item) => {
                items.reserve_exact(1);
                items.insert(rank, item);
                self.taken[place / 64] |= bit;
            }
            None => self.taken[place / 64] &= !bit,
        }
        self.items = items.into_boxed_slice();
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
            items: Box::default(),
        }
    }
}

#[cfg(test)]
mod tests;
