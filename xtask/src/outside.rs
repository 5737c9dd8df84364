//! Programs that nobody here wrote, as clients and servers for the tests.
//!
//! Tests that need one either stand in a module called `outside`, or are all of a crate's; that is
//! how a runner leaves them out where the program is missing. The tests find the programs by the
//! variables that [`Outside::variables`] gives, or on the path.

use std::path::{Path, PathBuf};

use crate::process::{Process, Task, target};

/// One program, and what hangs on it.
struct Need {
    what: &'static str,
    /// Debian's packages.
    packages: &'static [&'static str],
    /// Tells the tests where it is.
    variable: &'static str,
    without: &'static [Without],
    find: fn() -> Option<PathBuf>,
}

/// What is left out where the program is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Module(&'static str),
    Crates(&'static [&'static str]),
}

const NEEDS: [Need; 5] = [
    Need {
        what: "nginx",
        packages: &["nginx-light"],
        variable: "ONLYONCE_NGINX",
        without: &[Without::Module("outside::")],
        find: || program("nginx"),
    },
    Need {
        what: "curl",
        packages: &["curl"],
        variable: "ONLYONCE_CURL",
        without: &[Without::Module("outside::")],
        find: || program("curl"),
    },
    Need {
        what: "Python 3 with requests and httpx",
        packages: &["python3", "python3-requests", "python3-httpx"],
        variable: "ONLYONCE_PYTHON",
        without: &[Without::Module("outside::")],
        find: || pythons().into_iter().find(|python| has_modules(python)),
    },
    Need {
        what: "redis-server",
        packages: &["redis-server"],
        variable: "ONLYONCE_REDIS",
        without: &[
            Without::Crates(&["onlyonce-redis", "onlyonce-pipeline-redis"]),
            Without::Module("outside::"),
        ],
        find: || program("redis-server"),
    },
    Need {
        what: "PostgreSQL and PgBouncer",
        packages: &["postgresql", "pgbouncer"],
        variable: "ONLYONCE_POSTGRES",
        without: &[
            Without::Crates(&[
                "onlyonce-postgres",
                "onlyonce-sqlx",
                "onlyonce-tokio-postgres",
                "onlyonce-pipeline-postgres",
            ]),
            Without::Module("outside::"),
        ],
        find: || program("pgbouncer").and_then(|_| program("initdb").or_else(debian_initdb)),
    },
];

/// What is there.
pub(crate) struct Outside {
    found: [Option<PathBuf>; NEEDS.len()],
}

/// What is there; installs nothing.
pub(crate) fn find() -> Outside {
    Outside {
        found: std::array::from_fn(|index| (NEEDS[index].find)()),
    }
}

/// All of it; installs what is missing, as far as this user may.
pub(crate) fn require() -> Task<Outside> {
    let mut outside = find();
    if outside.missing().next().is_some() && is_root() && program("apt-get").is_some() {
        install(&outside.packages());
        outside = find();
    }
    let is_python = |need: &Need| need.variable == "ONLYONCE_PYTHON";
    if outside.missing().any(is_python) && virtual_environment() {
        outside = find();
    }
    if outside.missing().next().is_none() {
        return Ok(outside);
    }
    Err(format!(
        "some tests need programs that are not here: {}.\n\
         Install them (Debian, Ubuntu: apt-get install {}), or leave those tests out: \
         cargo xtask test --skip-outside",
        outside.names(),
        outside.packages().join(" "),
    ))
}

impl Outside {
    /// The tests that need any of it are left out, whatever is there.
    pub(crate) fn skipped() -> Self {
        Self {
            found: [const { None }; NEEDS.len()],
        }
    }

