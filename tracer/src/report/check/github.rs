//! The verdict as annotations of GitHub Actions: what does not hold is an error, at the line of source of who holds most.
//!
//! A line that begins with `::` is a command to the runner:
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>. An older form, `##[command]`, it
//! finds anywhere in a line; so no line of ours has that.

use std::io::{self, Write};
use std::path::{Component, Path};

use super::{Finding, Held, Report, Verdict};
use crate::words::printable;

/// Holders named in an annotation.
const NAMED: usize = 3;

/// Writes a line for each budget that does not hold, or of which that is not known, and for a command that failed. Only files
/// that are in `repository` are named: GitHub could show no others.
///
/// # Errors
///
/// What `out` says.
pub fn write(report: &Report, repository: &Path, out: &mut dyn Write) -> io::Result<()> {
    if let Some(failed) = report.of_command() {
        annotate(out, None, &failed)?;
    }
    for finding in &report.findings {
        let mut message = finding.sentence();
        match finding.verdict {
            Verdict::Holds => continue,
            Verdict::Unknown => {
                if let Some(why) = &report.unknown {
                    message.push_str(&format!("\n{}", printable(why)));
                }
            }
            Verdict::Over => {
                message.push_str(&format!("\n{}:", finding.heading()));
                for held in finding.holders.iter().take(NAMED) {
                    message.push_str(&format!("\n{}", printable(&held.line(finding.budget))));
                }
            }
        }
        annotate(out, place(finding, repository), &message)?;
    }
    Ok(())
}

/// The first of those who hold most whose file lies in the repository, from there.
fn place(finding: &Finding, repository: &Path) -> Option<(String, Option<u32>)> {
    let named = finding.holders.iter().take(NAMED);
    named
        .filter_map(|held| in_repository(held, repository))
        .next()
}

fn in_repository(held: &Held, repository: &Path) -> Option<(String, Option<u32>)> {
    let file = Path::new(held.file.as_deref()?);
    let file = file.strip_prefix(repository).unwrap_or(file);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let is_ours = file.components().all(plain) && repository.join(file).is_file();
    is_ours.then(|| (file.to_string_lossy().into_owned(), held.line))
}

fn annotate(
    out: &mut dyn Write,
    place: Option<(String, Option<u32>)>,
    message: &str,
) -> io::Result<()> {
    let mut properties = String::from("title=highwater check");
    if let Some((file, line)) = place {
        properties.push_str(&format!(",file={}", property(&file)));
        if let Some(line) = line {
            properties.push_str(&format!(",line={line}"));
        }
    }
    writeln!(out, "::error {properties}::{}", data(message))
}

/// A message: line ends stay, as the runner has them.
fn data(text: &str) -> String {
    no_command(text)
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// A property ends at a comma or a colon, too.
fn property(text: &str) -> String {
    data(&printable(text))
        .replace(':', "%3A")
        .replace(',', "%2C")
}

/// The text without the older form of a command.
fn no_command(text: &str) -> String {
    text.replace("##[", "# #[")
}

/// A sink whose lines a runner reads: none of them has a command in it, whatever names do.
pub fn harmless(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| match line.trim_start().starts_with("::") {
            true => format!(". {line}"),
            false => line.to_owned(),
        });
    lines.map(|line| no_command(&line) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_means_something_to_the_runner_is_escaped() {
        assert_eq!(data("100%\r\n::error::x"), "100%25%0D%0A::error::x");
        assert_eq!(property("a,b::c%\n"), "a%2Cb%3A%3Ac%25\\n");
        assert_eq!(data("##[error]x"), "# #[error]x");
        assert_eq!(
            harmless("ok\n ::warning::x\nf ##[add-path]y\n"),
            "ok\n.  ::warning::x\nf # #[add-path]y\n"
        );
    }

    proptest! {
        #[test]
        fn an_annotation_is_one_line_and_its_file_ends_where_it_should(file: String, message: String) {
            let mut out = Vec::new();
            annotate(&mut out, Some((file, Some(7))), &message).unwrap();
            let out = String::from_utf8(out).unwrap();
            prop_assert_eq!(out.matches(['\n', '\r']).count(), 1);
            let (properties, _) = out["::error ".len()..].split_once("::").unwrap();
            prop_assert_eq!(properties.matches(',').count(), 2, "{}", properties);
            prop_assert!(properties.ends_with(",line=7"));
            prop_assert!(!out.contains("##["));
        }
    }
}
