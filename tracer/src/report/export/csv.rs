//! Comma-separated values (RFC 4180): a row a holder, for spreadsheets, databases and data frames.

use std::io::{self, Write};

use ::csv::QuoteStyle;
use serde::Serialize;

use super::super::answer::{Answer, Unit, kind_name};
use super::super::flamegraph::path;
use super::super::model::Profile;
use super::super::name::{self, NamedFrame, UNKNOWN_STACK};
use super::super::telling::most_telling;
use crate::live::Holder;
use crate::words;

/// One line of the table: a holder at one moment or in one window.
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
    let mut table = Table::new(out);
    table.record(COLUMNS)?;
    for answer in answers {
        for holder in answer.holders.iter().take(top.unwrap_or(usize::MAX)) {
            table.row(&Row::of(profile, answer, holder))?;
        }
    }
    table.finish()
}

/// Rows of comma-separated values. Text is quoted, printable, and never a formula: one that a spreadsheet would take for one
/// gets an apostrophe before it, as OWASP has it (<https://owasp.org/www-community/attacks/CSV_Injection>). Numbers stay as they are.
pub struct Table<'a> {
    csv: ::csv::Writer<&'a mut dyn Write>,
    has_names: bool,
}

impl<'a> Table<'a> {
    /// Nothing is written yet.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self {
            csv: ::csv::WriterBuilder::new()
                .quote_style(QuoteStyle::NonNumeric)
                .from_writer(out),
            has_names: false,
        }
    }

    /// Writes a row, after the names of its fields where nothing was written before.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn row(&mut self, row: &impl Serialize) -> io::Result<()> {
        let mut plain = ::csv::WriterBuilder::new()
            .has_headers(!self.has_names)
            .from_writer(Vec::new());
        plain.serialize(row)?;
        let plain = plain
            .into_inner()
            .map_err(::csv::IntoInnerError::into_error)?;
        let mut fields = ::csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(&plain[..]);
        for record in fields.records() {
            self.record(&record?)?;
        }
        Ok(())
    }

    /// Writes fields.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn record(&mut self, fields: impl IntoIterator<Item = impl AsRef<str>>) -> io::Result<()> {
        self.has_names = true;
        let cells = fields.into_iter().map(|field| cell(field.as_ref()));
        // As it came, so that whoever wrote can tell a closed pipe.
        self.csv
            .write_record(cells)
            .map_err(|error| match error.into_kind() {
                ::csv::ErrorKind::Io(error) => error,
                kind => io::Error::other(format!("{kind:?}")),
            })
    }

    /// Hands everything on.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn finish(mut self) -> io::Result<()> {
        self.csv.flush()
    }
}

fn cell(text: &str) -> String {
    /// A tab or a carriage return would do, too; those are made printable before.
    const BEGIN_FORMULAS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    let shown = words::printable(text);
    let begins_formula = shown.starts_with(BEGIN_FORMULAS) && shown.parse::<f64>().is_err();
    format!("{}{shown}", if begins_formula { "'" } else { "" })
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
    fn no_text_is_a_formula_and_numbers_stay_numbers() {
        for (text, shown) in [
            ("=HYPERLINK(\"http://x\")", "'=HYPERLINK(\"http://x\")"),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            ("-[NSData bytes]", "'-[NSData bytes]"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1+1", "\\t=1+1"),
            ("＝1", "'＝1"),
            ("-12", "-12"),
            ("+3.5", "+3.5"),
            ("operator=", "operator="),
        ] {
            assert_eq!(cell(text), shown);
        }
        let mut out: Vec<u8> = Vec::new();
        let mut table = Table::new(&mut out);
        table.record(["=a;b", "-7"]).unwrap();
        table.finish().unwrap();
        assert_eq!(out, b"\"'=a;b\",-7\n");
    }

    #[test]
    fn without_holders_there_are_columns_still() {
        let profile = Script::launched("/bin/app").closed();
        let answer = Answer::of(&profile, &Question::default());
        let mut out = Vec::new();
        write(&profile, &[&answer], None, &mut out).expect("a Vec takes all");
        assert_eq!(
            String::from_utf8(out).unwrap().trim_end(),
            COLUMNS.map(|name| format!("\"{name}\"")).join(",")
        );
    }
}
