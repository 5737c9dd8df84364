//! Errors as a chain: what clients are told, and what the log keeps.

mod chain;
mod trace;

use std::error::Error as StdError;
use std::fmt;

use crate::{Code, Language, Text};

use chain::{Node, Source};
pub use trace::Frame;

/// What went wrong, as a chain from the outermost explanation to the first cause.
///
/// Each node has a message, maybe a [`Code`], and the place in the program where it was made.
/// Clients are told the outermost message and the outermost code that is not [`Code::NONE`]; the
/// log gets the whole chain.
///
/// Any [`std::error::Error`] becomes one with `?`. Its text was not written for clients, so it is
/// marked [internal](Self::internal); wrap it to say something to them.
///
/// # Example
/// ```
/// use onlyonce_pipeline::{Code, Error, Language, Wrap as _};
///
/// fn stock(text: &str) -> Result<u32, Error> {
///     text.parse::<u32>().wrap_code(Code::new(30001), "how many?")
/// }
///
/// let error = stock("many").unwrap_err();
/// assert_eq!(error.code(), Code::new(30001));
/// assert_eq!(error.message(Language::En), "how many?");
/// assert_eq!(error.chain().count(), 2);
/// ```
pub struct Error {
    /// From the first cause to the outermost: never empty.
    nodes: Vec<Node>,
    source: Source,
}

impl Error {
    /// An error with a code and a message for clients.
    #[must_use]
    pub fn new(code: impl Into<Code>, text: impl Into<Text>) -> Self {
        Self::start(Node::new(Some(text.into()), code.into()), None)
    }

    /// An error with a code whose own message says it all.
    #[must_use]
    pub fn of(code: impl Into<Code>) -> Self {
        Self::start(Node::new(None, code.into()), None)
    }

    /// An error with a message for clients, and no code.
    #[must_use]
    pub fn plain(text: impl Into<Text>) -> Self {
        Self::start(Node::new(Some(text.into()), Code::NONE), None)
    }

    fn start(node: Node, source: Source) -> Self {
        Self {
            nodes: vec![node],
            source,
        }
    }

    /// Says more about it; the code stays.
    #[must_use]
    pub fn wrap(self, text: impl Into<Text>) -> Self {
        self.wrap_code(Code::NONE, text)
    }

    /// Says more about it, with a code that takes the place of the one there is.
    #[must_use]
    pub fn wrap_code(mut self, code: impl Into<Code>, text: impl Into<Text>) -> Self {
        self.nodes.push(Node::new(Some(text.into()), code.into()));
        self
    }

    /// Gives it this code where it has none; the message stays.
    #[must_use]
    pub fn or_code(mut self, code: impl Into<Code>) -> Self {
        if self.code() == Code::NONE
            && let Some(outermost) = self.nodes.last_mut()
        {
            outermost.code = code.into();
        }
        self
    }

    /// Marks the outermost message as not meant for clients: they are told that the operation
    /// failed, unless debug is on.
    #[must_use]
    pub fn internal(mut self) -> Self {
        if let Some(outermost) = self.nodes.last_mut() {
            outermost.internal = true;
        }
        self
    }

    /// Takes `frames` for the place where the outermost node was made.
    #[must_use]
    pub fn with_frames(mut self, frames: Vec<Frame>) -> Self {
        if let Some(outermost) = self.nodes.last_mut() {
            outermost.trace = trace::Trace::given(frames);
        }
        self
    }

    /// The outermost code that is not [`Code::NONE`]; [`Code::NONE`] if there is none.
    #[must_use]
    pub fn code(&self) -> Code {
        let mut codes = self.nodes.iter().rev().map(|node| node.code);
        codes.find(|code| *code != Code::NONE).unwrap_or(Code::NONE)
    }

    /// The outermost message.
    #[must_use]
    pub fn message(&self, language: Language) -> &str {
        self.outermost().message(language)
    }

