//! Where in the program an error was made.

use std::sync::OnceLock;

use backtrace::{Backtrace, BacktraceFrame, BacktraceSymbol};

/// A place in the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    function: String,
    file: String,
    line: u32,
}

impl Frame {
    /// The place in `function` at `line` of `file`.
    #[must_use]
    pub fn new(function: impl Into<String>, file: impl Into<String>, line: u32) -> Self {
        Self {
            function: function.into(),
            file: file.into(),
            line,
        }
    }

    /// The function's path.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The source file.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line in it, from 1.
    #[must_use]
    pub const fn line(&self) -> u32 {
        self.line
    }
}

/// The way to an error. Names are looked up only when somebody wants to read them, as most errors
/// are never shown with it, and once: it takes milliseconds.
pub(super) enum Trace {
    Given(Vec<Frame>),
    Captured(Box<Backtrace>, OnceLock<Vec<Frame>>),
}

impl Trace {
    pub(super) fn here() -> Self {
        Self::Captured(Box::new(Backtrace::new_unresolved()), OnceLock::new())
    }

    pub(super) const fn given(frames: Vec<Frame>) -> Self {
        Self::Given(frames)
    }

    pub(super) fn frames(&self) -> &[Frame] {
        match self {
            Self::Given(frames) => frames,
            Self::Captured(backtrace, frames) => frames.get_or_init(|| {
                let mut backtrace = Backtrace::clone(backtrace);
                backtrace.resolve();
                let symbols = backtrace.frames().iter().flat_map(BacktraceFrame::symbols);
                symbols.filter_map(own).take(MOST).collect()
            }),
        }
    }
}

/// A deep recursion's frames tell nothing new.
const MOST: usize = 50;

/// The place of `symbol`, where it lies in the application: not in the standard library, not in a
/// dependency, not in this house.
fn own(symbol: &BacktraceSymbol) -> Option<Frame> {
    let file = symbol.filename()?.to_string_lossy().replace('\\', "/");
    let function = format!("{:#}", symbol.name()?);
    let foreign = ["/rustc/", "/.cargo/registry/", "/rustlib/src/"]
        .iter()
        .any(|part| file.contains(part));
    let is_own = file.ends_with(".rs") && !foreign && !is_ours(&file, &function);
    is_own.then(|| Frame::new(function, file, symbol.lineno().unwrap_or(0)))
}

/// Whether it is a place in the layers, or in the making of errors, which tells nobody anything.
/// For applications that is so already as for every dependency; this is for the examples here.
fn is_ours(file: &str, function: &str) -> bool {
    if cfg!(test) {
        // Here the tests are the application.
        return !function.contains("::tests::");
    }
    let house = file!().strip_suffix("pipeline/src/error/trace.rs");
    house.is_some_and(|house| !house.is_empty() && file.contains(house))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_once() {
        let trace = Trace::here();
        let first = trace.frames();
        assert!(!first.is_empty());
        assert!(std::ptr::eq(first, trace.frames()));
    }
}
