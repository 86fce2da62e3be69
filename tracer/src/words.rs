//! Words that others chose (names of programs, threads, functions, files, marks), made harmless where they are shown.
//!
//! A recording holds them as they were. Each sink has one way out for them:
//!
//! | sink | way out |
//! |---|---|
//! | a terminal: reports, `doctor` | [`printable`], for each piece of a line |
//! | a terminal: what is said on standard error, and the log | `say!`, for the whole line |
//! | JSON | [`json`]: the same text for whoever parses it |
//! | CSV | `report::export::csv::Table`: printable, and no formula |
//! | collapsed stacks, SVG | `report::flamegraph::escape_frame` |
//! | JUnit's XML, annotations of GitHub | `report::check::{junit, github}`: printable, and escaped as these have it |
//! | pprof, speedscope, heaptrack, the page | [`printable`] |

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

use serde::Serialize;

/// The text without what could move the cursor, colour the screen, begin a line, or reorder or hide what stands around it. Such
/// characters are shown by their numbers: `\x1b`, `\n`, `\u{202e}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if !is_unprintable(c) => shown.push(c),
            c => {
                let number = u32::from(c);
                // A `String` takes everything.
                let _ = if c.is_ascii() {
                    write!(shown, "\\x{number:02x}")
                } else {
                    write!(shown, "\\u{{{number:x}}}")
                };
            }
        }
    }
    Cow::Owned(shown)
}

/// Control characters, line and paragraph separators, marks that change the direction of text, characters that have no width
/// or are not shown, and the two code points that XML forbids.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// Says a line on standard error, after our name. Whatever words stand in it, it stays one line. Nobody may be listening there
/// (`2>&1 | head -1`), which must not end a session with its probes in.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let words = format!($($words)*);
        let _ = writeln!(std::io::stderr(), "highwater: {}", $crate::words::printable(&words));
    }};
}
pub(crate) use say;

/// Writes a value as indented JSON and a line end. Characters that [`printable`] would not show are written as `\u` and their number,
/// which is the same text to whoever parses it.
///
/// # Errors
///
/// What `out` says.
pub fn json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(EscapedJson { out }, value)?;
    out.write_all(b"\n")
}

/// The same without indentation, for what is nested deeply.
///
/// # Errors
///
/// What `out` says.
pub fn json_on_one_line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(EscapedJson { out }, value)?;
    out.write_all(b"\n")
}

/// Hands JSON on. It has no such characters but in strings, and escapes the ASCII ones there itself, save the last.
struct EscapedJson<'a> {
    out: &'a mut dyn Write,
}

impl Write for EscapedJson<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let hidden = |c: char| c > '~' && is_unprintable(c);
        let text = str::from_utf8(bytes).map_err(io::Error::other)?;
        let mut rest = text;
        while let Some(at) = rest.find(hidden) {
            let (before, from) = rest.split_at(at);
            self.out.write_all(before.as_bytes())?;
            let mut characters = from.chars();
            let hidden = characters.next().unwrap_or_default();
            for unit in hidden.encode_utf16(&mut [0; 2]) {
                write!(self.out, "\\u{unit:04x}")?;
            }
            rest = characters.as_str();
        }
        self.out.write_all(rest.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_touch_a_terminal_is_shown_by_its_number() {
        for (text, shown) in [
            ("evil\x1b[2J\nname", "evil\\x1b[2J\\nname"),
            ("\x07\x7f\t\r", "\\x07\\x7f\\t\\r"),
            ("a\u{9b}31mb", "a\\u{9b}31mb"),
            ("a\u{202e}b\u{2028}", "a\\u{202e}b\\u{2028}"),
            ("\u{e0041}", "\\u{e0041}"),
            ("ordinary: größer, 日本, {}", "ordinary: größer, 日本, {}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_unprintable_is_left(text: String) {
            prop_assert!(!printable(&text).contains(is_unprintable));
        }

        #[test]
        fn json_is_harmless_and_the_same_text(text: String) {
            let value = vec![text.clone(), format!("\u{9b}{text}\x7f\u{e0001}\u{202e}")];
            let mut out = Vec::new();
            json(&value, &mut out).unwrap();
            let out = String::from_utf8(out).unwrap();
            prop_assert!(!out.replace('\n', "").contains(is_unprintable));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&out).unwrap(), value);
        }
    }
}