    /// Whether the outermost message is not meant for clients.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.outermost().internal
    }

    fn outermost(&self) -> &Node {
        self.nodes
            .last()
            .expect("a chain has a first node from its making on")
    }

    /// The messages, from the outermost to the first cause, in English where there is a choice.
    pub fn chain(&self) -> impl Iterator<Item = &str> {
        self.nodes
            .iter()
            .rev()
            .map(|node| node.message(Language::En))
    }

    /// The error that the chain began with, where it is an `E`.
    #[must_use]
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.source.as_deref()?.downcast_ref()
    }

    /// The chain with its places, a line each, as debug answers and the log show it.
    ///
    /// A place that a deeper node names too is left out of the upper one. The last line is empty.
    #[must_use]
    pub fn lines(&self, language: Language) -> Vec<String> {
        chain::lines(&self.nodes, language)
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let mut nodes = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            nodes.push(Node::cause(error));
            cause = error.source();
        }
        nodes.reverse();
        nodes.push(Node::new(Some(error.to_string().into()), Code::NONE));
        let source: Source = Some(Box::new(error));
        Self { nodes, source }.internal()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message(Language::En))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, text) in self.chain().enumerate() {
            let gap = if depth == 0 { "" } else { ": " };
            write!(f, "{gap}{text}")?;
        }
        write!(f, " (code {})", self.code())
    }
}

/// Says more about the error of a result.
pub trait Wrap<T>: Sized {
    /// Says more about the error; its code stays.
    ///
    /// # Errors
    /// The error there was, with this message around it.
    fn wrap(self, text: impl Into<Text>) -> Result<T, Error>;

    /// Says more about the error, with a code that takes the place of its own.
    ///
    /// # Errors
    /// The error there was, with this code and message around it.
    fn wrap_code(self, code: impl Into<Code>, text: impl Into<Text>) -> Result<T, Error>;
}

impl<T, E: Into<Error>> Wrap<T> for Result<T, E> {
    fn wrap(self, text: impl Into<Text>) -> Result<T, Error> {
        self.map_err(|error| error.into().wrap(text))
    }

    fn wrap_code(self, code: impl Into<Code>, text: impl Into<Text>) -> Result<T, Error> {
        self.map_err(|error| error.into().wrap_code(code, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, line: u32) -> Frame {
        Frame::new(function, "app.rs", line)
    }

    #[test]
    fn the_message_is_the_outermost_and_the_code_is_inherited() {
        let error = Error::new(30001, "m").wrap("outer");
        assert_eq!(error.code(), Code::new(30001));
        assert_eq!(error.message(Language::En), "outer");
    }

    #[test]
    fn a_wrap_with_a_code_overrides() {
        let error = Error::new(7, "seven").wrap_code(9, "nine");
        assert_eq!(error.code(), Code::new(9));
        assert_eq!(error.message(Language::En), "nine");
    }

    #[test]
    fn plain_errors_have_no_code() {
        assert_eq!(Error::plain("oops").code(), Code::NONE);
        assert_eq!(Error::plain("oops").wrap("again").code(), Code::NONE);
        assert_eq!(
            Error::of(Code::NOT_FOUND).message(Language::En),
            "Not Found"
        );
    }

    #[test]
    fn a_code_for_those_that_have_none() {
        let error = Error::plain("oops").or_code(68);
        assert_eq!(error.code(), Code::INTERNAL_PANIC);
        assert_eq!(error.message(Language::En), "oops");
        assert_eq!(error.chain().count(), 1);
        assert_eq!(
            Error::new(7, "seven").wrap("w").or_code(68).code(),
            Code::new(7)
        );
    }

    #[test]
    fn a_std_error_is_internal_until_it_is_wrapped() {
        let error = Error::from("x".parse::<u8>().unwrap_err());
        assert!(error.is_internal());
        assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
        let wrapped = error.wrap("not a number");
        assert!(!wrapped.is_internal());
        assert!(wrapped.downcast_ref::<std::num::ParseIntError>().is_some());
    }

    #[test]
    fn causes_of_a_std_error_are_nodes() {
        let utf8 = String::from_utf8(vec![0xff]).unwrap_err();
        let error = Error::from(std::io::Error::other(utf8));
        assert_eq!(
            error.chain().next(),
            Some("invalid utf-8 sequence of 1 bytes from index 0")
        );
    }

    #[test]
    fn lines_number_nodes_and_frames() {
        let error = Error::new(7, "inner")
            .with_frames(vec![frame("deep", 3), frame("main", 9)])
            .wrap("outer")
            .with_frames(vec![frame("shallow", 5), frame("main", 9)]);
        let want = [
            "1. outer",
            "   1).  shallow",
            "        app.rs:5",
            "2. inner",
            "   1).  deep",
            "        app.rs:3",
            "   2).  main",
            "        app.rs:9",
            "",
        ];
        assert_eq!(error.lines(Language::En), want);
    }

    #[test]
    fn the_place_is_found_without_being_told() {
        let lines = Error::plain("here").lines(Language::En).join("\n");
        assert!(
            lines.contains("the_place_is_found_without_being_told"),
            "{lines}"
        );
        assert!(lines.contains("error/mod.rs:"), "{lines}");
    }
}
