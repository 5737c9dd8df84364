//! The file: a line for each change, with a checksum.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use onlyonce_core::{StoreErrorKind, Timestamp};
use rustix::fs::{FlockOperation, flock};

use super::super::table::{Change, Kept};
use super::super::{SessionKey, TokenKey, TokenStoreError, UserKey};
use super::OpenDiskTokenStoreError;

pub(super) struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    /// Not rewritten again before it is this long.
    rewrite_at: u64,
    /// What failed: after that the file's end isn't known.
    failed: Option<String>,
    _lock: File,
}

const FIRST_LINE: &str = "onlyonce tokens 1\n";
/// Readable and writable by its owner alone.
const FILE_MODE: u32 = 0o600;
/// A file up to this length is never rewritten.
const SMALL: u64 = 1024 * 1024;
/// A line that puts one session has fewer bytes than this.
const LINE: u64 = 256;
/// A login can make room by ending this many sessions, in one line.
const MOST_LINE: u64 = 16 * 1024 * 1024;

impl Log {
    /// Opens the file and hands each change in it to `replay`.
    pub(super) fn open(
        path: PathBuf,
        mut replay: impl FnMut(Change),
    ) -> Result<Self, OpenDiskTokenStoreError> {
        let io_error = |source| OpenDiskTokenStoreError::Io {
            path: path.clone(),
            source,
        };
        let lock_path = beside(&path, "lock");
        let lock = options().create(true).open(lock_path).map_err(io_error)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(OpenDiskTokenStoreError::Locked(path));
            }
            Err(error) => return Err(io_error(error.into())),
        }
        if !path.try_exists().map_err(io_error)? {
            write_new(&path, &[]).map_err(io_error)?;
        }
        let mut file = options().open(&path).map_err(io_error)?;
        let length = read(&path, &file, &mut replay)?;
        // What is behind it is a write that was cut off, whose caller never heard that it counts.
        let on_disk = file.metadata().map_err(io_error)?.len();
        if on_disk > length {
            tracing::warn!(path = %path.display(), bytes = on_disk - length, "cut an unfinished write");
            file.set_len(length).map_err(io_error)?;
            file.sync_all().map_err(io_error)?;
        }
        file.seek(SeekFrom::Start(length)).map_err(io_error)?;
        Ok(Self {
            path,
            file,
            length,
            rewrite_at: SMALL,
            failed: None,
            _lock: lock,
        })
    }

    /// Writes a line for these changes, which count together, and syncs it.
    pub(super) fn append(&mut self, changes: &[Change]) -> Result<(), TokenStoreError> {
        if let Some(failed) = &self.failed {
            return Err(TokenStoreError::new(
                StoreErrorKind::Poisoned,
                format!(
                    "an earlier write to {} failed ({failed}); open the store anew",
                    self.path.display()
                ),
            ));
        }
        let line = line_of(changes);
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.length += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.failed = Some(error.to_string());
                Err(TokenStoreError::new(
                    StoreErrorKind::Poisoned,
                    format!("can't write to {}", self.path.display()),
                )
                .with_source(error))
            }
        }
    }

    pub(super) fn is_large_for(&self, sessions: usize) -> bool {
        self.length > self.rewrite_at && self.length / 4 > sessions as u64 * LINE
    }

    /// Writes the file anew with these changes alone. When that fails, the old file goes on.
    pub(super) fn rewrite(&mut self, live: &[Change]) {
        let rewritten = write_new(&self.path, live).and_then(|length| {
            let mut file = options().open(&self.path)?;
            file.seek(SeekFrom::Start(length))?;
            Ok((file, length))
        });
        match rewritten {
            Ok((file, length)) => {
                self.file = file;
                self.length = length;
                self.rewrite_at = SMALL;
            }
            Err(error) => {
                // Whether the rename has happened isn't known, so neither is which file is read
                // at the next start.
                self.failed = Some(error.to_string());
                tracing::error!(
                    path = %self.path.display(),
                    error = &error as &dyn std::error::Error,
                    "can't write the token store anew"
                );
            }
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Writes a whole file beside `path`, then puts it there; gives its length.
fn write_new(path: &Path, changes: &[Change]) -> io::Result<u64> {
    let draft = beside(path, "new");
    let mut file = options().create(true).truncate(true).open(&draft)?;
    let mut text = FIRST_LINE.to_owned();
    for change in changes {
        text.push_str(&line_of(std::slice::from_ref(change)));
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()?;
    Ok(text.len() as u64)
}

/// Reads all lines; gives the length up to which they are good.
fn read(
    path: &Path,
    file: &File,
    replay: &mut impl FnMut(Change),
) -> Result<u64, OpenDiskTokenStoreError> {
    let io_error = |source| OpenDiskTokenStoreError::Io {
        path: path.to_owned(),
        source,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut next = |line: &mut Vec<u8>| {
        use io::Read as _;
        line.clear();
        reader.by_ref().take(MOST_LINE).read_until(b'\n', line)
    };
    next(&mut line).map_err(io_error)?;
    if line != FIRST_LINE.as_bytes() {
        return Err(OpenDiskTokenStoreError::Foreign(path.to_owned()));
    }
    let mut good = line.len() as u64;
    let mut number = 1;
    loop {
        number += 1;
        if next(&mut line).map_err(io_error)? == 0 {
            return Ok(good);
        }
        let Some(changes) = changes_of(&line) else {
            let is_last = next(&mut Vec::new()).map_err(io_error)? == 0;
            if is_last {
                return Ok(good);
            }
            return Err(OpenDiskTokenStoreError::Damaged {
                path: path.to_owned(),
                line: number,
            });
        };
        good += line.len() as u64;
        changes.into_iter().for_each(&mut *replay);
    }
}

/// `CHECKSUM CHANGE;CHANGE…\n`
fn line_of(changes: &[Change]) -> String {
    let texts: Vec<String> = changes.iter().map(text_of).collect();
    let text = texts.join(";");
    format!("{} {text}\n", checksum(text.as_bytes()))
}

fn changes_of(line: &[u8]) -> Option<Vec<Change>> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (sum, text) = line.split_once(' ')?;
    if sum != checksum(text.as_bytes()) {
        return None;
    }
    text.split(';').map(change_of).collect()
}

fn checksum(text: &[u8]) -> String {
    blake3::hash(text).to_hex()[..16].to_owned()
}

fn text_of(change: &Change) -> String {
    match change {
        Change::Put {
            session,
            kept,
            current,
        } => format!(
            "put {} {} {} {} {} {}",
            session.user,
            session.token,
            kept.since.as_millis(),
            kept.until.as_millis(),
            kept.refreshes,
            if *current { "current" } else { "-" },
        ),
        Change::Remove { session } => format!("remove {} {}", session.user, session.token),
    }
}

fn change_of(text: &str) -> Option<Change> {
    let mut words = text.split(' ');
    let verb = words.next()?;
    let session = SessionKey {
        user: UserKey::from_hex(words.next()?)?,
        token: TokenKey::from_hex(words.next()?)?,
    };
    let change = match verb {
        "put" => Change::Put {
            session,
            kept: Kept {
                since: Timestamp::from_millis(words.next()?.parse().ok()?),
                until: Timestamp::from_millis(words.next()?.parse().ok()?),
                refreshes: words.next()?.parse().ok()?,
            },
            current: match words.next()? {
                "current" => true,
                "-" => false,
                _ => return None,
            },
        },
        "remove" => Change::Remove { session },
        _ => return None,
    };
    words.next().is_none().then_some(change)
}
