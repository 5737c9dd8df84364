//! A durable store in a folder of one machine.
//!
//! For one process at a time: the gateway's default, and a library's choice when a service runs
//! as a single instance. Every claim and every result lies on the disk before it is
//! acknowledged, so that `kill -9` and the loss of power leave nothing executed and forgotten.
//!
//! ```no_run
//! use onlyonce_disk::DiskStore;
//!
//! # fn main() -> Result<(), onlyonce_core::StoreError> {
//! let store = DiskStore::open("./onlyonce-data")?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it costs
//! A request alone costs two flushes of the disk, one for its claim and one for its result.
//! Requests that arrive together share them. Memory: some 100 bytes for each kept key; the
//! responses stay on the disk. Disk: about twice what is live, given back as it expires.
//!
//! # What it survives
//! - `kill -9`, a crash of the system, the loss of power: everything acknowledged is there. A
//!   last write that was cut off was not acknowledged, and is removed when the store is opened.
//! - A clock that is set back between two runs: the store's time never goes back, so no lease
//!   and no lifetime gets longer than it was.
//! - A full disk: new claims are refused, results of what is under way still land in room that
//!   is kept back for them, and when there is room again all goes on.
//!
//! # Where it stops
//! - Damage to what was acknowledged refuses the start, and names the file and the place. A
//!   damaged record that is found later is an error for its key, never a miss.
//! - After a flush that failed nobody knows what the disk holds: the store takes no more work
//!   until it is opened anew, when it finds out.
//!
//! # Assumptions
//! A disk writes a sector of 512 bytes whole or not at all, and does not lie about flushes. The
//! folder is on a local file system, not on a network share.

mod builder;
mod disk;
mod event;
mod index;
mod inspect;
mod log;
mod readers;
mod recover;
mod shared;
mod state;
mod stats;
mod steps;
mod store;
#[cfg(test)]
mod tests;
mod upkeep;

pub use builder::{Builder, Durability};
pub use stats::Stats;
pub use store::DiskStore;
