//! Perf maps: what a JIT compiler says of the code that it made.
//!
//! One entry a line, `START SIZE NAME`, both numbers hexadecimal, the name to the end of the line, blanks and all
//! (<https://github.com/torvalds/linux/blob/v6.12/tools/perf/Documentation/jit-interface.txt>). The file only grows.
//! Code is moved, dropped, and its memory used again without a word of it, so where two entries overlap the later one
//! tells what is there now.
//!
//! Whoever runs the target writes this text. Lines, their length and the memory that they take are bounded, and what
//! is left out is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest line read, bytes. A longer one is malformed, and passed over to its end.
const MOST_LINE_BYTES: usize = 8 << 10;
/// What an entry takes beside its name, bytes: its place in the tree and the counts of the name.
const ENTRY_BYTES: usize = 96;

/// The entries of a perf map, as far as they are not overwritten by later ones.
///
/// The ranges never overlap, so the one that holds an address is the last to begin at or before it. Taking in an entry
/// cuts away what it covers: at most one older range is split in two, and every range that vanishes was put there once,
/// so a map of `n` lines takes O(n log n) whatever it says.
#[derive(Debug, Default)]
pub struct PerfMap {
    /// By first address.
    ranges: BTreeMap<u64, Range>,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// The line that has not ended is too long: its rest means nothing.
    too_long: bool,
    bytes: usize,
    counts: Counts,
}

#[derive(Clone, Debug)]
struct Range {
    /// The address after the last.
    end: u64,
    name: Arc<str>,
}

impl Range {
    /// A name that two ranges share counts for both.
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.name.len()
    }
}

/// Lines that name nothing, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Not an entry: a number is missing or wrong, there is no name, or the line is too long.
    pub malformed: u64,
    /// There was no room for it.
    pub refused: u64,
}

impl PerfMap {
    /// Takes in the next piece of the text, which may begin and end anywhere in a line.
    ///
    /// Once the map takes `room` bytes of memory ([`PerfMap::bytes`]), entries are refused.
    pub fn take_in(&mut self, text: &[u8], room: usize) {
        for piece in text.split_inclusive(|&byte| byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', rest)) => {
                    self.add_to_line(rest);
                    self.end_line(room);
                }
                _ => self.add_to_line(piece),
            }
        }
    }

    /// The name of what lies at this address now.
    pub fn name_at(&self, address: u64) -> Option<&str> {
        let (_, range) = self.ranges.range(..=address).next_back()?;
        (address < range.end).then_some(&*range.name)
    }

    /// Memory taken, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lines that name nothing.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn add_to_line(&mut self, piece: &[u8]) {
        self.too_long |= self.line.len() + piece.len() > MOST_LINE_BYTES;
        if self.too_long {
            self.line.clear();
        } else {
            self.line.extend_from_slice(piece);
        }
    }

    fn end_line(&mut self, room: usize) {
        let line = std::mem::take(&mut self.line);
        let entry = (!std::mem::take(&mut self.too_long))
            .then(|| parse(&line))
            .flatten();
        match entry {
            // Covers nothing: stubs that came out empty.
            Some((start, end, _)) if start == end => {}
            Some(_) if self.bytes >= room => self.counts.refused += 1,
            Some((start, end, name)) => self.insert(start, end, name.into()),
            None => self.counts.malformed += 1,
        }
        self.line = line;
        self.line.clear();
    }

    fn insert(&mut self, start: u64, end: u64, name: Arc<str>) {
        if let Some((_, before)) = self.ranges.range_mut(..start).next_back()
            && before.end > start
        {
            let tail = before.clone();
            before.end = start;
            self.put_tail(end, tail);
        }
        while let Some((&covered, _)) = self.ranges.range(start..end).next()
            && let Some(range) = self.ranges.remove(&covered)
        {
            self.bytes -= range.bytes();
            self.put_tail(end, range);
        }
        self.put(start, Range { end, name });
    }

    /// What is left of a range behind `start`.
    fn put_tail(&mut self, start: u64, range: Range) {
        if range.end > start {
            self.put(start, range);
        }
    }

    fn put(&mut self, start: u64, range: Range) {
        self.bytes += range.bytes();
        self.ranges.insert(start, range);
    }
}

/// First address, the one after the last, and the name.
fn parse(line: &[u8]) -> Option<(u64, u64, String)> {
    let (start, rest) = hexadecimal(line.trim_ascii_start())?;
    let (size, name) = hexadecimal(rest.trim_ascii_start())?;
    let name = name.trim_ascii();
    if name.is_empty() {
        return None;
    }
    let name = String::from_utf8_lossy(name).into_owned();
    Some((start, start.checked_add(size)?, name))
}

