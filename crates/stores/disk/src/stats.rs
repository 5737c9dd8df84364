//! What a store reports of itself.

/// A store's state at one moment, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Records in the store; expired ones that were not swept yet are among them.
    pub records: u64,
    /// Records whose owner is at work, or has vanished.
    pub in_progress: u64,
    /// Bytes of the log that hold live records.
    pub live_bytes: u64,
    /// Bytes that the log takes on the disk.
    pub allocated_bytes: u64,
    /// Files of the log.
    pub segments: u64,
    /// Batches written since the store was opened. Each made all that waited durable.
    pub batches: u64,
    /// Entries written to the log since the store was opened.
    pub writes: u64,
    /// Flushes of the log since the store was opened. With
    /// [`Durability::Record`](crate::Durability::Record) one for each batch, and one more when
    /// a batch goes over the end of a file.
    pub flushes: u64,
    /// Files begun since the store was opened.
    pub segments_begun: u64,
    /// Files removed since the store was opened.
    pub segments_dropped: u64,
    /// Bytes of live records written again, to give back the room around them, since the store
    /// was opened.
    pub copied_bytes: u64,
    /// Open watches, over all records.
    pub watches: u64,
    /// Whether the store takes no new claims for want of room.
    pub full: bool,
    /// Whether the store has stopped until it is opened anew.
    pub poisoned: bool,
}
