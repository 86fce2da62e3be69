//! The verdict as test results in the XML of JUnit, which most CI shows: a test case for each budget, and one for the command
//! itself if it failed. A budget that does not hold is a `failure`, one of which that is not known an `error`.
//!
//! Of the dialects (<https://github.com/testmoapp/junitxml>) what all read: `testsuites`, `testsuite`, `testcase`, `failure`, `error`.

use std::io::{self, Write};

use super::{Finding, Report, Verdict};
use crate::units::time;
use crate::words::printable;

/// Writes the test results.
///
/// # Errors
///
/// What `out` says.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let count = |verdict| {
        let of = |finding: &&Finding| finding.verdict == verdict;
        report.findings.iter().filter(of).count()
    };
    let failed = usize::from(report.command_failed.is_some());
    let sums = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.3}\"",
        report.findings.len() + failed,
        count(Verdict::Over),
        count(Verdict::Unknown) + failed,
        report.duration_ns as f64 / 1e9,
    );
    let started = time::rfc3339_seconds(report.started_unix_ns).unwrap_or_default();
    let class = escaped(&format!("highwater.{}", report.program));
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"highwater\" {sums}>")?;
    // No zone, as the schema has it: it is UTC.
    let started = escaped(started.trim_end_matches('Z'));
    writeln!(
        out,
        "  <testsuite name=\"highwater check\" {sums} skipped=\"0\" timestamp=\"{started}\">"
    )?;
    if let Some(words) = report.of_command() {
        case(
            out,
            &class,
            "command",
            Some(("error", "status", &words, "")),
        )?;
    }
    for finding in &report.findings {
        let sentence = finding.sentence();
        let name = finding.budget.name();
        let wrong = match finding.verdict {
            Verdict::Holds => None,
            Verdict::Over => Some(("failure", "over", sentence, listed(report, finding))),
            Verdict::Unknown => {
                let why = report.unknown.clone().unwrap_or_default();
                Some(("error", "unknown", sentence, why))
            }
        };
        let wrong = wrong
            .as_ref()
            .map(|(element, kind, message, text)| (*element, *kind, &**message, &**text));
        case(out, &class, name, wrong)?;
    }
    writeln!(out, "  </testsuite>\n</testsuites>")
}

/// Element, type, message, text of what is wrong.
type Wrong<'a> = (&'static str, &'static str, &'a str, &'a str);

fn case(out: &mut dyn Write, class: &str, name: &str, wrong: Option<Wrong<'_>>) -> io::Result<()> {
    write!(out, "    <testcase classname=\"{class}\" name=\"{name}\"")?;
    let Some((element, kind, message, text)) = wrong else {
        return writeln!(out, "/>");
    };
    let message = escaped(message);
    writeln!(
        out,
        ">\n      <{element} type=\"{kind}\" message=\"{message}\">"
    )?;
    for line in text.lines() {
        writeln!(out, "{}", escaped(line))?;
    }
    writeln!(out, "      </{element}>\n    </testcase>")
}

fn listed(report: &Report, finding: &Finding) -> String {
    let held = finding.holders.iter().map(|held| held.line(finding.budget));
    let others = (finding.others > 0).then(|| format!("and {} more", finding.others));
    let recording = report
        .recording
        .iter()
        .map(|path| format!("recording: {path}"));
    let lines: Vec<String> = std::iter::once(format!("{}:", finding.heading()))
        .chain(held)
        .chain(others)
        .chain(recording)
        // A line end in a name begins no line.
        .map(|line| printable(&line).into_owned())
        .collect();
    lines.join("\n")
}

/// Text as XML has it, in an attribute or an element. Characters that XML cannot have at all are shown by their numbers.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_means_something_in_xml_is_escaped() {
        assert_eq!(
            escaped("a<b> & \"c\" 'd' ]]> \u{0}\n\u{ffff}"),
            "a&lt;b&gt; &amp; &quot;c&quot; &apos;d&apos; ]]&gt; \\x00\\n\\u{ffff}"
        );
    }

    proptest! {
        #[test]
        fn nothing_ends_an_attribute_or_begins_an_element(text: String) {
            let escaped = escaped(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'', '\n', '\r', '\0']));
            let back = escaped
                .replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&");
            prop_assert_eq!(back, printable(&text).into_owned());
        }
    }
}
