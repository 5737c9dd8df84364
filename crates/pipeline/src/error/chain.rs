//! The nodes of an error's chain.

use std::error::Error as StdError;

use super::trace::Trace;
use crate::{Code, Language, Text};

/// What the chain began with.
pub(super) type Source = Option<Box<dyn StdError + Send + Sync>>;

/// One explanation.
pub(super) struct Node {
    /// None: the code's own message.
    text: Option<Text>,
    pub(super) code: Code,
    pub(super) internal: bool,
    pub(super) trace: Trace,
}

impl Node {
    pub(super) fn new(text: Option<Text>, code: Code) -> Self {
        Self {
            text,
            code,
            internal: false,
            trace: Trace::here(),
        }
    }

    /// A cause of somebody else's error: nobody knows where it was made.
    pub(super) fn cause(error: &dyn StdError) -> Self {
        Self {
            text: Some(error.to_string().into()),
            code: Code::NONE,
            internal: true,
            trace: Trace::given(Vec::new()),
        }
    }

    pub(super) fn message(&self, language: Language) -> &str {
        match &self.text {
            Some(text) => text.in_language(language),
            None => self.code.message(language).unwrap_or_default(),
        }
    }
}

/// `nodes` (from the first cause to the outermost) as lines, the outermost first.
pub(super) fn lines(nodes: &[Node], language: Language) -> Vec<String> {
    let traces: Vec<_> = nodes.iter().map(|node| node.trace.frames()).collect();
    let mut lines = Vec::new();
    for (index, node) in nodes.iter().enumerate().rev() {
        lines.push(format!(
            "{}. {}",
            nodes.len() - index,
            node.message(language)
        ));
        let (deeper, own) = (&traces[..index], &traces[index]);
        let own = own
            .iter()
            .filter(|frame| !deeper.iter().any(|deeper| deeper.contains(frame)));
        for (number, frame) in (1..).zip(own) {
            // The functions stand under each other up to the 99th.
            let gap = if number < 10 { "  " } else { " " };
            lines.push(format!("   {number}).{gap}{}", frame.function()));
            lines.push(format!("        {}:{}", frame.file(), frame.line()));
        }
    }
    lines.push(String::new());
    lines
}
