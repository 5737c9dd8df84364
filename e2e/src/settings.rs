//! Settings of a gateway under test, as the text of its file.

use std::fmt::Write as _;
use std::path::Path;

use crate::{RawUpstream, Upstream};

/// What the file says. Ports are free ones, the store is on the disk unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    upstreams: Vec<String>,
    store: Option<String>,
    sections: Vec<(String, String)>,
    routes: Vec<String>,
}

impl Settings {
    /// Before a service of the test.
    #[must_use]
    pub fn before(upstream: &Upstream) -> Self {
        Self::before_url(upstream.url())
    }

    /// Before a service that does not have to speak HTTP.
    #[must_use]
    pub fn before_raw(upstream: &RawUpstream) -> Self {
        Self::before_url(format!("http://{}", upstream.addr()))
    }

    /// Before any service.
    #[must_use]
    pub fn before_url(url: impl Into<String>) -> Self {
        Self {
            upstreams: vec![url.into()],
            ..Self::default()
        }
    }

    /// With another upstream behind the first.
    #[must_use]
    pub fn and_url(mut self, url: impl Into<String>) -> Self {
        self.upstreams.push(url.into());
        self
    }

    /// Records in memory, for what does not touch their durability.
    #[must_use]
    pub fn in_memory(self) -> Self {
        self.store("memory:")
    }

    /// The store's URL.
    #[must_use]
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.store = Some(url.into());
        self
    }

    /// Lines of `[idempotency]`.
    #[must_use]
    pub fn idempotency(self, lines: &str) -> Self {
        self.section("idempotency", lines)
    }

    /// A profile.
    #[must_use]
    pub fn profile(self, name: &str) -> Self {
        self.idempotency(&format!("profile = \"{name}\""))
    }

    /// Lines of any section.
    #[must_use]
    pub fn section(mut self, name: &str, lines: &str) -> Self {
        match self.sections.iter_mut().find(|(known, _)| known == name) {
            Some((_, text)) => {
                text.push('\n');
                text.push_str(lines);
            }
            None => self.sections.push((name.to_owned(), lines.to_owned())),
        }
        self
    }

    /// Lines of one `[[route]]`.
    #[must_use]
    pub fn route(mut self, lines: &str) -> Self {
        self.routes.push(lines.to_owned());
        self
    }

    /// The file's text, for a gateway whose things are in `folder`: `{folder}` in it stands for
    /// that.
    #[must_use]
    pub fn text(&self, folder: &Path) -> String {
        let mut text = format!(
            "listen = \"127.0.0.1:0\"\nupstream = {:?}\n",
            self.upstreams
        );
        let own = [
            ("admin", "listen = \"127.0.0.1:0\"".to_owned()),
            (
                "store",
                match &self.store {
                    Some(url) => format!("url = {url:?}"),
                    None => format!("url = \"file:{}\"", folder.join("records").display()),
                },
            ),
            ("log", "format = \"json\"".to_owned()),
        ];
        for (name, lines) in own {
            let more = self.sections.iter().find(|(known, _)| known == name);
            let more = more.map_or("", |(_, lines)| lines);
            let _ = writeln!(text, "[{name}]\n{lines}\n{more}");
        }
        for (name, lines) in &self.sections {
            if !["admin", "store", "log"].contains(&name.as_str()) {
                let _ = writeln!(text, "[{name}]\n{lines}");
            }
        }
        for lines in &self.routes {
            let _ = writeln!(text, "[[route]]\n{lines}");
        }
        text.replace("{folder}", &folder.display().to_string())
    }
}