/// A number, which a blank ends, and the rest from that blank on. Some writers begin it with `0x`.
fn hexadecimal(text: &[u8]) -> Option<(u64, &[u8])> {
    let length = text.iter().position(u8::is_ascii_whitespace)?;
    let (number, rest) = text.split_at(length);
    let digits = str::from_utf8(number.strip_prefix(b"0x").unwrap_or(number)).ok()?;
    // `from_str_radix` would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some((u64::from_str_radix(digits, 16).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map_of(text: &str) -> PerfMap {
        let mut map = PerfMap::default();
        map.take_in(text.as_bytes(), usize::MAX);
        map
    }

    #[test]
    fn an_address_has_the_name_of_the_entry_that_covers_it() {
        let map = map_of("1000 20 first\n0x1020 10 LazyCompile:~f /app/a b.js:1:2\n");
        assert_eq!(map.name_at(0xfff), None);
        assert_eq!(map.name_at(0x1000), Some("first"));
        assert_eq!(map.name_at(0x101f), Some("first"));
        assert_eq!(map.name_at(0x102f), Some("LazyCompile:~f /app/a b.js:1:2"));
        assert_eq!(map.name_at(0x1030), None);
        assert_eq!(map.name_at(u64::MAX), None);
        assert_eq!(map.counts(), Counts::default());
    }

    #[test]
    fn a_later_entry_takes_what_it_covers_from_the_earlier_ones() {
        let map = map_of("1000 100 old\n1040 20 new\n10f0 20 end\n");
        let names = [0x103f, 0x1040, 0x105f, 0x1060, 0x10ef, 0x10f0, 0x110f]
            .map(|address| map.name_at(address).unwrap());
        assert_eq!(names, ["old", "new", "new", "old", "old", "end", "end"]);
    }

    #[test]
    fn a_line_without_its_end_is_no_entry_yet() {
        let mut map = map_of("1000 10 nam");
        assert_eq!(map.name_at(0x1000), None);
        map.take_in(b"e of it\n", usize::MAX);
        assert_eq!(map.name_at(0x1000), Some("name of it"));
    }

    #[test]
    fn lines_that_make_no_sense_are_counted_and_cost_no_other() {
        let long = "x".repeat(MOST_LINE_BYTES);
        let lines = [
            "",
            "1000",
            "1000 10",
            "1000 10 ",
            "+1000 10 sign",
            "1000 -10 sign",
            "xyz 10 digits",
            "1000 fffffffffffffffff large",
            "ffffffffffffffff 2 beyond the end",
            &format!("1000 10 {long}"),
        ];
        let map = map_of(&format!("{}\n2000 10 good\n", lines.join("\n")));
        assert_eq!(map.counts().malformed, lines.len() as u64);
        assert_eq!(map.name_at(0x1000), None);
        assert_eq!(map.name_at(0x2000), Some("good"));
    }

    #[test]
    fn an_entry_of_no_bytes_covers_nothing() {
        let map = map_of("1000 10 whole\n1004 0 empty\n");
        assert_eq!(map.name_at(0x1004), Some("whole"));
        assert_eq!(map.counts(), Counts::default());
    }

    #[test]
    fn without_room_entries_are_refused_and_counted() {
        let mut map = PerfMap::default();
        let text: String = (0..1000)
            .map(|at| format!("{:x} 10 f{at}\n", at * 16))
            .collect();
        map.take_in(text.as_bytes(), 10 * ENTRY_BYTES);
        assert!(map.bytes() <= 11 * ENTRY_BYTES);
        assert_eq!(map.counts().refused, 990);
        assert_eq!(map.name_at(0), Some("f0"));
        assert_eq!(map.name_at(999 * 16), None);
    }

    proptest! {
        /// The naive twin looks through all entries, the latest first.
        #[test]
        fn a_map_agrees_with_a_search_through_all_entries(
            entries in prop::collection::vec((0_u64..60, 0_u64..20), 0..40),
        ) {
            let text: String = entries.iter().enumerate()
                .map(|(at, (start, size))| format!("{start:x} {size:x} f{at}\n"))
                .collect();
            let map = map_of(&text);
            for address in 0..90 {
                let naive = entries.iter().rposition(|(start, size)| (*start..start + size).contains(&address));
                let naive = naive.map(|at| format!("f{at}"));
                prop_assert_eq!(map.name_at(address), naive.as_deref());
            }
            let held: usize = map.ranges.values().map(Range::bytes).sum();
            prop_assert_eq!(map.bytes(), held);
        }

        #[test]
        fn a_map_is_the_same_however_its_text_is_cut(
            text in "([0-9a-f]{1,3} [0-9a-f]{1,2} [a-z ]{0,5}\n|[ -~]{0,12}\n){0,12}",
            cuts in prop::collection::vec(0_usize..200, 0..6),
        ) {
            let whole = map_of(&text);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut pieces = PerfMap::default();
            let mut from = 0;
            for to in cuts.into_iter().chain([text.len()]) {
                pieces.take_in(&text.as_bytes()[from..to], usize::MAX);
                from = to;
            }
            prop_assert_eq!(pieces.counts(), whole.counts());
            for address in 0..0x1100 {
                prop_assert_eq!(pieces.name_at(address), whole.name_at(address));
            }
        }
    }
}
