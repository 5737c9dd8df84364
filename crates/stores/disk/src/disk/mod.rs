//! The few things that the store asks of a folder, so that tests can put another in its place.

mod real;
#[cfg(test)]
pub(crate) mod sim;

use std::fmt;
use std::io;

pub(crate) use real::RealDisk;

/// One folder. Names are plain file names within it.
pub(crate) trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Takes the folder for this opener alone, until the guard is dropped.
    fn lock(&self, name: &str) -> io::Result<Lock>;
    /// The names of all that lies in the folder.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates a file that must not exist yet.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file within the folder.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_folder(&self) -> io::Result<()>;
}

/// One file.
pub(crate) trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// Reads some bytes; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some of the bytes.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes the file's bytes durable, and its length where that changed.
    fn sync(&self) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
}

/// Keeps other openers out while it lives.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its drop")] Box<dyn Guard>);

impl Lock {
    pub(crate) fn new(guard: impl Guard) -> Self {
        Self(Box::new(guard))
    }
}

/// Whatever ends the lock when it is dropped.
pub(crate) trait Guard: fmt::Debug + Send + Sync + 'static {}

impl<T: fmt::Debug + Send + Sync + 'static> Guard for T {}

impl dyn DiskFile {
    /// Fills the buffer as far as the file goes; returns how far.
    pub(crate) fn read_full(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Writes all the bytes.
    pub(crate) fn write_full(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.write_at(&bytes[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether the error says that there is no room: the only kind that goes away by waiting.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
