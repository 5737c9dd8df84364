//! Running programs, with a line that says which.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a task comes to; an error is a sentence for the user.
pub(crate) type Task<T = ()> = Result<T, String>;

/// A program that is about to run in the project's root.
pub(crate) struct Process(Command);

/// `cargo` with these arguments: the one that runs this task.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Process {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Process::new(cargo).args(&arguments)
}

/// The project's root.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where everything is built to: the folder of this very program, and the one around it.
pub(crate) fn target() -> PathBuf {
    let own = std::env::current_exe().ok();
    let target = own.as_deref().and_then(|own| own.parent()?.parent());
    target.map_or_else(|| root().join("target"), Path::to_owned)
}

impl Process {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.current_dir(root());
        Self(command)
    }

    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs it; an error says how it ended.
    pub(crate) fn run(mut self) -> Task {
        self.announce();
        let status = self.0.status();
        let status = status.map_err(|error| format!("`{}`: {error}", self.line()))?;
        self.judge(status.success())
    }

    /// Runs it, and shows what it prints while `look` reads along, line by line.
    pub(crate) fn run_read(mut self, mut look: impl FnMut(&str)) -> Task {
        self.announce();
        let failed = |line: String, error| format!("`{line}`: {error}");
        let mut child = self
            .0
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(self.line(), error))?;
        if let Some(output) = child.stdout.take() {
            for line in BufReader::new(output).split(b'\n') {
                let line = line.map_err(|error| failed(self.line(), error))?;
                let line = String::from_utf8_lossy(&line);
                look(&line);
                // Nobody reads any more: the exit code still counts.
                let _ = writeln!(std::io::stdout(), "{line}");
            }
        }
        let status = child.wait().map_err(|error| failed(self.line(), error))?;
        self.judge(status.success())
    }

    /// Whether it can be run and ends well. Its output is not shown.
    pub(crate) fn succeeds(mut self) -> bool {
        let status = self.0.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    fn announce(&self) {
        eprintln!("\n> {}", self.line());
    }

    fn judge(&self, succeeded: bool) -> Task {
        if succeeded {
            Ok(())
        } else {
            Err(format!("failed: `{}`", self.line()))
        }
    }

    /// What one would type.
    fn line(&self) -> String {
        let program = Path::new(self.0.get_program());
        let program = program.file_name().unwrap_or(program.as_os_str());
        let words = std::iter::once(program).chain(self.0.get_args());
        let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
        words.join(" ")
    }
}
