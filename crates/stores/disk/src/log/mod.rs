//! The log: segment files of frames, what they look like and how they are read and written.
//!
//! The layout is described in `docs/decisions/0002-disk-store.md`.

pub(crate) mod frame;
pub(crate) mod scan;
pub(crate) mod segment;
pub(crate) mod writer;

/// A place in the log. Later in the log is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    /// The segment's number, from 1.
    pub(crate) segment: u32,
    /// Bytes from the start of its file.
    pub(crate) offset: u32,
}

/// Taken by each opener, so that a folder is not opened twice.
pub(crate) const LOCK_NAME: &str = "LOCK";
/// Says that the folder has held records: without it, a folder without segments is a new one.
pub(crate) const MARKER_NAME: &str = "STORE";

const SEGMENT_SUFFIX: &str = ".log";
const SPARE_SUFFIX: &str = ".spare";

/// The file that holds a segment.
pub(crate) fn segment_name(number: u32) -> String {
    format!("{number:010}{SEGMENT_SUFFIX}")
}

/// The file that will become a segment. Whatever it holds is of no account.
pub(crate) fn spare_name(number: u32) -> String {
    format!("{number:010}{SPARE_SUFFIX}")
}

/// What a file in the folder is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Segment(u32),
    Spare,
    Own,
    Foreign,
}

impl Named {
    pub(crate) fn of(name: &str) -> Self {
        let number = |suffix| {
            let digits: &str = name.strip_suffix(suffix)?;
            let plain = digits.len() == 10 && digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.parse().ok().filter(|number| plain && *number > 0)
        };
        if let Some(number) = number(SEGMENT_SUFFIX) {
            Self::Segment(number)
        } else if number(SPARE_SUFFIX).is_some() {
            Self::Spare
        } else if matches!(name, LOCK_NAME | MARKER_NAME) {
            Self::Own
        } else {
            Self::Foreign
        }
    }
}
