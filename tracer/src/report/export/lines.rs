//! Comma-separated values, a row a line of source: what memray's table tells, for spreadsheets and data frames.
//!
//! A line's own is what stacks hold whose most telling frame it is; the own of all rows adds up to the answer's bytes and blocks.
//! Its total is what stacks hold that it is on, each once. Code without lines has a row for each function.

use std::collections::HashMap;
use std::io::{self, Write};

use foldhash::fast::FixedState;
use serde::Serialize;

use super::super::answer::Answer;
use super::super::model::Profile;
use super::super::name::{NamedFrame, UNKNOWN_STACK};
use super::super::telling::most_telling;
use super::csv::Table;

#[derive(Serialize)]
struct Row<'a> {
    file: Option<&'a str>,
    line: Option<u32>,
    function: String,
    module: Option<String>,
    own_bytes: u64,
    own_blocks: u64,
    total_bytes: u64,
    total_blocks: u64,
    source: Option<&'a str>,
}

const COLUMNS: [&str; 9] = [
    "file",
    "line",
    "function",
    "module",
    "own_bytes",
    "own_blocks",
    "total_bytes",
    "total_blocks",
    "source",
];

/// Writes the lines of an answer, those first that hold most themselves.
///
/// # Errors
///
/// What `out` says.
pub fn write(profile: &Profile, answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut at: HashMap<(Option<&str>, Option<u32>, String), usize, FixedState> =
        HashMap::default();
    let mut on_stack = Vec::new();
    for holder in &answer.holders {
        let unknown = NamedFrame {
            function: Some(UNKNOWN_STACK),
            ..NamedFrame::default()
        };
        let mut frames = profile.frames(holder.stack).unwrap_or_default();
        if frames.is_empty() {
            frames.push(unknown);
        }
        let own = most_telling(&frames, 1).first().map(|own| key(own));
        on_stack.clear();
        for frame in &frames {
            let key = key(frame);
            let is_own = own.as_ref() == Some(&key);
            let next = rows.len();
            let row = *at.entry(key).or_insert_with_key(|(file, line, function)| {
                let module = frame.module.filter(|module| !module.is_anonymous());
                rows.push(Row {
                    file: *file,
                    line: *line,
                    function: function.clone(),
                    module: module.map(|module| module.path.to_string_lossy().into_owned()),
                    own_bytes: 0,
                    own_blocks: 0,
                    total_bytes: 0,
                    total_blocks: 0,
                    source: frame.source,
                });
                next
            });
            if on_stack.contains(&row) {
                continue;
            }
            on_stack.push(row);
            let row = &mut rows[row];
            row.total_bytes = row.total_bytes.saturating_add(holder.bytes);
            row.total_blocks = row.total_blocks.saturating_add(holder.blocks);
            if is_own {
                row.own_bytes = row.own_bytes.saturating_add(holder.bytes);
                row.own_blocks = row.own_blocks.saturating_add(holder.blocks);
            }
        }
    }
    rows.sort_by(|one, other| {
        let amounts = |row: &Row<'_>| (row.own_bytes, row.total_bytes, row.own_blocks);
        let by_amount = amounts(other).cmp(&amounts(one));
        by_amount.then_with(|| {
            (one.file, one.line, &one.function).cmp(&(other.file, other.line, &other.function))
        })
    });
    let mut table = Table::new(out);
    table.record(COLUMNS)?;
    for row in &rows {
        table.row(row)?;
    }
    table.finish()
}

/// What makes a line one: its place, and the function, since many lines are in templates and macros.
fn key<'a>(frame: &NamedFrame<'a>) -> (Option<&'a str>, Option<u32>, String) {
    let file = frame
        .function
        .and(frame.file)
        .filter(|file| !file.is_empty());
    (file, file.and(frame.line), frame.label())
}

#[cfg(test)]
mod tests {
    use super::super::super::question::Question;
    use super::super::super::script::Script;
    use super::*;

    #[test]
    fn own_bytes_add_up_and_a_line_counts_once_in_a_stack() {
        let mut script = Script::launched("/bin/app");
        script.stack(
            1,
            &[
                "operator new",
                "keep@src/keep.c:7",
                "walk@src/walk.c:9",
                "walk@src/walk.c:9",
                "main",
            ],
        );
        script.stack(2, &["keep@src/keep.c:8", "main"]);
        script.allocate(0, 1, 1, 100);
        script.allocate(0, 2, 2, 30);
        let profile = script.closed();
        let answer = Answer::of(&profile, &Question::default());
        let mut out = Vec::new();
        write(&profile, &answer, &mut out).unwrap();
        let mut read = ::csv::Reader::from_reader(&out[..]);
        assert_eq!(read.headers().unwrap().iter().collect::<Vec<_>>(), COLUMNS);
        let rows: Vec<Vec<String>> = read
            .records()
            .map(|row| row.unwrap().iter().map(str::to_owned).collect())
            .collect();
        let shown: Vec<String> = rows
            .iter()
            .map(|row| [&row[..3], &row[4..8]].concat().join(" "))
            .collect();
        assert_eq!(
            shown,
            [
                "src/keep.c 7 keep 100 1 100 1",
                "src/keep.c 8 keep 30 1 30 1",
                "  main 0 0 130 2",
                "  operator new 0 0 100 1",
                "src/walk.c 9 walk 0 0 100 1",
            ]
        );
    }
}
