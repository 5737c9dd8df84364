//! Collects problems and puts each to the place where the setting in question was made.

use std::path::Path as FilePath;
use std::time::Duration;

use super::error::{Problem, SourceFile, Warning};
use super::mask;
use super::tree::{Node, Origin, Path};

/// What was found so far.
pub(super) struct Report<'t> {
    file: Option<&'t SourceFile>,
    tree: &'t Node,
    /// Paths that were faulty and are no longer in the tree.
    pruned: &'t [Path],
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
}

/// Which part of a setting is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Key,
    Value,
}

impl<'t> Report<'t> {
    pub(super) const fn new(
        file: Option<&'t SourceFile>,
        tree: &'t Node,
        pruned: &'t [Path],
    ) -> Self {
        Self {
            file,
            tree,
            pruned,
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The value at `path` can't be: `label` says what was expected.
    pub(super) fn invalid(&mut self, path: &Path, label: impl Into<String>, help: &str) {
        let problem = Problem::new(format!("invalid value for {path}"));
        self.error(path, problem.label(label).help(help));
    }

    /// Reports a number below `least`.
    pub(super) fn at_least(&mut self, path: &Path, value: usize, least: usize) {
        if value < least {
            let label = format!("expected at least {least}, found {value}");
            let problem = Problem::new(format!("invalid value for {path}"));
            self.error(path, problem.label(label));
        }
    }

    /// Reports a time limit of nothing.
    pub(super) fn not_zero(&mut self, path: &Path, limit: Duration) {
        if limit.is_zero() {
            self.invalid(
                path,
                "expected more than no time at all",
                "such a limit would end everything at once: write a longer one",
            );
        }
    }

    /// Something is wrong with the setting at `path`, or if it isn't set, with the nearest table
    /// around it that is.
    pub(super) fn error(&mut self, path: &Path, problem: Problem) {
        let problem = self.place(problem, path, Spot::Value);
        self.problems.push(problem);
    }

    /// Something about the setting at `path` is probably not meant.
    pub(super) fn warn(&mut self, path: &Path, problem: Problem) {
        let problem = self.place(problem, path, Spot::Value);
        self.warnings.push(Warning::new(problem));
    }

    /// Warns of the first of these settings that was made, as what it belongs to is off.
    pub(super) fn useless(&mut self, paths: &[Path], title: &str, help: &str) {
        if let Some(path) = paths.iter().find(|path| self.is_set(path)) {
            let problem = Problem::new(title).label("this has no effect").help(help);
            self.warn(path, problem);
        }
    }

    /// Reports a file that can't be made, as its folder is not there.
    pub(super) fn in_a_folder(&mut self, file: &FilePath, path: &Path) {
        let folder = file.parent().filter(|folder| *folder != "");
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let label = format!("there is no folder {}", folder.display());
            self.invalid(path, label, "make it, or name a file in another one");
        }
    }

    /// Whether the setting at `path` was made anywhere: in the file, a variable or a flag.
    pub(super) fn is_set(&self, path: &Path) -> bool {
        self.tree.at(path).is_some()
    }

    /// Whether something at or below `path` was faulty and has been reported already: what
    /// follows from its absence is no news.
    pub(super) fn was_faulty(&self, path: &Path) -> bool {
        self.pruned
            .iter()
            .any(|gone| gone.starts_with(path) || path.starts_with(gone))
    }

    fn place(&self, problem: Problem, path: &Path, spot: Spot) -> Problem {
        match self.tree.origin(path) {
            Some(origin) => at_origin(problem, self.file, origin, spot),
            None => problem,
        }
    }
}

/// Puts `problem` to where a setting was made.
pub(super) fn at_origin(
    problem: Problem,
    file: Option<&SourceFile>,
    origin: &Origin,
    spot: Spot,
) -> Problem {
    match (origin, file) {
        (Origin::File { key, value }, Some(file)) => {
            problem.in_file(file, if spot == Spot::Key { key } else { value })
        }
        (Origin::File { .. }, None) => problem,
        (Origin::Environment { name, value }, _) => given(problem, name, "=", value),
        (Origin::Flag { name, value }, _) => given(problem, name, " ", value),
    }
}

fn given(problem: Problem, name: &str, between: &str, value: &str) -> Problem {
    let shown = if mask::is_secret(name) {
        mask::HIDDEN.to_owned()
    } else {
        mask::value(value)
    };
    problem.given(&format!("{name}{between}"), &shown)
}
