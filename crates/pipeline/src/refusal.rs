//! What a layer says when it lets a request go no further.

use std::time::Duration;

use http::StatusCode;

use crate::{Code, Text};

/// What a layer says when it lets a request go no further. [`Answers`](crate::Answers) makes a
/// response of it. Not for what a handler has found out by its work: that is an
/// [`Error`](crate::Error), which an idempotency layer outside may record.
///
/// # Example
/// ```
/// use http::StatusCode;
/// use onlyonce_pipeline::{Code, Refusal, Text};
///
/// let blocked = Refusal::new(Code::SERVER_BUSY)
///     .with_text(Text::both("You are blocked", "请求异常"))
///     .with_status(StatusCode::FORBIDDEN);
/// # let _ = blocked;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Refusal {
    pub(crate) code: Code,
    pub(crate) text: Option<Text>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with this code, its message and its status.
    pub const fn new(code: Code) -> Self {
        Self {
            code,
            text: None,
            status: None,
            retry_after: None,
        }
    }

    /// Says this instead of the code's own message.
    pub fn with_text(mut self, text: impl Into<Text>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Is sent with this status instead of the code's own; not under
    /// [`StatusMode::Always200`](crate::StatusMode::Always200).
    pub const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// Says with `Retry-After` when to come back; in whole seconds, rounded up.
    pub const fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What became of the request.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What it says instead of the code's own message.
    #[must_use]
    pub const fn text(&self) -> Option<&Text> {
        self.text.as_ref()
    }
}
