//! Where a record lies: its key, its slot, its sequence of fences.

use onlyonce_core::RecordId;

/// How keys are named.
///
/// A record's key is `PREFIX{abc}…`: the identifier's digits, of which the first three are the
/// hash tag. All that belongs to a record lies in one slot of a Cluster by that; so does the
/// sequence of its fences, which 4,096 tags keep few in number.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    prefix: Box<str>,
    /// One sequence for each tag in place of one for all.
    clustered: bool,
}

const TAG: usize = 3;

impl Places {
    pub(crate) fn new(prefix: &str, clustered: bool) -> Self {
        Self {
            prefix: prefix.into(),
            clustered,
        }
    }

    /// Whether records lie in the slots of a Cluster.
    pub(crate) fn clustered(&self) -> bool {
        self.clustered
    }

    /// What the names of all keys and channels begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The record's key, and the name of the channel on which its changes are told.
    pub(crate) fn key(&self, id: &RecordId) -> String {
        let digits = id.to_string();
        let (tag, rest) = digits.split_at(TAG);
        format!("{}{{{tag}}}{rest}", self.prefix)
    }

    /// The sequence that the record's fences come from.
    pub(crate) fn sequence(&self, id: &RecordId) -> String {
        if self.clustered {
            let digits = id.to_string();
            format!("{}{{{}}}fence", self.prefix, &digits[..TAG])
        } else {
            format!("{}fence", self.prefix)
        }
    }

    /// The key of the secret that all records are found under, with the records of this tag.
    pub(crate) fn secret(&self, id: &RecordId) -> String {
        let digits = id.to_string();
        format!("{}{{{}}}secret", self.prefix, &digits[..TAG])
    }

    /// The channel on which it is told that copies of a record are void.
    pub(crate) fn announcements(&self) -> String {
        format!("{}void", self.prefix)
    }

    /// What the keys of all records match, as `SCAN` understands it.
    pub(crate) fn pattern(&self) -> String {
        format!("{}{{???}}{}", self.prefix, "?".repeat(64 - TAG))
    }

    /// The record that has this key or channel.
    pub(crate) fn id(&self, key: &[u8]) -> Option<RecordId> {
        let key = std::str::from_utf8(key).ok()?;
        let (tag, rest) = key
            .strip_prefix(&*self.prefix)?
            .strip_prefix('{')?
            .split_once('}')?;
        if tag.len() != TAG {
            return None;
        }
        let id: RecordId = format!("{tag}{rest}").parse().ok()?;
        // Another spelling would be another key.
        (self.key(&id) == key).then_some(id)
    }

    /// The name of something else, under a hash tag of its own.
    pub(crate) fn named(&self, tag: &str, rest: &str) -> String {
        format!("{}{{{tag}}}{rest}", self.prefix)
    }

    /// The slot of a Cluster that such names lie in.
    pub(crate) fn slot_of(tag: &str) -> u16 {
        slot_of_tag(tag.as_bytes())
    }

    /// The slot of a Cluster that the record lies in.
    pub(crate) fn slot(id: &RecordId) -> u16 {
        slot_of_tag(&id.to_string().as_bytes()[..TAG])
    }
}

pub(crate) const SLOTS: u16 = 16_384;

fn slot_of_tag(tag: &[u8]) -> u16 {
    // CRC-16/XMODEM, as the Cluster's specification has it.
    let mut crc: u16 = 0;
    for byte in tag {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
        }
    }
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_nothing_else_is() {
        let places = Places::new("oo:", true);
        let id = RecordId::from_bytes([0xab; 32]);
        let key = places.key(&id);
        assert!(key.starts_with("oo:{aba}bab"), "{key}");
        assert_eq!(places.id(key.as_bytes()), Some(id));
        assert_eq!(places.sequence(&id), "oo:{aba}fence");
        assert_eq!(Places::new("oo:", false).sequence(&id), "oo:fence");
        for foreign in ["", "oo:fence", "oo:{aba}fence", "oo:{aba}", "x"] {
            assert_eq!(places.id(foreign.as_bytes()), None);
        }
        assert_eq!(places.id(key.to_uppercase().as_bytes()), None);
        assert_eq!(Places::new("other:", true).id(key.as_bytes()), None);
    }

    #[test]
    fn slots_are_the_ones_of_the_specification() {
        assert_eq!(slot_of_tag(b"123456789"), 0x31c3);
        assert_eq!(slot_of_tag(b"foo"), 12_182);
    }
}
