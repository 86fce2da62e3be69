//! Lines on a terminal: never wider than asked for, coloured or not.

use std::io::{self, Write};

use crate::words::printable;

/// How a piece of a line looks where colour is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    /// What to read first.
    Bold,
    /// What may be passed over.
    Dim,
    /// A Python function, and the first one of a list.
    Python,
    BoldPython,
    /// What limits how far the numbers can be trusted.
    Warning,
}

impl Style {
    /// The SGR sequence of ECMA-48 that turns it on.
    fn escape(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Python => "\x1b[36m",
            Self::BoldPython => "\x1b[1;36m",
            Self::Warning => "\x1b[33m",
        }
    }
}

/// Where the report goes.
pub(super) struct Page<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) width: usize,
    pub(super) colour: bool,
    /// How many lines were written.
    pub(super) lines: usize,
}

impl<'a> Page<'a> {
    pub(super) fn new(out: &'a mut dyn Write, width: usize, colour: bool) -> Self {
        Self {
            out,
            width,
            colour,
            lines: 0,
        }
    }

    /// A page of the same look that is written elsewhere.
    pub(super) fn onto<'b>(&self, out: &'b mut dyn Write) -> Page<'b> {
        Page::new(out, self.width, self.colour)
    }

    /// What was written elsewhere, in so many lines.
    pub(super) fn raw(&mut self, text: &[u8], lines: usize) -> io::Result<()> {
        self.lines += lines;
        self.out.write_all(text)
    }

    pub(super) fn blank(&mut self) -> io::Result<()> {
        self.lines += 1;
        self.out.write_all(b"\n")
    }

    /// The heading of a part, after an empty line.
    pub(super) fn heading(&mut self, text: &str) -> io::Result<()> {
        self.blank()?;
        self.line(&[(Style::Bold, text)])
    }

    /// One line, cut with `…` at the width. Whatever words are in it, it is one line and moves nothing.
    pub(super) fn line(&mut self, pieces: &[(Style, &str)]) -> io::Result<()> {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|(style, text)| (*style, printable(text)))
            .collect();
        let mut left = self.width;
        let whole: usize = pieces.iter().map(|(_, text)| text.chars().count()).sum();
        let last = pieces
            .iter()
            .rposition(|(_, text)| !text.trim_end().is_empty());
        for (position, (style, text)) in pieces
            .iter()
            .enumerate()
            .take(last.map_or(0, |last| last + 1))
        {
            let text = if Some(position) == last {
                text.trim_end()
            } else {
                text.as_ref()
            };
            let text = if whole > self.width {
                &cut(text, left)
            } else {
                text
            };
            left = left.saturating_sub(text.chars().count());
            match style.escape() {
                _ if text.is_empty() => {}
                escape if self.colour && !escape.is_empty() => {
                    write!(self.out, "{escape}{text}\x1b[0m")?;
                }
                _ => self.out.write_all(text.as_bytes())?,
            }
        }
        self.blank()
    }

    /// Prose, broken between words. The first line is indented by `first`, all others by `rest`.
    pub(super) fn prose(
        &mut self,
        style: Style,
        (first, rest): (usize, usize),
        text: &str,
    ) -> io::Result<()> {
        let mut line = " ".repeat(first);
        let mut count = first;
        let mut words = 0;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let length = word.chars().count();
            if words > 0 && count + 1 + length > self.width {
                self.line(&[(style, &line)])?;
                line = " ".repeat(rest);
                (count, words) = (rest, 0);
            } else if words > 0 {
                line.push(' ');
                count += 1;
            }
            line.push_str(word);
            count += length;
            words += 1;
        }
        self.line(&[(style, &line)])
    }
}

/// The text in at most `most` characters, the last of which is `…` if something is missing.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    if most == 0 {
        String::new()
    } else {
        format!("{}…", kept.trim_end())
    }
}
