//! The languages in which clients are answered.

use http::HeaderMap;
use http::header::ACCEPT_LANGUAGE;

/// A language in which clients are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Simplified Chinese.
    ZhCn,
}

impl Language {
    /// The one that `Accept-Language` likes best (RFC 9110, section 12.5.4), or `otherwise` where
    /// it names neither. `*` takes `otherwise`.
    ///
    /// # Example
    /// ```
    /// use http::{HeaderMap, header::ACCEPT_LANGUAGE};
    /// use onlyonce_pipeline::Language;
    ///
    /// let mut headers = HeaderMap::new();
    /// headers.insert(ACCEPT_LANGUAGE, "de, zh-CN;q=0.8, en;q=0.5".parse()?);
    /// assert_eq!(Language::of(&headers, Language::En), Language::ZhCn);
    /// # Ok::<_, http::header::InvalidHeaderValue>(())
    /// ```
    #[must_use]
    pub fn of(headers: &HeaderMap, otherwise: Self) -> Self {
        let mut best = None;
        let ranges = headers
            .get_all(ACCEPT_LANGUAGE)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','));
        for range in ranges {
            let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
            let Some(language) = Self::of_tag(tag.trim(), otherwise) else {
                continue;
            };
            let weight = weight.trim().strip_prefix("q=").unwrap_or("0");
            let Ok(weight) = weight.parse::<f32>() else {
                continue;
            };
            // The first of equals wins, so only a greater weight replaces it.
            if weight > best.map_or(0.0, |(best, _)| best) {
                best = Some((weight, language));
            }
        }
        best.map_or(otherwise, |(_, language)| language)
    }

    fn of_tag(tag: &str, otherwise: Self) -> Option<Self> {
        let primary = tag.split('-').next().unwrap_or_default();
        if primary.eq_ignore_ascii_case("en") {
            Some(Self::En)
        } else if primary.eq_ignore_ascii_case("zh") {
            Some(Self::ZhCn)
        } else {
            (tag == "*").then_some(otherwise)
        }
    }

    /// Its tag (BCP 47).
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::ZhCn => "zh-CN",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Language {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, line.parse().unwrap());
        Language::of(&headers, Language::En)
    }

    #[test]
    fn the_heaviest_known_language_wins() {
        assert_eq!(of("zh-CN"), Language::ZhCn);
        assert_eq!(of("zh-Hans-CN,zh;q=0.9"), Language::ZhCn);
        assert_eq!(of("en-GB;q=0.3, zh;q=0.4"), Language::ZhCn);
        assert_eq!(of("en;q=0.4, zh;q=0.4"), Language::En);
        assert_eq!(of("zh;q=0"), Language::En);
        assert_eq!(of("fr, *"), Language::En);
        assert_eq!(of("zh;q=banana"), Language::En);
        assert_eq!(of("zh;q=nan"), Language::En);
        assert_eq!(
            Language::of(&HeaderMap::new(), Language::ZhCn),
            Language::ZhCn
        );
    }
}
