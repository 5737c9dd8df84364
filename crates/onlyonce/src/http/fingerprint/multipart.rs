//! `multipart/form-data`, part by part: the boundary does not count.

use memchr::memmem::Finder;
use onlyonce_core::{Fingerprint, FingerprintHasher};

/// Hashes a multipart body as it streams by, in constant memory.
///
/// The body is cut at its delimiters (RFC 2046, section 5.1.1); what stands between two of them
/// is hashed by itself, and the hashes are chained. A body that is not well-formed still has a
/// fingerprint: whatever its delimiters cut it into.
pub(super) struct PartHasher {
    parts: FingerprintHasher,
    part: FingerprintHasher,
    delimiter: Finder<'static>,
    /// The end of what was seen, which may be the start of a delimiter.
    tail: Vec<u8>,
}

impl PartHasher {
    pub(super) fn new(parts: FingerprintHasher, boundary: &[u8]) -> Self {
        let delimiter = [b"\r\n--", boundary].concat();
        Self {
            parts,
            part: FingerprintHasher::new(),
            delimiter: Finder::new(&delimiter).into_owned(),
            // The first delimiter may stand at the very start, without a line end before it.
            tail: b"\r\n".to_vec(),
        }
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        self.tail.extend_from_slice(piece);
        let seen = std::mem::take(&mut self.tail);
        let length = self.delimiter.needle().len();
        let mut start = 0;
        while let Some(found) = self.delimiter.find(&seen[start..]) {
            self.part.body(&seen[start..start + found]);
            let part = std::mem::take(&mut self.part);
            self.parts.body(part.finish().digest());
            start += found + length;
        }
        let settled = seen.len().saturating_sub(length - 1).max(start);
        self.part.body(&seen[start..settled]);
        self.tail = seen;
        self.tail.drain(..settled);
    }

    pub(super) fn finish(&self) -> Fingerprint {
        let mut part = self.part.clone();
        part.body(&self.tail);
        let mut parts = self.parts.clone();
        parts.body(part.finish().digest());
        parts.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash<'a>(boundary: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
        let mut hasher = PartHasher::new(FingerprintHasher::new(), boundary.as_bytes());
        pieces.into_iter().for_each(|piece| hasher.update(piece));
        hasher.finish()
    }

    fn body(boundary: &str, parts: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        for part in parts {
            body.extend_from_slice(format!("--{boundary}\r\nA: b\r\n\r\n").as_bytes());
            body.extend_from_slice(part);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        body
    }

    fn part() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            Just(b'\r'),
            Just(b'\n'),
            Just(b'-'),
            Just(b'x'),
            any::<u8>()
        ];
        proptest::collection::vec(byte, 0..40)
    }

    proptest! {
        #[test]
        fn pieces_and_boundary_leave_no_trace(
            parts in proptest::collection::vec(part(), 0..4), cut in 1_usize..20,
        ) {
            let whole = body("first-boundary", &parts);
            let expected = hash("first-boundary", [&whole[..]]);
            prop_assert_eq!(hash("first-boundary", whole.chunks(cut)), expected);
            let other = body("another", &parts);
            prop_assert_eq!(hash("another", other.chunks(cut)), expected);
        }

        #[test]
        fn content_counts(a in proptest::collection::vec(part(), 0..3),
                          b in proptest::collection::vec(part(), 0..3)) {
            let (one, two) = (body("first-boundary", &a), body("first-boundary", &b));
            let equal = hash("first-boundary", [&one[..]]) == hash("first-boundary", [&two[..]]);
            prop_assert_eq!(equal, a == b);
        }
    }
}
