//! Where in the program an error was made.

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

/// The way to an error. Names are looked up only when somebody wants to read them: most errors
/// are never shown with it.
pub(super) enum Trace {
    Given(Vec<Frame>),
    Captured(Backtrace),
}

impl Trace {
    pub(super) fn here() -> Self {
        Self::Captured(Backtrace::new_unresolved())
    }

    pub(super) const fn given(frames: Vec<Frame>) -> Self {
        Self::Given(frames)
    }

    pub(super) fn frames(&self) -> Vec<Frame> {
        match self {
            Self::Given(frames) => frames.clone(),
            Self::Captured(backtrace) => {
                let mut backtrace = backtrace.clone();
                backtrace.resolve();
                let symbols = backtrace.frames().iter().flat_map(BacktraceFrame::symbols);
                symbols.filter_map(own).take(MOST).collect()
            }
        }
    }
}

/// A deep recursion's frames tell nothing new.
const MOST: usize = 50;

/// The place of `symbol`, where it lies in the application: not in the standard library, not in a
/// dependency, not in the making of the error.
fn own(symbol: &BacktraceSymbol) -> Option<Frame> {
    let file = symbol.filename()?.to_string_lossy().into_owned();
    let function = format!("{:#}", symbol.name()?);
    let foreign = ["/rustc/", "/.cargo/registry/", "/rustlib/src/"]
        .iter()
        .any(|part| file.replace('\\', "/").contains(part));
    let ours = [
        "onlyonce_pipeline::error::Error::",
        "onlyonce_pipeline::error::chain::",
        "onlyonce_pipeline::error::trace::",
        "<onlyonce_pipeline::error::",
    ]
    .iter()
    .any(|part| function.starts_with(part));
    let from = function.contains(" as core::convert::");
    (!foreign && !ours && !from).then(|| Frame::new(function, file, symbol.lineno().unwrap_or(0)))
}
