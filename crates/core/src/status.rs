//! Sets of HTTP status codes.

/// A set of HTTP status codes.
///
/// # Example
/// ```
/// use onlyonce_core::StatusSet;
///
/// assert!(StatusSet::FINAL.contains(404));
/// assert!(!StatusSet::FINAL.contains(429));
/// let mine: StatusSet = StatusSet::EMPTY.with(200..=299).with(409..=409);
/// assert!(mine.contains(409) && !mine.contains(404));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusSet([u64; 16]);

impl StatusSet {
    /// No status.
    pub const EMPTY: Self = Self([0; 16]);
    /// 100 to 999.
    pub const ALL: Self = Self::EMPTY.with_range(100, 999);
    /// 2xx.
    pub const SUCCESS: Self = Self::EMPTY.with_range(200, 299);
    /// 200 to 499.
    pub const BELOW_500: Self = Self::EMPTY.with_range(200, 499);
    /// 200 to 499 but 408, 425 and 429, which say "try again".
    pub const FINAL: Self = Self::EMPTY
        .with_range(200, 407)
        .with_range(409, 424)
        .with_range(426, 428)
        .with_range(430, 499);

    /// This set and the statuses in `range`; what lies beyond 999 is left out.
    #[must_use]
    pub const fn with(self, range: std::ops::RangeInclusive<u16>) -> Self {
        self.with_range(*range.start(), *range.end())
    }

    /// Whether `status` is in it.
    #[must_use]
    pub const fn contains(&self, status: u16) -> bool {
        status < 1000 && self.0[(status / 64) as usize] & (1 << (status % 64)) != 0
    }

    const fn with_range(mut self, from: u16, to: u16) -> Self {
        let mut status = from;
        while status <= to && status < 1000 {
            self.0[(status / 64) as usize] |= 1 << (status % 64);
            status += 1;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_23_try_again_answers_are_not_final() {
        let stored: Vec<u16> = (0..=999)
            .filter(|s| StatusSet::FINAL.contains(*s))
            .collect();
        let expected: Vec<u16> = (200..500)
            .filter(|status| ![408, 425, 429].contains(status))
            .collect();
        assert_eq!(stored, expected);
    }
}
