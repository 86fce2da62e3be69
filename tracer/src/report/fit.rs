//! Names of functions that fit where they are shown.
//!
//! A name is given in full where there is room. Where there is not, it loses what tells least, a step at a time, until it fits:
//!
//! | step | `void app::Index<std::map<int, int>>::insert(int) const` becomes |
//! |---|---|
//! | return type, parameters, qualifiers, what compilers append | `app::Index<std::map<int, int>>::insert` |
//! | arguments of arguments | `app::Index<std::map<…>>::insert` |
//! | arguments of templates and generics | `app::Index<…>::insert` |
//! | their brackets, and paths within `<Type as Trait>` | `app::Index::insert` |
//! | the middle: the function itself, at the end, stays | `a…::insert` |
//!
//! Text that is no such name (brackets that do not match) only gets shorter.

use std::ops::Range;

/// What stands for what was left out.
const LEFT_OUT: char = '…';

/// The name of a function in at most `room` characters, in full where it fits.
pub fn fitted(function: &str, room: usize) -> String {
    if function.chars().count() <= room {
        return function.to_owned();
    }
    // Python's word for what is defined within a function.
    let bare = bare(function).replace(".<locals>", "");
    let steps = [
        Folding::Nothing,
        Folding::ArgumentsFrom(2),
        Folding::ArgumentsFrom(1),
        Folding::All,
    ];
    let mut shortest = bare.clone();
    for folding in steps {
        shortest = Name::of(&bare).folded(folding);
        if shortest.chars().count() <= room {
            return shortest;
        }
    }
    Name::of(&shortest).cut(room)
}

/// How much of a name is folded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Folding {
    Nothing,
    /// Arguments of templates that lie this deep in others; those of the name itself are at 1.
    ArgumentsFrom(usize),
    /// All arguments, with their brackets; of `<Type as Trait>`, only the last words.
    All,
}

/// The name without its return type, parameters, qualifiers, and what compilers append.
pub(super) fn bare(text: &str) -> String {
    let name = Name::of(without_suffixes(text));
    let mut out = String::new();
    // Where the path begins in `out`, after the last space that is not its own.
    let mut begins = 0;
    let mut has_parameters = false;
    let mut in_operator = false;
    let mut at = 0;
    while let Some(&c) = name.chars.get(at) {
        let Some(end) = name.closes[at] else {
            in_operator |= name.word_at(at, "operator");
            out.push(c);
            if c == ' ' && !in_operator {
                begins = out.len();
            }
            at += 1;
            continue;
        };
        if c == '(' && !name.begins_segment(at) {
            has_parameters = true;
            at = name.after_qualifiers(end + 1);
            continue;
        }
        let returns_function = c == '('
            && matches!(name.chars[at + 1], '*' | '&')
            && at > 0
            && name.chars[at - 1] == ' '
            && name.chars.get(end + 1) == Some(&'(');
        if returns_function {
            return bare(&name.text(at + 2..end));
        }
        if !(c == '[' && name.text(at + 1..end).starts_with("abi:")) {
            out.push_str(&name.text(at..end + 1));
        }
        at = end + 1;
    }
    // Only C++ writes return types, and only beside parameters.
    let path = match has_parameters {
        true => out[begins..].trim_start_matches(['*', '&', ' ']),
        false => &out,
    };
    match path.trim().is_empty() {
        true => text.to_owned(),
        false => path.trim().to_owned(),
    }
}

/// Without the marks of parts and copies that compilers make of a function.
fn without_suffixes(text: &str) -> &str {
    const MARKS: [&str; 8] = [
        ".isra",
        ".constprop",
        ".part",
        ".cold",
        ".lto_priv",
        ".llvm",
        ".localalias",
        ".warm",
    ];
    let mut text = text.trim_end();
    loop {
        let before = match text.rfind(" [clone ") {
            Some(at) if text.ends_with(']') => &text[..at],
            _ => {
                let numberless = text
                    .rfind('.')
                    .filter(|&at| at + 1 < text.len())
                    .filter(|&at| text[at + 1..].bytes().all(|byte| byte.is_ascii_digit()))
                    .map_or(text, |at| &text[..at]);
                let marked = MARKS.iter().find_map(|mark| numberless.strip_suffix(mark));
                marked.unwrap_or(text)
            }
        };
        if before.len() == text.len() || before.is_empty() {
            return text;
        }
        text = before;
    }
}

/// A name, and which of its brackets belong together.
struct Name {
    chars: Vec<char>,
    /// For each opening bracket that is closed, where. Brackets of operators are none.
    closes: Vec<Option<usize>>,
}

