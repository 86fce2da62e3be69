//! What two recordings of the same program hold, held against each other.
//!
//! Stacks are the same if their functions have the same names in the same order. Addresses differ from run to run, lines
//! and offsets from build to build; names last longest. A frame without a name stands for its module, so two stacks
//! through different nameless code of one library fall together: better than never to find each other again.

use std::collections::HashMap;

use serde::Serialize;

use super::answer::Answer;
use super::model::Profile;
use super::name::{NamedFrame, UNKNOWN_STACK};
use super::rows::callers;
use super::telling::most_telling;
use crate::live::Kind;

/// What became of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Became {
    /// It holds more.
    Grown,
    /// It holds less.
    Shrunk,
    /// Only the later recording has it.
    New,
    /// Only the earlier one has it.
    Gone,
}

/// A stack that does not hold the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What became of it.
    pub became: Became,
    /// Its most telling frame.
    pub name: String,
    /// Where that is in the source of the later recording that has it.
    pub place: Option<String>,
    /// The source file, as debug information names it.
    #[serde(skip)]
    pub file: Option<String>,
    /// The line in it.
    #[serde(skip)]
    pub line: Option<u32>,
    /// Who called it.
    pub callers: Option<String>,
    /// What it held in the earlier recording.
    pub bytes_before: u64,
    /// What it holds in the later one.
    pub bytes_after: u64,
    /// In so many blocks, before.
    pub blocks_before: u64,
    /// In so many blocks, after.
    pub blocks_after: u64,
}

impl Change {
    /// By how many bytes it grew.
    pub fn bytes(&self) -> i128 {
        i128::from(self.bytes_after) - i128::from(self.bytes_before)
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    frames: Vec<String>,
}

/// Every stack whose bytes differ, largest difference first.
pub fn difference(before: (&Profile, &Answer), after: (&Profile, &Answer)) -> Vec<Change> {
    let mut changes: HashMap<Key, Change> = HashMap::new();
    for (is_after, (profile, answer)) in [(false, before), (true, after)] {
        for holder in &answer.holders {
            let frames = profile.frames(holder.stack).unwrap_or_default();
            let telling = most_telling(&frames, 3);
            let key = Key {
                kind: holder.kind,
                frames: frames.iter().map(comparable).collect(),
            };
            let change = changes.entry(key).or_insert_with(|| Change {
                became: Became::Grown,
                name: String::new(),
                place: None,
                file: None,
                line: None,
                callers: None,
                bytes_before: 0,
                bytes_after: 0,
                blocks_before: 0,
                blocks_after: 0,
            });
            let first = telling.first();
            change.name = first.map_or_else(|| UNKNOWN_STACK.to_owned(), |frame| frame.label());
            change.place = first.and_then(|frame| frame.place());
            let source = first.filter(|frame| frame.function.is_some());
            change.file = source.and_then(|frame| frame.file).map(str::to_owned);
            change.line = source.and_then(|frame| frame.line);
            change.callers = callers(telling.get(1..).unwrap_or_default());
            let (bytes, blocks) = if is_after {
                (&mut change.bytes_after, &mut change.blocks_after)
            } else {
                (&mut change.bytes_before, &mut change.blocks_before)
            };
            *bytes = bytes.saturating_add(holder.bytes);
            *blocks = blocks.saturating_add(holder.blocks);
        }
    }
    let mut changes: Vec<Change> = changes
        .into_values()
        .filter(|change| change.bytes() != 0)
        .collect();
    for change in &mut changes {
        change.became = match (change.blocks_before, change.blocks_after) {
            (0, _) => Became::New,
            (_, 0) => Became::Gone,
            _ if change.bytes() > 0 => Became::Grown,
            _ => Became::Shrunk,
        };
    }
    changes.sort_by(|one, other| {
        let size = |change: &Change| change.bytes().unsigned_abs();
        let by_size = size(other).cmp(&size(one));
        by_size.then_with(|| (&one.name, &one.callers).cmp(&(&other.name, &other.callers)))
    });
    changes
}

/// What a frame is known by in another recording.
pub(super) fn comparable(frame: &NamedFrame<'_>) -> String {
    match (frame.function, frame.module) {
        (Some(function), _) => function.to_owned(),
        (None, Some(module)) => base_name(&module.path),
        (None, None) => "?".to_owned(),
    }
}

fn base_name(path: &std::path::Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::question::Question;
    use super::super::script::Script;
    use super::*;

    fn profile(sites: &[(u32, &[&str], u64)]) -> Profile {
        let mut script = Script::launched("/bin/app");
        for (stack, frames, size) in sites {
            script.stack(*stack, frames);
            script.allocate(1, u64::from(*stack), *stack, *size);
        }
        script.close(1000, "interrupted");
        script.closed()
    }

    #[test]
    fn stacks_are_found_again_by_name_whatever_their_numbers() {
        let before = profile(&[
            (1, &["keep", "main"], 100),
            (2, &["drop", "main"], 30),
            (3, &["same", "main"], 5),
            (4, &["less", "main"], 9),
        ]);
        let after = profile(&[
            (7, &["same", "main"], 5),
            (8, &["keep", "main"], 300),
            (9, &["fresh", "main"], 40),
            (10, &["less", "main"], 4),
        ]);
        let question = Question::default();
        let (old, new) = (
            Answer::of(&before, &question),
            Answer::of(&after, &question),
        );
        let changes = difference((&before, &old), (&after, &new));
        let told: Vec<_> = changes
            .iter()
            .map(|change| (change.became, change.name.as_str(), change.bytes()))
            .collect();
        assert_eq!(
            told,
            [
                (Became::Grown, "keep", 200),
                (Became::New, "fresh", 40),
                (Became::Gone, "drop", -30),
                (Became::Shrunk, "less", -5),
            ]
        );
        let sum: i128 = changes.iter().map(Change::bytes).sum();
        assert_eq!(sum, i128::from(new.bytes) - i128::from(old.bytes));
    }
}
