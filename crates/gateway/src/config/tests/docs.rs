//! What the documentation shows is what the gateway takes.

use std::path::{Path as FilePath, PathBuf};

use super::*;

/// What the pages' settings name, as somebody would have it who follows them.
const FILES: [(&str, &str); 5] = [
    ("token.secret", "Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge"),
    ("roles.csv", "p, editor, /admin/posts/*, (GET)|(POST)\n"),
    ("error.html", "<h1>{{ code }}</h1>"),
    ("schemas/charge.json", "{}"),
    ("k1.key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
];

fn pages(folder: &FilePath, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, out);
        } else if path.extension().is_some_and(|end| end == "md") {
            out.push(path);
        }
    }
}

/// The blocks of settings on a page, each with the number of its first line.
fn settings_on(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (index, line) in page.lines().enumerate() {
        match (&mut block, line) {
            (None, "```toml") => block = Some((index + 2, String::new())),
            (Some(_), "```") => found.extend(block.take()),
            (Some((_, text)), line) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    found
}

#[test]
fn settings_on_every_page_are_good() {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut all = vec![root.join("README.md")];
    pages(&root.join("docs"), &mut all);
    let mut blocks = 0;
    for page in all {
        let text = std::fs::read_to_string(&page).unwrap();
        for (line, block) in settings_on(&text) {
            blocks += 1;
            let given = Given::nothing();
            let mut content = block;
            for (name, held) in FILES {
                let file = given.folder.path().join(name);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, held).unwrap();
                content = content.replace(&format!("\"{name}\""), &format!("{file:?}"));
            }
            // A variable of the process that nobody may set here.
            content = content.replace("{ env = \"ONCE_KEY_2\" }", "{ file = \"k1.key\" }");
            let key = given.folder.path().join("k1.key");
            content = content.replace("\"k1.key\"", &format!("{key:?}"));
            let names_one = content.lines().any(|line| line.starts_with("upstream"));
            let content = if names_one {
                content
            } else {
                format!("{UPSTREAM}{content}")
            };
            let said = Given::file(content).messages();
            let is_good = !said.contains("error");
            assert!(is_good, "{}:{line}: {said}", page.display());
        }
    }
    assert!(blocks >= 12, "{blocks} blocks found");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut all: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
        .map(|name| root.join(name))
        .into();
    pages(&root.join("docs"), &mut all);
    let mut links = 0;
    for page in all {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1) {
            let target = target.split(')').next().unwrap();
            if target.contains("://") || target.contains(' ') || target.is_empty() {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(file)
            };
            assert!(file.exists(), "{}: {target}", page.display());
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&file).unwrap();
                let there = text.lines().any(|line| anchor_of(line) == anchor);
                assert!(there, "{}: {target}", page.display());
            }
        }
    }
    assert!(links > 50, "{links} links found");
}

/// What a heading is called in a link.
fn anchor_of(line: &str) -> String {
    let Some(heading) = line.trim_start_matches('#').strip_prefix(' ') else {
        return String::new();
    };
    if !line.starts_with('#') {
        return String::new();
    }
    heading
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}
