//! A message in each of the languages.

use std::borrow::Cow;

use crate::Language;

/// A message for clients, in each [`Language`].
///
/// # Example
/// ```
/// use onlyonce_pipeline::{Language, Text};
///
/// let text = Text::both("Out of stock", "库存不足");
/// assert_eq!(text.in_language(Language::ZhCn), "库存不足");
/// assert_eq!(Text::plain("42").in_language(Language::ZhCn), "42");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    en: Cow<'static, str>,
    /// The same as in English, where there is none.
    zh_cn: Option<Cow<'static, str>>,
}

impl Text {
    /// A message in both languages.
    #[must_use]
    pub fn both(en: impl Into<Cow<'static, str>>, zh_cn: impl Into<Cow<'static, str>>) -> Self {
        Self {
            en: en.into(),
            zh_cn: Some(zh_cn.into()),
        }
    }

    /// A message that is the same in every language.
    #[must_use]
    pub fn plain(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            en: text.into(),
            zh_cn: None,
        }
    }

    /// The message in `language`.
    #[must_use]
    pub fn in_language(&self, language: Language) -> &str {
        match (language, &self.zh_cn) {
            (Language::ZhCn, Some(text)) => text,
            _ => &self.en,
        }
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for Text {
    fn from(text: T) -> Self {
        Self::plain(text)
    }
}
