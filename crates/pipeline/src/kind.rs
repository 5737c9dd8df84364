//! In what form an answer is given.

/// In what form a route answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContentKind {
    /// `application/json`
    #[default]
    Json,
    /// `text/xml`
    Xml,
    /// `text/html`
    Html,
    /// `text/plain`
    Text,
    /// `text/event-stream`
    EventStream,
}

impl ContentKind {
    /// The kind of a `Content-Type`: its essence alone counts, without parameters and case.
    ///
    /// # Example
    /// ```
    /// use onlyonce_pipeline::ContentKind;
    ///
    /// let html = ContentKind::of("Text/HTML; charset=utf-8");
    /// assert_eq!(html, Some(ContentKind::Html));
    /// assert_eq!(ContentKind::of("image/png"), None);
    /// ```
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let kinds = [
            ("application/json", Self::Json),
            ("text/xml", Self::Xml),
            ("application/xml", Self::Xml),
            ("text/html", Self::Html),
            ("text/plain", Self::Text),
            ("text/event-stream", Self::EventStream),
        ];
        let mut kinds = kinds.into_iter();
        let (_, kind) = kinds.find(|(name, _)| essence.eq_ignore_ascii_case(name))?;
        Some(kind)
    }

    /// The `Content-Type` that an answer of this kind is sent with.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Xml => "text/xml; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Text => "text/plain; charset=utf-8",
            Self::EventStream => "text/event-stream",
        }
    }
}
