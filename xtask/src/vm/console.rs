//! What the tests in a machine said, read off its console.
//!
//! A line of the first process frames each test executable; what stands between is libtest's, with lines of the kernel
//! among them.

use anyhow::{Result, bail};

use super::init::MARK;

/// What has been heard so far.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// What the test executable that runs now has said.
    said: Vec<String>,
    failures: Vec<String>,
    /// Tests that passed, of all executables.
    passed: u64,
    is_over: bool,
}

impl Verdict {
    /// Takes one line in; returns what there is to tell of it.
    pub(super) fn hear(&mut self, line: &str) -> Option<String> {
        let Some((_, words)) = line.split_once(MARK) else {
            self.said.push(line.to_owned());
            return None;
        };
        let words: Vec<&str> = words.split_whitespace().collect();
        match words.as_slice() {
            ["kernel", release, link] => Some(format!("runs {release}, traced by {link} links")),
            ["begin", _] => {
                self.said.clear();
                None
            }
            ["end", name, how, seconds] => Some(self.end(name, how, seconds)),
            ["over"] => {
                self.is_over = true;
                None
            }
            _ => {
                self.failures.push(words.join(" "));
                None
            }
        }
    }

    /// One test executable has ended.
    fn end(&mut self, name: &str, how: &str, seconds: &str) -> String {
        let (passed, failed) = self.counts();
        self.passed += passed;
        let counts = format!("{name:<20} {passed:>3} passed {failed:>3} failed {seconds:>7} s");
        if how == "ok" {
            return counts;
        }
        self.failures.push(format!("{name} ({how})"));
        format!("{counts}\n{}", self.said.join("\n"))
    }

    /// Tests that passed and failed, by libtest's own summary.
    fn counts(&self) -> (u64, u64) {
        let summary = self
            .said
            .iter()
            .rev()
            .find(|line| line.contains("test result:"));
        let count = |of: &str| {
            let words: Vec<&str> = summary?.split_whitespace().collect();
            let at = words.iter().position(|word| *word == of)?;
            words.get(at.checked_sub(1)?)?.parse().ok()
        };
        (count("passed;").unwrap_or(0), count("failed;").unwrap_or(0))
    }

    /// What it comes to, once the machine is off: how many tests passed.
    pub(super) fn conclude(&self) -> Result<u64> {
        if !self.is_over {
            bail!(
                "the machine ended before its tests did; {}\n{}",
                self.failures.join(", "),
                self.said.join("\n")
            );
        }
        if !self.failures.is_empty() {
            bail!("failed: {}", self.failures.join(", "));
        }
        if self.passed == 0 {
            bail!("no test ran");
        }
        Ok(self.passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> (Verdict, Vec<String>) {
        let mut verdict = Verdict::default();
        let news = lines.iter().filter_map(|line| verdict.hear(line)).collect();
        (verdict, news)
    }

    #[test]
    fn tests_that_passed_are_counted() {
        let (verdict, news) = heard(&[
            "[    1.0] some word of the kernel",
            "highwater-vm: kernel 6.1.0-56-cloud-amd64 perf",
            "highwater-vm: begin launch",
            "test a_test ... ok",
            "test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "highwater-vm: end launch ok 1.2",
            "highwater-vm: over",
        ]);
        assert_eq!(news[0], "runs 6.1.0-56-cloud-amd64, traced by perf links");
        assert!(
            news[1].contains("7 passed   0 failed     1.2 s"),
            "{news:?}"
        );
        assert_eq!(verdict.conclude().unwrap(), 7);
    }

    #[test]
    fn a_test_that_failed_is_shown_with_all_it_said() {
        let (verdict, news) = heard(&[
            "highwater-vm: begin launch",
            "it panicked for this reason",
            "test result: FAILED. 6 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "highwater-vm: end launch code-101 1.2",
            "highwater-vm: over",
        ]);
        assert!(news[0].contains("6 passed   1 failed"), "{news:?}");
        assert!(news[0].contains("for this reason"), "{news:?}");
        let error = verdict.conclude().unwrap_err();
        assert_eq!(error.to_string(), "failed: launch (code-101)");
    }

    #[test]
    fn a_machine_that_ends_in_the_midst_has_failed() {
        let (verdict, _) = heard(&["highwater-vm: begin launch", "the last word"]);
        let error = verdict.conclude().unwrap_err().to_string();
        assert!(error.contains("the last word"), "{error}");
    }

    #[test]
    fn a_plan_that_runs_no_test_has_failed() {
        let (verdict, _) = heard(&[
            "highwater-vm: begin launch",
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.00s",
            "highwater-vm: end launch ok 0.1",
            "highwater-vm: over",
        ]);
        assert_eq!(verdict.conclude().unwrap_err().to_string(), "no test ran");
    }
}