impl Name {
    fn of(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let closes = vec![None; chars.len()];
        let mut name = Self { chars, closes };
        let mut open: Vec<usize> = Vec::new();
        let mut at = 0;
        while let Some(&c) = name.chars.get(at) {
            if name.word_at(at, "operator") {
                at += "operator".len();
                at += name.operator_at(at);
                continue;
            }
            let opening = match c {
                '(' | '<' | '[' | '{' => {
                    open.push(at);
                    None
                }
                ')' => Some('('),
                ']' => Some('['),
                '}' => Some('{'),
                // `->` is no bracket.
                '>' if at == 0 || name.chars[at - 1] != '-' => Some('<'),
                _ => None,
            };
            if let Some(opening) = opening {
                name.close(&mut open, opening, at);
            }
            at += 1;
        }
        name
    }

    /// Closes the innermost bracket of this kind. Those opened within it and not closed are none; `>` closes none but the innermost.
    fn close(&mut self, open: &mut Vec<usize>, opening: char, at: usize) {
        let depth = match opening {
            '<' => open.len().checked_sub(1),
            _ => open.iter().rposition(|&open| self.chars[open] == opening),
        };
        let Some(depth) = depth.filter(|&depth| self.chars[open[depth]] == opening) else {
            return;
        };
        self.closes[open[depth]] = Some(at);
        open.truncate(depth);
    }

    fn text(&self, range: Range<usize>) -> String {
        self.chars[range].iter().collect()
    }

    fn starts_with(&self, at: usize, text: &str) -> bool {
        let mut chars = self.chars[at..].iter();
        text.chars().all(|c| chars.next() == Some(&c))
    }

    /// Whether a word begins and ends here.
    fn word_at(&self, at: usize, word: &str) -> bool {
        let in_word = |at: usize| self.chars.get(at).is_some_and(|&c| is_of_word(c));
        self.starts_with(at, word) && !in_word(at + word.len()) && (at == 0 || !in_word(at - 1))
    }

    /// Length of the operator's sign here; 0 where a type or a word follows.
    fn operator_at(&self, at: usize) -> usize {
        const SIGNS: [&str; 17] = [
            "<=>",
            "<<=",
            ">>=",
            "->*",
            "()",
            "[]",
            "->",
            "<<",
            ">>",
            "<=",
            ">=",
            "<",
            ">",
            " new[]",
            " delete[]",
            " new",
            " delete",
        ];
        let sign = SIGNS.iter().find(|sign| self.starts_with(at, sign));
        sign.map_or(0, |sign| sign.len())
    }

    /// Whether what begins here is a name of its own: `(anonymous namespace)`, `<Type as Trait>`, Go's `(*Type)`.
    fn begins_segment(&self, at: usize) -> bool {
        match at.checked_sub(1).map(|before| self.chars[before]) {
            None | Some(':' | '.') => true,
            // `operator< <int>`
            Some(' ') => !matches!(
                at.checked_sub(2).map(|two| self.chars[two]),
                Some('<' | '>' | '-')
            ),
            Some(_) => false,
        }
    }

    /// Past `const`, `&` and the like, which stand behind parameters.
    fn after_qualifiers(&self, mut at: usize) -> usize {
        const QUALIFIERS: [&str; 5] = [" const", " volatile", " noexcept", " &&", " &"];
        while let Some(word) = QUALIFIERS.iter().find(|&&word| {
            self.starts_with(at, word)
                && !self
                    .chars
                    .get(at + word.len())
                    .is_some_and(|&c| is_of_word(c))
        }) {
            at += word.len();
        }
        at
    }

    /// The name with so much of it folded.
    fn folded(&self, folding: Folding) -> String {
        self.fold(0..self.chars.len(), folding, 0)
    }

    /// `depth`: how many argument lists it lies in.
    fn fold(&self, range: Range<usize>, folding: Folding, depth: usize) -> String {
        let folds = match folding {
            Folding::Nothing => false,
            Folding::ArgumentsFrom(from) => depth + 1 >= from,
            Folding::All => true,
        };
        let mut out = String::new();
        let mut at = range.start;
        while at < range.end {
            let c = self.chars[at];
            let Some(end) = self.closes[at].filter(|&end| end < range.end) else {
                out.push(c);
                at += 1;
                continue;
            };
            let turbofish =
                at >= 2 && self.starts_with(at - 2, "::") && !self.starts_with(at, "<impl ");
            match c {
                '<' if self.begins_segment(at) && !turbofish => {
                    out.push('<');
                    out.push_str(&self.fold_self_type(at + 1..end, folding, depth));
                    out.push('>');
                }
                '<' if folds => {
                    if turbofish {
                        out.truncate(out.trim_end_matches("::").len());
                    } else if folding != Folding::All {
                        out.extend(['<', LEFT_OUT, '>']);
                    } else if out.ends_with(' ') {
                        // `operator< <int>`
                        out.pop();
                    }
                }
                '<' => {
                    out.push('<');
                    out.push_str(&self.fold(at + 1..end, folding, depth + 1));
                    out.push('>');
                }
                '{' if folds => out.push_str(&self.fold_braces(at..end + 1)),
                _ => out.push_str(&self.text(at..end + 1)),
            }
            at = end + 1;
        }
        out
    }

