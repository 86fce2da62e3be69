//! pprof's profile, gzipped: for `go tool pprof`, Pyroscope, Grafana.
//!
//! Objects and space that were allocated over the whole recording, and in use at the moment asked for. The first mapping is the
//! program's. Frames of the language's own allocation functions are dropped by whoever reads it (`drop_frames`), so that
//! the leaf is who asked. Comments (`go tool pprof -comments`) have the totals and what was not seen. The messages and the
//! numbers of their fields: <https://github.com/google/pprof/blob/main/proto/profile.proto>. So few of them are needed
//! that they are written by hand; a message is a list of fields, each a varint or a text after its length.

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::answer::Answer;
use super::super::model::Profile;
use super::super::name::{self, NamedFrame, UNKNOWN_STACK};
use super::super::owner;
use super::super::telling::Role;
use crate::live::HolderKey;
use crate::units::{size, time};
use crate::words;

/// Address space of a module in the profile: offsets are of one file, and those of two must not meet.
const MODULE_BYTES: u64 = 1 << 40;

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A number. Zero is what a field that is not there means.
    fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.varint(field << 3);
            self.varint(value);
        }
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn packed(&mut self, field: u64, values: &[u64]) {
        self.message(field, |inner| {
            for value in values {
                inner.varint(*value);
            }
        });
    }
}

/// Texts, each once. The first is empty.
struct Texts {
    list: Vec<String>,
    by_text: HashMap<String, u64>,
}

impl Texts {
    fn index(&mut self, text: &str) -> u64 {
        if let Some(index) = self.by_text.get(text) {
            return *index;
        }
        let index = self.list.len() as u64;
        self.list.push(words::printable(text).into_owned());
        self.by_text.insert(text.to_owned(), index);
        index
    }
}

/// The number of a function, and the line in its file.
type Line = (u64, u64);

/// What samples refer to, numbered from 1.
struct Tables {
    texts: Texts,
    profile: Message,
    modules: HashMap<String, u64>,
    functions: HashMap<(u64, u64), u64>,
    /// By module, address and the lines there.
    locations: HashMap<(u64, u64, Vec<Line>), u64>,
}

impl Tables {
    fn module(&mut self, frame: &NamedFrame<'_>) -> u64 {
        let Some(module) = frame.module else {
            return 0;
        };
        let path = module.path.to_string_lossy();
        if let Some(id) = self.modules.get(&*path) {
            return *id;
        }
        let id = self.modules.len() as u64 + 1;
        let (file, build_id) = (
            self.texts.index(&path),
            self.texts.index(module.build_id.as_deref().unwrap_or("")),
        );
        self.profile.message(3, |mapping| {
            mapping.number(1, id);
            mapping.number(2, id * MODULE_BYTES);
            mapping.number(3, (id + 1) * MODULE_BYTES);
            mapping.number(5, file);
            mapping.number(6, build_id);
            // Names, files, lines and inlined functions are there: nothing is left to look up.
            for known in 7..=10 {
                mapping.number(known, 1);
            }
        });
        self.modules.insert(path.into_owned(), id);
        id
    }

    fn function(&mut self, frame: &NamedFrame<'_>) -> u64 {
        let label = frame.function.map_or_else(|| frame.label(), str::to_owned);
        let key = (
            self.texts.index(&label),
            self.texts.index(frame.file.unwrap_or("")),
        );
        let next = self.functions.len() as u64 + 1;
        if let Some(id) = self.functions.get(&key) {
            return *id;
        }
        self.profile.message(5, |function| {
            function.number(1, next);
            function.number(2, key.0);
            function.number(3, key.0);
            function.number(4, key.1);
        });
        self.functions.insert(key, next);
        next
    }

