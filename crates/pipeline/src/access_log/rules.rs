//! What is logged of which requests.

use std::sync::Arc;

use super::paths::is_plain;
use super::{Paths, Redaction};
use crate::Code;

/// What is logged of which requests. Lines are written for all of them but those on
/// [`skip_paths`](Self::with_skip_paths); rows are kept of fewer where the rules say so.
///
/// # Example
/// ```
/// use onlyonce_pipeline::Code;
/// use onlyonce_pipeline::access_log::{Paths, Redaction, Rules};
///
/// # fn main() -> Result<(), onlyonce_pipeline::access_log::PathsError> {
/// let rules = Rules::new()
///     .with_modules(["admin", "api"])
///     .with_skip_codes([Code::new(61)])
///     .with_skip_paths(Paths::new(["/healthz"])?)
///     .with_skip_bodies(Paths::new(["/upload/{*rest}"])?)
///     .with_redaction(Redaction::new().with_fields(["card_number"]));
/// # let _ = rules;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) enabled: bool,
    modules: Vec<String>,
    skip_codes: Vec<Code>,
    pub(super) skip_paths: Paths,
    pub(super) skip_bodies: Paths,
    pub(super) max_body: usize,
    pub(super) redaction: Arc<Redaction>,
}

impl Rules {
    /// Everything, with bodies up to 16 KiB, and without what [`Redaction::new`] keeps out.
    #[must_use]
    pub fn new() -> Self {
        Self {
            enabled: true,
            modules: Vec::new(),
            skip_codes: Vec::new(),
            skip_paths: Paths::default(),
            skip_bodies: Paths::default(),
            max_body: 16 * 1024,
            redaction: Arc::new(Redaction::new()),
        }
    }

    /// Whether anything is logged at all.
    #[must_use]
    pub const fn with_enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Keeps rows of requests to these modules alone; of all when there are none. A path that
    /// another server could read as one of another module (`/%61dmin`, `/shop/../admin`) always
    /// has its row.
    #[must_use]
    pub fn with_modules(mut self, modules: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.modules = modules.into_iter().map(Into::into).collect();
        self
    }

    /// Keeps no rows of answers with these codes. An answer without a code has none of them.
    #[must_use]
    pub fn with_skip_codes(mut self, codes: impl IntoIterator<Item = Code>) -> Self {
        self.skip_codes = codes.into_iter().collect();
        self
    }

    /// Logs nothing of requests to these paths: neither lines nor rows.
    #[must_use]
    pub fn with_skip_paths(mut self, paths: Paths) -> Self {
        self.skip_paths = paths;
        self
    }

    /// Records no bodies of requests to these paths: uploads, say.
    #[must_use]
    pub fn with_skip_bodies(mut self, paths: Paths) -> Self {
        self.skip_bodies = paths;
        self
    }

    /// Records so many bytes of a request's body; 0 records none.
    #[must_use]
    pub const fn with_max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// What is kept out.
    #[must_use]
    pub fn with_redaction(mut self, redaction: Redaction) -> Self {
        self.redaction = Arc::new(redaction);
        self
    }

    pub(super) fn keeps_row(&self, module: &str, path: &str, code: Option<Code>) -> bool {
        let is_wanted = self.modules.is_empty()
            || self.modules.iter().any(|it| it.eq_ignore_ascii_case(module))
            // Which module it reaches depends on who reads it.
            || module.contains('%')
            || !is_plain(path);
        is_wanted && code.is_none_or(|code| !self.skip_codes.contains(&code))
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new()
    }
}
