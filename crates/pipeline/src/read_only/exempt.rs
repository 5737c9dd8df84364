//! Routes that stay open.

use std::fmt;
use std::sync::Arc;

use matchit::{InsertError, Router};

use crate::path::read_strictly;

/// In the extensions of a request whose route stays open in read-only mode, as a router outside
/// knows it. It counts for nothing where the path has more than one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exempt;

/// A pattern of routes that can't be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{pattern}` is no pattern of routes: {source}")]
pub struct ExemptError {
    pattern: Box<str>,
    source: InsertError,
}

/// The patterns of the routes that stay open.
#[derive(Clone, Default)]
pub(super) struct Exemptions(Arc<Router<()>>);

impl Exemptions {
    pub(super) fn insert(&mut self, pattern: &str) -> Result<(), ExemptError> {
        let inserted = Arc::make_mut(&mut self.0).insert(pattern, ());
        inserted.map_err(|source| ExemptError {
            pattern: pattern.into(),
            source,
        })
    }

    pub(super) fn hold(&self, path: &str) -> bool {
        self.0.at(path).is_ok()
    }
}

impl fmt::Debug for Exemptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exemptions")
    }
}

/// Whether every server on the way reads the path alike. `/login/../orders` is `/orders` to one
/// that mends paths, and below `/login` to one that does not.
pub(super) fn is_plain(path: &str) -> bool {
    read_strictly(path).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hazard_54_paths_with_a_second_reading_are_not_plain() {
        for path in [
            "/",
            "/login",
            "/login/",
            "/a/b.c/..d",
            "/a%20b",
            "/%E4%BD%A0",
            "/a:b@c",
        ] {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "",
            "*",
            "login",
            "//login",
            "/login//",
            "//",
            "/login//x",
            "/./login",
            "/login/.",
            "/login/..",
            "/login/../orders",
            "/login/%2e%2e/orders",
            "/login/%2E%2E/orders",
            "/login/.%2e/orders",
            "/login%2f..%2forders",
            "/login/..%5corders",
            "/login/..\\orders",
            "/login/%252e%252e/orders",
            "/login;/orders",
            "/login/..;/orders",
            "/login%3b/orders",
            "/login%00",
            "/login%0a",
            "/login%",
            "/login%2",
            "/login%zz",
            "/login%+1",
            "/%6Cogin",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(path in "\\PC{0,30}") {
            is_plain(&path);
        }

        /// By another reading: mending a plain path changes nothing.
        #[test]
        fn a_plain_path_is_its_own_normal_form(path in "/(a|b|/|\\.|%2e|%2f|%41|;){0,8}") {
            if is_plain(&path) {
                let base = format!("http://h{path}");
                let mut kept: Vec<&str> = Vec::new();
                for part in path.split('/').skip(1) {
                    match part {
                        ".." => { kept.pop(); }
                        "." => {}
                        part => kept.push(part),
                    }
                }
                prop_assert_eq!(format!("http://h/{}", kept.join("/")), base);
            }
        }
    }
}
