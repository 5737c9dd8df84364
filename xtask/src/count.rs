//! How many tests passed, from what the runners say of themselves.

/// What was read so far; no total is given when a runner said nothing that was understood.
#[derive(Debug, Default)]
pub(crate) struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// A report could not be read: a total would be a guess.
    unsure: bool,
    read_any: bool,
}

impl Count {
    /// Reads a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn read(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let number = |what: &str| {
            let before = result.split(what).next()?;
            before.trim_end().rsplit(' ').next()?.parse::<u64>().ok()
        };
        match (number(" passed;"), number(" failed;"), number(" ignored;")) {
            (Some(passed), Some(failed), Some(ignored)) => self.add(passed, failed, ignored),
            _ => self.unsure = true,
        }
    }

    /// Reads the head of nextest's report: `<testsuites tests="3" failures="1" errors="0">`.
    pub(crate) fn read_junit(&mut self, report: &str) {
        let head = report.split("<testsuites").nth(1);
        let head = head
            .and_then(|rest| rest.split('>').next())
            .unwrap_or_default();
        let number = |name: &str| {
            let value = head.split(&format!(" {name}=\"")).nth(1)?;
            value.split('"').next()?.parse::<u64>().ok()
        };
        let skipped = number("skipped").unwrap_or(0);
        match (number("tests"), number("failures"), number("errors")) {
            (Some(tests), Some(failures), Some(errors)) if failures + errors + skipped <= tests => {
                let failed = failures + errors;
                self.add(tests - failed - skipped, failed, skipped);
            }
            _ => self.unsure = true,
        }
    }

    /// The total as a plain line.
    pub(crate) fn total(&self) -> Option<String> {
        let ignored = match self.ignored {
            0 => String::new(),
            ignored => format!(", {ignored} ignored"),
        };
        (self.read_any && !self.unsure)
            .then(|| format!("{} passed, {} failed{ignored}", self.passed, self.failed))
    }

    fn add(&mut self, passed: u64, failed: u64, ignored: u64) {
        self.passed += passed;
        self.failed += failed;
        self.ignored += ignored;
        self.read_any = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out";

    #[test]
    fn results_of_both_runners_add_up() {
        let mut count = Count::default();
        assert_eq!(count.total(), None);
        count.read("running 16 tests");
        count.read(LINE);
        count.read_junit(
            "<?xml?>\n<testsuites name=\"run\" tests=\"10\" failures=\"2\" errors=\"1\" uuid=\"x\">",
        );
        assert_eq!(
            count.total().as_deref(),
            Some("19 passed, 6 failed, 1 ignored")
        );
    }

    #[test]
    fn what_is_not_understood_leaves_no_total() {
        for junit in [
            "",
            "<testsuites tests=\"1\">",
            "<testsuites tests=\"x\" failures=\"0\" errors=\"0\">",
        ] {
            let mut count = Count::default();
            count.read(LINE);
            count.read_junit(junit);
            assert_eq!(count.total(), None, "{junit}");
        }
        let mut count = Count::default();
        count.read("test result: something else");
        assert_eq!(count.total(), None);
    }
}
