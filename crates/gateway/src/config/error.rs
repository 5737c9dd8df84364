//! What is wrong with the settings, said so that it can be put right.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Element, Level, Origin, Renderer, Snippet};

use super::mask;

/// Everything that is wrong with the settings; never empty.
///
/// Its text is what the user sees, over several lines, ending without a line break.
#[derive(Debug)]
pub struct ConfigErrors(Vec<Problem>);

/// Something in the settings that works but is probably not meant.
///
/// Its text is what the user sees, over several lines, ending without a line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(Problem);

/// One thing that is wrong, where, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    title: String,
    place: Option<Place>,
    /// What stands behind the caret.
    label: String,
    help: Option<String>,
}

/// Where a problem is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Line {
        file: String,
        /// Counted from 1.
        number: usize,
        text: String,
        span: Range<usize>,
    },
    /// Text that was given other than in a file, with no line number.
    Given {
        text: String,
        span: Range<usize>,
    },
    File(String),
}

/// A file of settings.
#[derive(Clone)]
pub(super) struct SourceFile {
    pub(super) name: String,
    pub(super) text: String,
}

impl ConfigErrors {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| match &problem.place {
            Some(Place::Line { number, span, .. }) => (0, *number, span.start),
            _ => (1, 0, 0),
        });
        Self(problems)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The text with colours, for a terminal.
    #[must_use]
    pub fn styled(&self) -> String {
        self.render(&Renderer::styled())
    }

    fn render(&self, renderer: &Renderer) -> String {
        let texts: Vec<String> = self
            .0
            .iter()
            .map(|problem| problem.render(Level::ERROR, renderer))
            .collect();
        texts.join("\n\n")
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

impl Error for ConfigErrors {}

impl From<Box<Problem>> for ConfigErrors {
    fn from(problem: Box<Problem>) -> Self {
        Self(vec![*problem])
    }
}

impl Warning {
    pub(super) const fn new(problem: Problem) -> Self {
        Self(problem)
    }

    /// Its first line, for a log.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.0.title
    }

    /// The text with colours, for a terminal.
    #[must_use]
    pub fn styled(&self) -> String {
        self.0.render(Level::WARNING, &Renderer::styled())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.render(Level::WARNING, &Renderer::plain()))
    }
}

impl Problem {
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self {
            title: mask::value(&title.into()),
            place: None,
            label: String::new(),
            help: None,
        }
    }

    /// Puts it to these bytes of the file; a span of several lines is cut to the first.
    pub(super) fn in_file(mut self, file: &SourceFile, span: &Range<usize>) -> Self {
        let text = file.text.as_str();
        let start = floor_char_boundary(text, span.start);
        let end = floor_char_boundary(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..]
            .find('\n')
            .map_or(text.len(), |length| start + length);
        let line = line_start..line_end;
        let within = start - line_start..end.min(line_end) - line_start;
        let shown = mask::shown(text, line, within);
        self.place = Some(Place::Line {
            file: file.name.clone(),
            number: text[..line_start].matches('\n').count() + 1,
            text: shown.line.trim_end_matches('\r').to_owned(),
            span: shown.span,
        });
        self
    }

    /// Puts it to the value of a variable or a flag, shown as it would be typed: `start` such as
    /// `NAME=`, then the value.
    pub(super) fn given(mut self, start: &str, value: &str) -> Self {
        let first_line = value.lines().next().unwrap_or_default();
        let text = format!("{start}{first_line}");
        self.place = Some(Place::Given {
            span: if value.is_empty() {
                0..text.len()
            } else {
                start.len()..text.len()
            },
            text,
        });
        self
    }

    /// Puts it to a file as a whole.
    pub(super) fn of_file(mut self, name: &str) -> Self {
        self.place = Some(Place::File(name.to_owned()));
        self
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = mask::value(&label.into());
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(mask::value(&help.into()));
        self
    }

    pub(super) fn maybe_help(self, help: Option<String>) -> Self {
        match help {
            Some(help) => self.help(help),
            None => self,
        }
    }

    fn render(&self, level: Level<'static>, renderer: &Renderer) -> String {
        let annotated = |source: &str, span: &Range<usize>| {
            // The renderer draws at least one caret, also at the end of a line.
            let end = span.end.min(source.len());
            let annotation = AnnotationKind::Primary
                .span(span.start.min(end)..end)
                .label(self.label.clone());
            Snippet::source(source.to_owned()).annotation(annotation)
        };
        let mut elements: Vec<Element<'_>> = Vec::new();
        match &self.place {
            Some(Place::Line {
                file,
                number,
                text,
                span,
            }) => elements.push(
                annotated(text, span)
                    .line_start(*number)
                    .path(printable(file))
                    .into(),
            ),
            Some(Place::Given { text, span }) => {
                elements.push(annotated(text, span).line_numbering(false).into());
            }
            Some(Place::File(name)) => {
                elements.push(Origin::path(printable(name)).into());
                elements.extend(self.note());
            }
            None => elements.extend(self.note()),
        }
        if let Some(help) = &self.help {
            elements.push(Level::HELP.message(wrapped(help)).into());
        }
        let title = level.primary_title(printable(&self.title));
        renderer
            .clone()
            .decor_style(DecorStyle::Ascii)
            .render(&[title.elements(elements)])
    }

    fn note(&self) -> Option<Element<'_>> {
        (!self.label.is_empty()).then(|| Level::NOTE.message(self.label.clone()).into())
    }
}

/// A name from outside, without anything that a terminal would obey.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// In lines that are good to read. What stands in backticks is not torn apart.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 88;
    let mut out = String::new();
    let mut column = 0;
    let mut quoted = false;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > WIDTH && !quoted {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        quoted ^= word.matches('`').count() % 2 == 1;
        out.push_str(word);
        column += width;
    }
    out
}

fn floor_char_boundary(text: &str, position: usize) -> usize {
    (0..=position.min(text.len()))
        .rev()
        .find(|position| text.is_char_boundary(*position))
        .unwrap_or(0)
}
