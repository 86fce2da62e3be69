//! Comma-separated values (RFC 4180): a row a holder, for spreadsheets, databases and data frames.

use std::io::{self, Write};

use serde::Serialize;

use super::super::answer::{Answer, Unit, kind_name};
use super::super::flamegraph::path;
use super::super::model::Profile;
use super::super::name::{self, NamedFrame, UNKNOWN_STACK, most_telling};
use crate::live::Holder;

/// One holder.
#[derive(Serialize)]
struct Row<'a> {
    /// Which moment or window, in words.
    asked: &'a str,
    /// What `bytes` and `error_bytes` are: `bytes`, or `bytes/s` of what grows.
    unit: &'static str,
    bytes: u64,
    blocks: u64,
    error_bytes: u64,
    kind: &'static str,
    program: Option<String>,
    pid: Option<u32>,
    /// The thread, where threads are told apart, and its name, where that is known.
    tid: Option<u32>,
    thread: Option<&'a str>,
    /// The frame that tells most.
    function: String,
    file: Option<&'a str>,
    line: Option<u32>,
    module: Option<String>,
    build_id: Option<&'a str>,
    /// As collapsed stacks have it: root first, `;` between.
    stack: String,
}

impl<'a> Row<'a> {
    fn of(profile: &'a Profile, answer: &'a Answer, holder: &Holder) -> Self {
        let frames = profile.frames(holder.stack).unwrap_or_default();
        let telling = most_telling(&frames, 1).first().copied();
        let module = telling.and_then(|frame| frame.module);
        let process = profile
            .process(holder.process)
            .map(|process| &process.process);
        Self {
            asked: &answer.words,
            unit: match answer.unit {
                Unit::Bytes => "bytes",
                Unit::BytesPerSecond => "bytes/s",
            },
            bytes: holder.bytes,
            blocks: holder.blocks,
            error_bytes: holder.error_bytes,
            kind: kind_name(holder.kind),
            program: process.map(|process| name::program(&process.command)),
            pid: process.map(|process| process.pid),
            tid: holder.thread.map(|thread| thread.0),
            thread: holder
                .thread
                .and_then(|thread| profile.thread_name(holder.process, thread)),
            function: telling.map_or_else(|| UNKNOWN_STACK.to_owned(), NamedFrame::label),
            file: telling.and_then(|frame| frame.file),
            line: telling.and_then(|frame| frame.line),
            module: module.map(|module| module.path.to_string_lossy().into_owned()),
            build_id: module.and_then(|module| module.build_id.as_deref()),
            stack: path(profile, holder).join(";"),
        }
    }
}

/// Writes the holders of answers, `top` of each, or all. The `bytes` and `blocks` of all rows of an answer add up to its own.
///
/// # Errors
///
/// What `out` says.
pub fn write(
    profile: &Profile,
    answers: &[&Answer],
    top: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    // The names of the columns are there even where there are no rows.
    let mut csv = ::csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(out);
    csv.write_record(COLUMNS)?;
    for answer in answers {
        for holder in answer.holders.iter().take(top.unwrap_or(usize::MAX)) {
            csv.serialize(Row::of(profile, answer, holder))?;
        }
    }
    csv.flush()
}

const COLUMNS: [&str; 16] = [
    "asked",
    "unit",
    "bytes",
    "blocks",
    "error_bytes",
    "kind",
    "program",
    "pid",
    "tid",
    "thread",
    "function",
    "file",
    "line",
    "module",
    "build_id",
    "stack",
];

#[cfg(test)]
mod tests {
    use super::super::super::question::{Question, When};
    use super::super::super::script::{Script, answer};
    use super::*;

    #[test]
    fn rows_have_what_their_columns_say_and_add_up() {
        let mut script = Script::launched("/bin/app");
        script.stack(1, &["operator new", "keep, \"all\"@src/keep.cc:7", "main"]);
        script.stack(2, &["other", "main"]);
        script.allocate(0, 1, 1, 100);
        script.allocate(0, 2, 2, 30);
        script.free_last(0, 3);
        let profile = script.closed();
        let of = |when| answer(&profile, when);
        let (peak, end) = (of(When::Peak), of(When::End));
        let mut out = Vec::new();
        write(&profile, &[&peak, &end], None, &mut out).expect("a Vec takes all");
        let mut read = ::csv::Reader::from_reader(&out[..]);
        let column = |name: &str| COLUMNS.iter().position(|column| *column == name).unwrap();
        let rows: Vec<_> = read.records().map(Result::unwrap).collect();
        let get = |row: usize, name: &str| rows[row].get(column(name)).unwrap().to_owned();
        assert_eq!(read.headers().unwrap().iter().collect::<Vec<_>>(), COLUMNS);
        assert_eq!(rows.len(), 3);
        assert_eq!(get(0, "asked"), "at the peak");
        assert_eq!(get(0, "function"), "keep, \"all\"");
        assert_eq!(
            (get(0, "file"), get(0, "line")),
            ("src/keep.cc".to_owned(), "7".to_owned())
        );
        assert_eq!(
            (get(0, "pid"), get(0, "program")),
            ("4242".to_owned(), "app".to_owned())
        );
        assert_eq!(get(0, "build_id"), "c0ffee");
        assert_eq!(get(0, "stack"), "main;keep, \"all\";operator new");
        assert_eq!(
            (get(2, "asked"), get(2, "bytes")),
            ("at the end".to_owned(), "100".to_owned())
        );
        let bytes = (0..2).map(|row| get(row, "bytes").parse::<u64>().unwrap());
        assert_eq!(bytes.sum::<u64>(), peak.bytes);
    }

    #[test]
    fn without_holders_there_are_columns_still() {
        let profile = Script::launched("/bin/app").closed();
        let answer = Answer::of(&profile, &Question::default());
        let mut out = Vec::new();
        write(&profile, &[&answer], None, &mut out).expect("a Vec takes all");
        assert_eq!(
            String::from_utf8(out).unwrap().trim_end(),
            COLUMNS.join(",")
        );
    }
}
