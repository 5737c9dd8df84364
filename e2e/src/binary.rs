//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The `onlyonce` program: that of `ONLYONCE_BIN`, else the one beside this test, which is built
/// when it is not there. Says on standard error which one it is, and when it looks stale.
pub fn onlyonce() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let path = match std::env::var_os("ONLYONCE_BIN") {
            Some(path) => PathBuf::from(path),
            None => beside_this_test(),
        };
        assert!(path.is_file(), "{} is no program", path.display());
        eprintln!("program under test: {}{}", path.display(), age(&path));
        path
    })
}

fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows where it is");
    // target/debug/deps/e2e-0123 -> target/debug/onlyonce
    let folder = test.parent().and_then(Path::parent);
    let folder = folder.expect("tests are built below target/");
    let path = folder.join(format!("onlyonce{}", std::env::consts::EXE_SUFFIX));
    if !path.is_file() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--package", "onlyonce-gateway"])
            .current_dir(root())
            .status()
            .expect("cargo can be run");
        assert!(built.success(), "the gateway can't be built");
    }
    path
}

fn age(path: &Path) -> &'static str {
    let built = modified(path);
    let newest = newest_source(&root().join("crates"));
    if built < newest {
        " (OLDER than the sources: `cargo build -p onlyonce-gateway` makes it anew)"
    } else {
        ""
    }
}

fn newest_source(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?;
    let times = entries.flatten().filter_map(|entry| {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            // Changed tests do not make the program stale.
            (name != "tests").then(|| newest_source(&path)).flatten()
        } else {
            let is_source = path.extension().is_some_and(|extension| extension == "rs");
            (is_source && name != "tests.rs")
                .then(|| modified(&path))
                .flatten()
        }
    });
    times.max()
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}
