//! `docs/hazards.md`: which tests keep which hazard out, read from the tests' own names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::process::{Task, root};

const PAGE: &str = "docs/hazards.md";

/// Writes the page's last column anew.
pub(crate) fn write() -> Task {
    let page = read()?;
    fs::write(root().join(PAGE), up_to_date(&page, &tests()?))
        .map_err(|error| format!("{PAGE}: {error}"))
}

fn read() -> Task<String> {
    fs::read_to_string(root().join(PAGE)).map_err(|error| format!("{PAGE}: {error}"))
}

/// The files with tests, by the hazard that the tests are named after.
type Tests = BTreeMap<u32, BTreeSet<String>>;

fn tests() -> Task<Tests> {
    let mut tests = Tests::new();
    for folder in ["crates", "e2e", "examples", "fuzz/targets", "testing"] {
        visit(&root().join(folder), &mut tests)?;
    }
    Ok(tests)
}

fn visit(folder: &Path, tests: &mut Tests) -> Task {
    let failed = |error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            visit(&path, tests)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).map_err(failed)?;
            let file = path.strip_prefix(root()).unwrap_or(&path);
            for number in numbers(&text) {
                let files = tests.entry(number).or_default();
                files.insert(file.display().to_string());
            }
        }
    }
    Ok(())
}

/// The numbers of all functions that are called `hazard_NN_…`.
fn numbers(text: &str) -> impl Iterator<Item = u32> {
    text.split("fn hazard_").skip(1).filter_map(|rest| {
        let (number, _) = rest.split_once('_')?;
        number.parse().ok()
    })
}

fn up_to_date(page: &str, tests: &Tests) -> String {
    let mut out = String::new();
    for line in page.lines() {
        match row(line) {
            Some((number, text)) => {
                let files = tests.get(&number).into_iter().flatten();
                let links: Vec<String> = files.map(|file| link(file)).collect();
                out += &format!("| {number} | {text} | {} |\n", links.join(", "));
            }
            None => {
                out += line;
                out.push('\n');
            }
        }
    }
    out
}

/// A row's number and what happens.
fn row(line: &str) -> Option<(u32, &str)> {
    let mut cells = line.strip_prefix("| ")?.split(" | ");
    let number = cells.next()?.parse().ok()?;
    let text = cells.next()?;
    Some((number, text.strip_suffix(" |").unwrap_or(text)))
}

fn link(file: &str) -> String {
    let name = file.trim_start_matches("crates/").trim_end_matches(".rs");
    let name = name.replace("/src/", "/").replace("/tests/", "/");
    format!("[{name}](../{file})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_test() {
        let (page, tests) = (read().unwrap(), tests().unwrap());
        let known: Vec<u32> = page.lines().filter_map(|line| Some(row(line)?.0)).collect();
        let unknown: Vec<_> = tests
            .keys()
            .filter(|number| !known.contains(number))
            .collect();
        assert!(unknown.is_empty(), "{PAGE} has no number {unknown:?}");
        assert!(
            page == up_to_date(&page, &tests),
            "{PAGE} has fallen behind: run `cargo xtask hazards` and commit it"
        );
    }

    #[test]
    fn rows_are_rewritten_and_the_rest_is_left() {
        let tests = Tests::from([(7, BTreeSet::from(["crates/a/src/b.rs".to_owned()]))]);
        let page = "# x\n| | what | by |\n| 7 | it fails | old |\n| 8 | it falls |\n";
        let expected = "# x\n| | what | by |\n| 7 | it fails | [a/b](../crates/a/src/b.rs) |\n| 8 | it falls |  |\n";
        assert_eq!(up_to_date(page, &tests), expected);
        assert_eq!(up_to_date(expected, &tests), expected);
        let found: Vec<u32> = numbers("fn hazard_09_a() {} async fn hazard_10_b()").collect();
        assert_eq!(found, [9, 10]);
    }
}
