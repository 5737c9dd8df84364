//! Opening on a real disk: what works, and what is refused with which words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use onlyonce_core::{StoreError, StoreErrorKind};
use onlyonce_disk::{DiskStore, Durability};
use tempfile::TempDir;

fn refused(opened: Result<DiskStore, StoreError>, kind: StoreErrorKind, words: &str) {
    let error = opened.expect_err("it must not open");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn a_folder_is_made_and_closed_to_others() {
    let base = TempDir::new().unwrap();
    let folder = base.path().join("data");
    drop(DiskStore::open(&folder).unwrap());
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut files = 0;
    for file in fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
        files += 1;
    }
    assert!(files >= 3);
}

#[test]
fn a_folder_is_opened_once_at_a_time() {
    let folder = TempDir::new().unwrap();
    let name = folder.path().display().to_string();
    let first = DiskStore::open(folder.path()).unwrap();
    refused(
        DiskStore::open(folder.path()),
        StoreErrorKind::Misconfigured,
        &name,
    );
    drop(first);
    drop(DiskStore::open(folder.path()).unwrap());
}

#[test]
fn what_is_no_folder_of_ours_is_refused() {
    let base = TempDir::new().unwrap();
    let file = base.path().join("file");
    fs::write(&file, "text").unwrap();
    refused(
        DiskStore::open(&file),
        StoreErrorKind::Misconfigured,
        "is a file",
    );
    refused(
        DiskStore::open(base.path().join("no/such/parent")),
        StoreErrorKind::Misconfigured,
        "name a folder that exists or can be created",
    );
    refused(
        DiskStore::open(base.path()),
        StoreErrorKind::Misconfigured,
        "it holds `file`",
    );
    assert_eq!(fs::read(&file).unwrap(), b"text");
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let builder = || DiskStore::builder(folder.path());
    let kind = StoreErrorKind::Misconfigured;
    refused(
        builder().segment_bytes(1).open(),
        kind,
        "`segment_bytes` is 1",
    );
    refused(
        builder().segment_bytes(2 << 30).open(),
        kind,
        "`segment_bytes`",
    );
    refused(builder().max_bytes(1 << 20).open(), kind, "`max_bytes`");
    let every = Duration::ZERO;
    let relaxed = Durability::Relaxed { every };
    refused(builder().durability(relaxed).open(), kind, "`durability`");
    drop(builder().max_bytes(4 << 20).open().unwrap());
}