    /// Arguments by which both runners leave out the tests that cannot run.
    pub(crate) fn arguments(&self) -> Vec<&'static str> {
        let mut left_out: Vec<Without> = Vec::new();
        for without in self.missing().flat_map(|need| need.without) {
            if !left_out.contains(without) {
                left_out.push(*without);
            }
        }
        // What follows `--` goes to the test programs: crates come first.
        let crates = left_out.iter().filter_map(|without| match without {
            Without::Crates(names) => Some(names.iter().flat_map(|name| ["--exclude", name])),
            Without::Module(_) => None,
        });
        let modules = left_out.iter().filter_map(|without| match without {
            Without::Module(path) => Some(["--skip", *path]),
            Without::Crates(_) => None,
        });
        let modules: Vec<&str> = modules.flatten().collect();
        let mut arguments: Vec<&str> = crates.flatten().collect();
        if !modules.is_empty() {
            arguments.push("--");
            arguments.extend(modules);
        }
        arguments
    }

    /// A line that says what is not run, if anything is not.
    pub(crate) fn not_run(&self) -> Option<String> {
        self.missing()
            .next()
            .map(|_| format!("NOT RUN: the tests that need {}", self.names()))
    }

    /// Where the tests find the programs.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        NEEDS
            .iter()
            .zip(&self.found)
            .filter_map(|(need, path)| Some((need.variable, path.as_deref()?)))
    }

    fn missing(&self) -> impl Iterator<Item = &'static Need> {
        NEEDS
            .iter()
            .zip(&self.found)
            .filter_map(|(need, path)| path.is_none().then_some(need))
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.missing().map(|need| need.what).collect();
        names.join(", ")
    }

    fn packages(&self) -> Vec<&'static str> {
        let packages = self.missing().flat_map(|need| need.packages);
        packages.copied().collect()
    }
}

fn install(packages: &[&str]) {
    let apt = || Process::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive");
    // Whether it worked is seen by what is there afterwards: a mirror that is down is no matter
    // while another has the packages.
    let _ = apt().args(&["update", "--quiet"]).run();
    let arguments = ["install", "--yes", "--quiet", "--no-install-recommends"];
    let _ = apt().args(&arguments).args(packages).run();
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

fn has_modules(python: &Path) -> bool {
    Process::new(python)
        .args(&["-c", "import requests, httpx"])
        .succeeds()
}

/// Debian keeps the servers of each version off the path.
fn debian_initdb() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut files = versions
        .flatten()
        .map(|entry| entry.path().join("bin/initdb"));
    files.find(|file| file.is_file())
}

/// Python's packages in a folder of their own, for those who may not install Debian's.
fn virtual_environment() -> bool {
    let folder = environment();
    let (Some(python), Some(path)) = (program("python3"), folder.to_str()) else {
        return false;
    };
    let made = Process::new(python).args(&["-m", "venv", path]).run();
    made.is_ok()
        && Process::new(folder.join("bin/python3"))
            .args(&["-m", "pip", "install", "--quiet", "requests", "httpx"])
            .run()
            .is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_left_out_and_said() {
        let here = || Some(PathBuf::from("/here"));
        let all = Outside {
            found: std::array::from_fn(|_| here()),
        };
        assert!(all.arguments().is_empty());
        assert_eq!(all.not_run(), None);
        assert_eq!(all.variables().count(), NEEDS.len());

        let crates = [
            "onlyonce-redis",
            "onlyonce-pipeline-redis",
            "onlyonce-postgres",
            "onlyonce-sqlx",
            "onlyonce-tokio-postgres",
            "onlyonce-pipeline-postgres",
        ];
        let mut none: Vec<&str> = crates.iter().flat_map(|name| ["--exclude", name]).collect();
        none.extend(["--", "--skip", "outside::"]);
        assert_eq!(Outside::skipped().arguments(), none);

        let some = Outside {
            found: [here(), None, None, here(), here()],
        };
        assert_eq!(some.arguments(), ["--", "--skip", "outside::"]);
        let redis = Outside {
            found: [here(), here(), here(), None, here()],
        };
        let mut left_out = vec!["--exclude", "onlyonce-redis"];
        left_out.extend([
            "--exclude",
            "onlyonce-pipeline-redis",
            "--",
            "--skip",
            "outside::",
        ]);
        assert_eq!(redis.arguments(), left_out);
        let line = "NOT RUN: the tests that need curl, Python 3 with requests and httpx";
        assert_eq!(some.not_run().as_deref(), Some(line));
    }
}
