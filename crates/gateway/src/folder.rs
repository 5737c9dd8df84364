//! Folders for what is kept on this machine.

use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{Access, access};

/// Whether a store could be kept in `folder`, which it makes if need be. Changes nothing.
///
/// # Errors
/// When it is no folder, or can't be made or written to.
pub(crate) fn examine(folder: &Path) -> anyhow::Result<()> {
    let absolute = std::path::absolute(folder)?;
    let named = || folder.display().to_string();
    for place in absolute.ancestors() {
        match std::fs::metadata(place) {
            Ok(found) => {
                anyhow::ensure!(found.is_dir(), "{} is not a folder", place.display());
                let may = access(place, Access::WRITE_OK | Access::EXEC_OK);
                return may
                    .with_context(|| format!("{}: can't write to {}", named(), place.display()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(named),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_be_had_is_good() {
        let folder = tempfile::tempdir().unwrap();
        assert!(examine(folder.path()).is_ok());
        assert!(examine(&folder.path().join("a/b")).is_ok());
        assert!(!folder.path().join("a").exists(), "nothing was made");
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("data")] {
            let error = format!("{:#}", examine(&path).unwrap_err());
            assert!(error.contains(file.to_str().unwrap()), "{error}");
        }
    }
}
