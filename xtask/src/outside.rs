//! Programs that nobody here wrote, as clients and servers for the tests: nginx, curl, Python.
//!
//! Tests that need them are in modules called `outside`, so that a runner can leave them out by
//! name, and find the programs in the variables that [`Outside::variables`] gives.

use std::path::{Path, PathBuf};

use crate::process::{Process, Task, target};

const PACKAGES: [&str; 6] = [
    "nginx-light",
    "redis-server",
    "curl",
    "python3",
    "python3-requests",
    "python3-httpx",
];

/// What is there.
#[derive(Default)]
pub(crate) struct Outside {
    nginx: Option<PathBuf>,
    redis: Option<PathBuf>,
    curl: Option<PathBuf>,
    python: Option<PathBuf>,
    skipped: bool,
}

fn find() -> Outside {
    Outside {
        nginx: program("nginx"),
        redis: program("redis-server"),
        curl: program("curl"),
        python: pythons().into_iter().find(has_modules),
        skipped: false,
    }
}

/// All of it; installs what is missing, as far as this user may.
pub(crate) fn require() -> Task<Outside> {
    let mut outside = find();
    if outside.is_complete() {
        return Ok(outside);
    }
    if is_root() && program("apt-get").is_some() {
        let apt = || Process::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive");
        // A mirror that is down is no matter while another has the packages.
        let _ = apt().args(&["update", "--quiet"]).run();
        let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
        let _ = apt().args(&install).args(&PACKAGES).run();
        outside = find();
    }
    if outside.python.is_none() {
        outside.python = virtual_environment();
    }
    if outside.is_complete() {
        return Ok(outside);
    }
    Err(format!(
        "some tests need programs that are not here: {}.\n\
         Install them (Debian, Ubuntu: apt-get install {}), or leave those tests out: \
         cargo xtask test --skip-outside",
        outside.missing().join(", "),
        PACKAGES.join(" "),
    ))
}

impl Outside {
    /// Those tests are left out, whatever is there.
    pub(crate) fn skipped() -> Self {
        Self {
            skipped: true,
            ..Self::default()
        }
    }

    /// Whether the tests that need them can run.
    pub(crate) fn is_complete(&self) -> bool {
        !self.skipped && self.missing().is_empty()
    }

    /// Why they can't.
    pub(crate) fn why_not(&self) -> String {
        if self.skipped {
            "--skip-outside".to_owned()
        } else {
            format!("missing: {}", self.missing().join(", "))
        }
    }

    /// Where the tests find the programs.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        [
            ("ONLYONCE_NGINX", &self.nginx),
            ("ONLYONCE_CURL", &self.curl),
            ("ONLYONCE_PYTHON", &self.python),
        ]
        .into_iter()
        .filter_map(|(name, path)| Some((name, path.as_deref()?)))
    }

    fn missing(&self) -> Vec<&'static str> {
        [
            ("nginx", &self.nginx),
            ("redis-server", &self.redis),
            ("curl", &self.curl),
            ("Python 3 with requests and httpx", &self.python),
        ]
        .into_iter()
        .filter_map(|(name, path)| path.is_none().then_some(name))
        .collect()
    }
}

/// A program on the path, or where servers are kept, which is not on every user's path.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// The first Python on the path need not be the one that the system's packages belong to.
fn pythons() -> Vec<PathBuf> {
    let own = environment().join("bin/python3");
    program("python3")
        .into_iter()
        .chain(["/usr/bin/python3".into(), own])
        .collect()
}

fn has_modules(python: &PathBuf) -> bool {
    Process::new(python)
        .args(&["-c", "import requests, httpx"])
        .succeeds()
}

fn virtual_environment() -> Option<PathBuf> {
    let folder = environment();
    let python = program("python3")?;
    let folder_text = folder.to_str()?;
    Process::new(python)
        .args(&["-m", "venv", folder_text])
        .run()
        .ok()?;
    let own = folder.join("bin/python3");
    Process::new(&own)
        .args(&["-m", "pip", "install", "--quiet", "requests", "httpx"])
        .run()
        .ok()?;
    has_modules(&own).then_some(own)
}

fn environment() -> PathBuf {
    target().join("xtask-python")
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // Without a library, the owner of this very process is told by its folder in /proc.
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}
