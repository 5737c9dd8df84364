//! `init`: a file of settings to start from.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What `onlyonce init` writes.
pub const INIT_TEMPLATE: &str = include_str!("init.toml");

/// The file to start from was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is one already.
    #[error("{0} is there already and was left as it is; name another file, or remove it first")]
    Exists(PathBuf),
    /// It could not be written.
    #[error("can't write {file}: {source}", file = file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Writes a commented file of settings; never over one that is there.
///
/// # Errors
/// When there is such a file, or it can't be written.
pub fn init(file: &Path) -> Result<(), InitError> {
    let write = || {
        let mut created = std::fs::File::create_new(file)?;
        created.write_all(INIT_TEMPLATE.as_bytes())?;
        created.sync_all()
    };
    write().map_err(|source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => InitError::Exists(file.to_owned()),
        _ => InitError::Write {
            file: file.to_owned(),
            source,
        },
    })
}
