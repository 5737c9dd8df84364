//! The switch.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether read-only mode is on: a switch that works while requests come in. All clones are one.
///
/// # Example
/// ```
/// use onlyonce_pipeline::read_only::ReadOnly;
///
/// let switch = ReadOnly::off();
/// let elsewhere = switch.clone();
/// elsewhere.set(true);
/// assert!(switch.is_on());
/// ```
#[derive(Clone)]
pub struct ReadOnly(Arc<AtomicBool>);

impl ReadOnly {
    /// A switch that is on, to begin with.
    #[must_use]
    pub fn on() -> Self {
        Self::new(true)
    }

    /// A switch that is off, to begin with.
    #[must_use]
    pub fn off() -> Self {
        Self::new(false)
    }

    /// A switch that is on or off, to begin with.
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self(Arc::new(AtomicBool::new(on)))
    }

    /// Turns it on or off, and returns what it was. It holds for every request that comes later;
    /// those under way go on.
    #[expect(
        clippy::must_use_candidate,
        reason = "most who turn it do not care what it was"
    )]
    pub fn set(&self, on: bool) -> bool {
        self.0.swap(on, Ordering::SeqCst)
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Default for ReadOnly {
    fn default() -> Self {
        Self::off()
    }
}

impl fmt::Debug for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() {
            "ReadOnly::on"
        } else {
            "ReadOnly::off"
        })
    }
}
