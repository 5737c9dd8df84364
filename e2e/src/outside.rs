//! Programs that nobody here wrote, as clients and as upstreams.
//!
//! The tests install nothing: `cargo xtask test` does, and says where the programs are. One that
//! is missing fails the test that needs it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

const REMEDY: &str = "`cargo xtask test` installs it, or leaves these tests out";

/// curl.
#[must_use]
pub fn curl() -> Command {
    Command::new(program("ONLYONCE_CURL", "curl"))
}

/// nginx.
#[must_use]
pub fn nginx() -> Command {
    Command::new(program("ONLYONCE_NGINX", "nginx"))
}

/// Python 3 that has `requests` and `httpx`.
#[must_use]
pub fn python() -> Command {
    let given = std::env::var_os("ONLYONCE_PYTHON").map(PathBuf::from);
    let system = [PathBuf::from("/usr/bin/python3"), PathBuf::from("python3")];
    let candidates = given.map_or_else(|| system.to_vec(), |path| vec![path]);
    let found = candidates.into_iter().find(|python| {
        let check = Command::new(python)
            .args(["-c", "import requests, httpx"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        check.is_ok_and(|status| status.success())
    });
    Command::new(found.unwrap_or_else(|| panic!("no Python 3 with requests and httpx: {REMEDY}")))
}

fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([
        "/usr/sbin".into(),
        "/usr/local/sbin".into(),
        "/sbin".into(),
    ]);
    let found = folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not here: {REMEDY}"))
}