    /// One location: a function, after those that were inlined into it.
    fn location(&mut self, frames: &[NamedFrame<'_>]) -> u64 {
        let Some(outer) = frames.last() else {
            return 0;
        };
        let module = self.module(outer);
        let address = module * MODULE_BYTES + outer.offset.unwrap_or(0) % MODULE_BYTES;
        let lines: Vec<Line> = frames
            .iter()
            .map(|frame| (self.function(frame), u64::from(frame.line.unwrap_or(0))))
            .collect();
        let key = (module, address, lines);
        if let Some(id) = self.locations.get(&key) {
            return *id;
        }
        let id = self.locations.len() as u64 + 1;
        self.profile.message(4, |location| {
            location.number(1, id);
            location.number(2, module);
            location.number(3, address);
            for (function, number) in &key.2 {
                location.message(4, |line| {
                    line.number(1, *function);
                    line.number(2, *number);
                });
            }
        });
        self.locations.insert(key, id);
        id
    }
}

/// Functions that are asked for memory by whoever holds it: C's, C++'s, Rust's and CPython's. pprof matches whole names, C++'s without
/// their parameters, and takes what they called with them.
const DROP_FRAMES: &str = "operator new(\\[\\])?|malloc|calloc|realloc|reallocarray|memalign|aligned_alloc|posix_memalign|valloc|pvalloc\
    |(__|_)?(libc_|GI___)?(malloc|calloc|realloc|memalign)|strdup|strndup|__strdup|__strndup\
    |__rust_(alloc|alloc_zeroed|realloc)|__rdl_(alloc|alloc_zeroed|realloc)|alloc::alloc::.*|<alloc::alloc::Global.*|<std::alloc::System.*\
    |_?Py(Mem|Object)_(Raw)?(Malloc|Calloc|Realloc)";

/// A frame in the program's own file: the first process's start, or in its file by name, or its first frame that is no plumbing.
fn frame_of_program(
    profile: &Profile,
    samples: impl Iterator<Item = HolderKey> + Clone,
) -> Option<NamedFrame<'_>> {
    let main = &profile.main_process()?.process;
    let mapped = |frame: &NamedFrame<'_>| frame.module.is_some_and(|module| !module.is_anonymous());
    let stacks = samples.filter(|key| key.process == main.id);
    let stacks = stacks.filter_map(|key| profile.frames(key.stack));
    let start = stacks.clone().find_map(|frames| {
        let callee = frames
            .len()
            .checked_sub(2)
            .and_then(|callee| frames[callee].function);
        let root = frames.last()?;
        let starts = root.function == Some("_start")
            || callee.is_some_and(|callee| callee.starts_with("__libc_start_main"));
        (starts && mapped(root)).then(|| root.clone())
    });
    let program = name::program(&main.command);
    let by_name = || {
        let is_it = |frame: &NamedFrame<'_>| {
            let file = frame.module.and_then(|module| module.path.file_name());
            file.is_some_and(|file| file == &*program)
        };
        stacks.clone().flatten().find(is_it)
    };
    let own = || {
        let own = |frame: &NamedFrame<'_>| mapped(frame) && frame.role() == Role::Own;
        stacks.clone().flatten().find(own)
    };
    start.or_else(by_name).or_else(own)
}

/// Lines for `-comments`: what it is, the totals, what was not seen.
fn comments(profile: &Profile, allocated: &Answer, in_use: &Answer) -> Vec<String> {
    let total = |answer: &Answer, words: &str| {
        format!(
            "{words}: {} bytes in {} blocks",
            size::thousands(answer.bytes),
            size::thousands(answer.blocks)
        )
    };
    let mut comments = vec![
        format!(
            "highwater {}: in use is what was {}",
            env!("CARGO_PKG_VERSION"),
            in_use.words
        ),
        total(in_use, "in use"),
        total(allocated, "allocated"),
        format!("recorded for {}", time::duration(profile.duration_ns())),
    ];
    if !profile.is_complete() {
        comments.push("not all was seen; `highwater report` says what is missing".to_owned());
    }
    if let Some(reason) = profile.completion.cut_reason() {
        comments.push(format!("the recording stops early: {reason}"));
    }
    comments.extend(profile.losses.iter().map(ToString::to_string));
    comments
}

