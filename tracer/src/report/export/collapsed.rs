//! Collapsed stacks: `root;caller;leaf bytes`, a line a stack, as flamegraph.pl, inferno and most viewers read them.
//!
//! <https://github.com/brendangregg/FlameGraph#2-fold-stacks>

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::super::answer::Answer;
use super::super::flamegraph::path;
use super::super::model::Profile;

/// Writes an answer. Lines are sorted, so that the same recording gives the same bytes; they add up to the answer.
///
/// # Errors
///
/// What `out` says.
pub fn write(profile: &Profile, answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for holder in &answer.holders {
        let bytes = lines.entry(path(profile, holder).join(";")).or_default();
        *bytes = bytes.saturating_add(holder.bytes);
    }
    for (line, bytes) in lines {
        writeln!(out, "{line} {bytes}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::question::Question;
    use super::super::super::script::Script;
    use super::*;

    #[test]
    fn lines_add_up_and_a_separator_in_a_name_separates_nothing() {
        let mut script = Script::launched("/bin/app");
        script.stack(1, &["operator;new", "main"]);
        script.stack(2, &["other", "main"]);
        script.allocate(1, 1, 1, 100);
        script.allocate(1, 2, 2, 30);
        script.close(9, "interrupted");
        let profile = script.closed();
        let answer = Answer::of(&profile, &Question::default());
        let mut out = Vec::new();
        write(&profile, &answer, &mut out).expect("a Vec takes all");
        let text = String::from_utf8(out).expect("it is text");
        let mut sum = 0;
        for line in text.lines() {
            let (stack, bytes) = line.rsplit_once(' ').expect("a count");
            assert_eq!(stack.split(';').count(), 2, "{stack}");
            sum += bytes.parse::<u64>().expect("a number");
        }
        assert_eq!(sum, answer.bytes);
    }
}