    /// What stands in `<Type as Trait>` and `<impl Trait for Type>`.
    fn fold_self_type(&self, range: Range<usize>, folding: Folding, depth: usize) -> String {
        let mut parts = Vec::new();
        let mut begins = range.start;
        let mut at = range.start;
        while at < range.end {
            let between = [" as ", " for "]
                .into_iter()
                .find(|word| self.starts_with(at, word));
            if let Some(word) = between {
                parts.push((begins..at, word));
                at += word.len();
                begins = at;
            } else {
                at = self.closes[at].map_or(at, |end| end.min(range.end)) + 1;
            }
        }
        parts.push((begins.min(range.end)..range.end, ""));
        let mut out = String::new();
        for (part, word) in parts {
            let folded = self.fold(part, folding, depth);
            match folding {
                Folding::All => {
                    let kept = ["impl ", "&mut ", "&", "*const ", "*mut ", "dyn "];
                    let mark = kept.into_iter().find(|mark| folded.starts_with(mark));
                    out.push_str(mark.unwrap_or_default());
                    let inner = Self::of(&folded[mark.map_or(0, str::len)..]);
                    let begins = inner.separators().last().map_or(0, |last| last.end);
                    out.push_str(&inner.text(begins..inner.chars.len()));
                }
                _ => out.push_str(&folded),
            }
            out.push_str(word);
        }
        out
    }

    /// `{lambda(int)#1}` as it is, a long list of parameters folded.
    fn fold_braces(&self, range: Range<usize>) -> String {
        const SHORT: usize = 16;
        let opens = range
            .clone()
            .find(|&at| self.chars[at] == '(' && self.closes[at].is_some());
        match opens.and_then(|opens| Some((opens, self.closes[opens]?))) {
            Some((opens, closes)) if range.len() > SHORT && closes > opens + 1 => format!(
                "{}({LEFT_OUT}){}",
                self.text(range.start..opens),
                self.text((closes + 1).min(range.end)..range.end)
            ),
            _ => self.text(range),
        }
    }

    /// Where the parts of the path are divided: at each `::`, or `.` where there is none.
    fn separators(&self) -> Vec<Range<usize>> {
        let found = self.separated_by("::");
        // A path of files, as in names of JavaScript's functions, has other dots.
        let has_dots = found.is_empty() && !self.chars.iter().any(|&c| matches!(c, '/' | ' '));
        if has_dots {
            self.separated_by(".")
        } else {
            found
        }
    }

    fn separated_by(&self, separator: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.chars.len() {
            if self.starts_with(at, separator) {
                let next = at + separator.len();
                // `{closure#0}` and `operator()` say nothing without what is before them.
                let joined = ["{", "operator()", "<lambda>", "<listcomp>"];
                if at > 0
                    && next < self.chars.len()
                    && !joined.iter().any(|word| self.starts_with(next, word))
                {
                    found.push(at..next);
                }
                at = next;
            } else {
                at = self.closes[at].unwrap_or(at) + 1;
            }
        }
        found
    }

    /// Cut in the middle: the last parts of the path that fit, and the beginning of the first.
    fn cut(&self, room: usize) -> String {
        /// Characters of the beginning that are worth a part less at the end.
        const BEGINNING: usize = 6;
        let all = self.chars.len();
        if all <= room {
            return self.text(0..all);
        }
        let separators = self.separators();
        let first = separators.first().map_or(0, |first| first.start);
        let begins_with = first.min(BEGINNING);
        let fits = |tail: usize, beginning: usize| beginning + 1 + (all - tail) <= room;
        if let Some(tail) = separators.iter().find(|tail| fits(tail.start, begins_with)) {
            let beginning = self.text(0..room - 1 - (all - tail.start));
            let beginning = match beginning.strip_suffix(':') {
                Some(half) if !half.ends_with(':') => half,
                _ => &beginning,
            };
            return format!("{beginning}{LEFT_OUT}{}", self.text(tail.start..all));
        }
        let last = separators.last();
        if let Some(last) = last
            && fits(last.start, 0)
        {
            return format!("{LEFT_OUT}{}", self.text(last.start..all));
        }
        let last = last.map_or(0, |last| last.end);
        if all - last <= room {
            return self.text(last..all);
        }
        let Some(kept) = room.checked_sub(1) else {
            return String::new();
        };
        let ending = if kept >= 12 { kept / 3 } else { 0 };
        format!(
            "{}{LEFT_OUT}{}",
            self.text(last..last + kept - ending),
            self.text(all - ending..all)
        )
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

#[cfg(test)]
mod tests;