/// Writes what was allocated and what was in use. Values of samples add up to the answers' blocks and bytes.
///
/// # Errors
///
/// What `out` says.
pub fn write(
    profile: &Profile,
    allocated: &Answer,
    in_use: &Answer,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut values: HashMap<HolderKey, [u64; 4]> = HashMap::new();
    for (first, answer) in [(0, allocated), (2, in_use)] {
        for holder in &answer.holders {
            let sums = values.entry(holder.key()).or_default();
            sums[first] = sums[first].saturating_add(holder.blocks);
            sums[first + 1] = sums[first + 1].saturating_add(holder.bytes);
        }
    }
    let mut samples: Vec<_> = values.into_iter().collect();
    samples.sort_by_key(|(key, [_, allocated, _, used])| {
        (
            std::cmp::Reverse((*used, *allocated)),
            key.stack.0,
            key.thread.map(|tid| tid.0),
        )
    });
    let mut tables = Tables {
        texts: Texts {
            list: vec![String::new()],
            by_text: HashMap::from([(String::new(), 0)]),
        },
        profile: Message::default(),
        modules: HashMap::new(),
        functions: HashMap::new(),
        locations: HashMap::new(),
    };
    for name in [
        "alloc_objects",
        "alloc_space",
        "inuse_objects",
        "inuse_space",
    ] {
        let unit = if name.ends_with("space") {
            "bytes"
        } else {
            "count"
        };
        let (name, unit) = (tables.texts.index(name), tables.texts.index(unit));
        tables.profile.message(1, |value| {
            value.number(1, name);
            value.number(2, unit);
        });
    }
    // The first mapping is taken for the main program's.
    let keys = samples.iter().map(|(key, _)| *key);
    if let Some(frame) = frame_of_program(profile, keys) {
        tables.module(&frame);
    }
    for (key, values) in samples {
        let frames = profile.frames(key.stack).unwrap_or_default();
        let mut locations = Vec::new();
        for function in frames.chunk_by(|frame, _| frame.inlined) {
            locations.push(tables.location(function));
        }
        if locations.is_empty() {
            let unknown = NamedFrame {
                function: Some(UNKNOWN_STACK),
                ..NamedFrame::default()
            };
            locations.push(tables.location(&[unknown]));
        }
        let thread = key.thread.map_or(0, |tid| u64::from(tid.0));
        let thread_name = key
            .thread
            .and_then(|tid| profile.thread_name(key.process, tid))
            .unwrap_or("");
        let process = profile.process(key.process).map(|process| &process.process);
        let pid = process.map_or(0, |process| u64::from(process.pid));
        let program = process.map_or_else(String::new, |process| name::program(&process.command));
        let numbers =
            [("pid", pid), ("tid", thread)].map(|(name, id)| (tables.texts.index(name), id));
        let cgroup = process.and_then(|process| process.cgroup.as_deref());
        let of_cgroup = |part: Option<&str>| words::printable(part.unwrap_or("")).into_owned();
        let texts = [
            ("process", program),
            ("thread", thread_name.to_owned()),
            (
                "cgroup",
                of_cgroup(cgroup.map(|cgroup| cgroup.path.as_str())),
            ),
            (
                "container",
                of_cgroup(cgroup.and_then(|cgroup| cgroup.container.as_deref())),
            ),
            (
                "unit",
                of_cgroup(cgroup.and_then(|cgroup| owner::unit(&cgroup.path))),
            ),
        ];
        let texts = texts
            .each_ref()
            .map(|(name, text)| (tables.texts.index(name), tables.texts.index(text)));
        tables.profile.message(2, |sample| {
            sample.packed(1, &locations);
            sample.packed(2, &values);
            for (name, id) in numbers {
                sample.message(3, |label| {
                    label.number(1, name);
                    label.number(3, id);
                });
            }
            for (name, text) in texts.into_iter().filter(|(_, text)| *text != 0) {
                sample.message(3, |label| {
                    label.number(1, name);
                    label.number(2, text);
                });
            }
        });
    }
    let comments: Vec<u64> = comments(profile, allocated, in_use)
        .iter()
        .map(|text| tables.texts.index(text))
        .collect();
    let drop_frames = tables.texts.index(DROP_FRAMES);
    let shown_first = tables.texts.index("inuse_space");
    let Tables {
        texts,
        profile: mut message,
        ..
    } = tables;
    for text in &texts.list {
        message.bytes(6, text.as_bytes());
    }
    message.number(7, drop_frames);
    message.number(9, profile.opening.started_unix_ns);
    message.number(10, profile.duration_ns());
    message.packed(13, &comments);
    message.number(14, shown_first);
    let mut gzip = GzEncoder::new(out, Compression::default());
    gzip.write_all(&message.0)?;
    gzip.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::super::question::When;
    use super::super::super::script::{Script, answer};
    use super::*;

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = bytes.split_first().expect("a varint ends");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }

    /// Number and content of every field that has a length.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = varint(&mut bytes);
            if key & 7 == 2 {
                let (content, rest) = bytes.split_at(value as usize);
                fields.push((key >> 3, content));
                bytes = rest;
            }
        }
        fields
    }

    #[test]
    fn values_add_up_to_what_was_allocated_and_what_is_in_use() {
        let mut script = Script::launched("/bin/app");
        script.stack(1, &["keep", "main"]);
        script.stack(2, &["pass", "main"]);
        script.allocate(1, 1, 1, 1000);
        script.allocate(1, 2, 2, 30);
        script.free_last(1, 3);
        script.allocate(1, 4, 1, 500);
        script.close(9, "interrupted");
        let profile = script.closed();
        let of = |when| answer(&profile, when);
        let (allocated, in_use) = (of(When::Allocated), of(When::Peak));
        assert!(allocated.bytes > in_use.bytes);
        let mut zipped = Vec::new();
        write(&profile, &allocated, &in_use, &mut zipped).expect("a Vec takes all");
        let mut message = Vec::new();
        flate2::read::GzDecoder::new(&zipped[..])
            .read_to_end(&mut message)
            .expect("it is gzip");

        let mut sums = [0; 4];
        let mut texts = Vec::new();
        for (number, content) in fields(&message) {
            match number {
                2 => {
                    let parts = fields(content);
                    let (_, mut values) = parts
                        .iter()
                        .copied()
                        .find(|(number, _)| *number == 2)
                        .expect("a sample has values");
                    for sum in &mut sums {
                        *sum += varint(&mut values);
                    }
                }
                6 => texts.push(String::from_utf8_lossy(content).into_owned()),
                _ => {}
            }
        }
        let wanted = [&allocated, &in_use].map(|answer| [answer.blocks, answer.bytes]);
        assert_eq!(sums[..], wanted.concat()[..]);
        assert_eq!(texts[0], "");
        for name in ["keep", "pass", "inuse_space"] {
            assert!(texts.iter().any(|text| text == name), "{name}: {texts:?}");
        }
    }
}
