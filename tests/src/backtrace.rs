//! Stacks as a victim's own unwinder gives them, held against those of a report.
//!
//! Each block of such a victim was allocated in a function whose name begins with `take`; the truth about it begins with
//! that function's caller (the call of the allocator and the call of the unwinder return to different places in the
//! function itself). Blocks are never freed, and their sizes differ: stacks are equal if the same blocks and bytes are
//! live on each.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::recorder::Recorder;
use crate::report::{Frame, Holding, Place, Report};
use crate::scratch;
use crate::victim::{Truth, Victim};

/// Where a stack goes, leaf first.
type Stack = Vec<Place>;

/// Blocks and bytes that a stack holds.
type Held = (u64, u64);

/// Most frames of a stack in a recording, the taking function's included.
const MOST_FRAMES: usize = 1024;
/// How many stacks that differ a message shows.
const SHOWN: usize = 3;
/// How many equal frames before the first difference, and how many frames after it, a message shows.
const CONTEXT: usize = 25;

/// What a victim told of its stacks.
#[derive(Debug)]
pub struct ToldStacks {
    stacks: Vec<Stack>,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    stack: usize,
    size: u64,
    /// Code on its stack may have been mapped just before.
    fresh: bool,
}

/// An executable mapping.
#[derive(Debug)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    path: String,
}

/// Attaches to a stack victim, tells it a command, and detaches: the report, the stacks that it told, and what else it said.
#[track_caller]
pub fn record_stacks(name: &str, arguments: &[&str], command: &str) -> (Report, ToldStacks, Truth) {
    let directory = scratch();
    let path = directory.path().join("truth");
    let mut all = vec![path.to_str().expect("the path of a scratch file is text")];
    all.extend(arguments);
    let mut victim = Victim::start_with(name, &all);
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    let truth = victim.tell(command);
    let report = recorder.interrupt();
    victim.quit();
    assert_eq!(
        report.json()["quality"]["ended_by"],
        "interrupted",
        "the victim was let go: {}",
        report.json()["quality"]["unseen"]
    );
    (report, ToldStacks::read(&path), truth)
}

impl ToldStacks {
    /// Reads what a victim wrote.
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let text =
            fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut told = Self {
            stacks: Vec::new(),
            blocks: Vec::new(),
        };
        let mut mappings: Vec<Vec<Mapping>> = Vec::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("MAPPINGS") => mappings.push(Vec::new()),
                Some("STACK") => {
                    let mappings = &mappings[index(words.next(), line)];
                    let addresses = words.map(|word| hexadecimal(word, line));
                    told.stacks
                        .push(addresses.map(|address| place(mappings, address)).collect());
                }
                Some("BLOCK") => told.blocks.push(Block {
                    stack: index(words.next(), line),
                    size: index(words.next(), line) as u64,
                    fresh: words.next() == Some("1"),
                }),
                Some(_) => mappings
                    .last_mut()
                    .expect("mappings come after their heading")
                    .extend(Mapping::parse(line)),
                None => {}
            }
        }
        assert!(!told.blocks.is_empty(), "the victim told of no block");
        told
    }

    /// How many different stacks there are.
    pub fn count(&self) -> usize {
        self.held(|_| true).len()
    }

    /// Frames of the deepest stack, without the function that allocates.
    pub fn deepest(&self) -> usize {
        self.stacks.iter().map(Vec::len).max().unwrap_or_default()
    }

    /// What each stack holds, of the blocks that are wanted.
    fn held(&self, wanted: impl Fn(&Block) -> bool) -> BTreeMap<Stack, Held> {
        let mut held = BTreeMap::new();
        for block in self.blocks.iter().filter(|block| wanted(block)) {
            // Only the leaf end of a stack that is too deep is in a recording.
            let whole = &self.stacks[block.stack];
            let stack = whole[..whole.len().min(MOST_FRAMES - 1)].to_vec();
            add(held.entry(stack).or_default(), (1, block.size));
        }
        held
    }

    /// Panics unless a report has every block on the very stack that was told, and no other.
    #[track_caller]
    pub fn assert_shown_by(&self, report: &Report) {
        let end = report.end();
        let told = self.held(|_| true);
        let (shown, _) = shown(&end, |_| true);
        if told != shown {
            panic!("{}", difference(&told, &shown, &end));
        }
    }

    /// Panics unless a report has every block on the very stack that was told, but that blocks which met fresh code may be
    /// on a beginning of it, if the report says that the stack is not whole.
    #[track_caller]
    pub fn assert_shown_but_for_fresh_code(&self, report: &Report) {
        let end = report.end();
        let fresh = self.held(|block| block.fresh);
        let (mut whole, _) = shown(&end, |_| true);
        let (cut, _) = shown(&end, |truncated| truncated);
        let told = self.held(|_| true);
        // What is cut is booked to the stack that it begins, as long as that stack misses something.
        for (beginning, held) in cut {
            let mut left = held;
            for stack in fresh.keys().filter(|stack| stack.starts_with(&beginning)) {
                let has = whole.get(stack).copied().unwrap_or_default();
                let misses = told[stack].0.saturating_sub(has.0).min(left.0);
                if misses > 0 && *stack != beginning {
                    let bytes = told[stack].1.saturating_sub(has.1).min(left.1);
                    add(whole.entry(stack.clone()).or_default(), (misses, bytes));
                    left = (left.0 - misses, left.1 - bytes);
                }
            }
            if left == (0, 0) {
                whole.remove(&beginning);
            }
        }
        if told != whole {
            panic!("{}", difference(&told, &whole, &end));
        }
    }
}

/// What each stack holds at a moment, and the names of its places.
fn shown(
    holding: &Holding,
    wanted: impl Fn(bool) -> bool,
) -> (BTreeMap<Stack, Held>, BTreeMap<Place, String>) {
    let mut held = BTreeMap::new();
    let mut names = BTreeMap::new();
    for holder in &holding.holders {
        let taking = holder
            .frames
            .iter()
            .position(|frame| frame.function.starts_with("take"));
        // Others allocate too: the dynamic linker, the threads' library.
        let Some(taking) = taking else { continue };
        for Frame { place, function } in &holder.frames {
            names.insert(place.clone(), function.clone());
        }
        if wanted(holder.truncated) {
            let callers = holder.frames[taking + 1..].iter();
            let stack: Stack = callers.map(|frame| frame.place.clone()).collect();
            add(
                held.entry(stack).or_default(),
                (holder.blocks, holder.bytes),
            );
        }
    }
    (held, names)
}

fn add(held: &mut Held, more: Held) {
    held.0 += more.0;
    held.1 += more.1;
}

/// Shows the first stacks that differ, told and shown side by side.
fn difference(
    told: &BTreeMap<Stack, Held>,
    shown_stacks: &BTreeMap<Stack, Held>,
    end: &Holding,
) -> String {
    let (_, names) = shown(end, |_| true);
    let strays: Vec<(&Stack, &Held)> = shown_stacks
        .iter()
        .filter(|(stack, held)| told.get(*stack) != Some(held))
        .collect();
    let missing: Vec<(&Stack, &Held)> = told
        .iter()
        .filter(|(stack, held)| shown_stacks.get(*stack) != Some(held))
        .collect();
    let mut message = format!(
        "{} of {} stacks are not shown as they were told; {} are shown that are not true",
        missing.len(),
        told.len(),
        strays.len()
    );
    for (stack, held) in missing.into_iter().take(SHOWN) {
        // Most likely the one with the same blocks, else the one that goes the same way for longest.
        let counterpart = strays.iter().max_by_key(|(stray, stray_held)| {
            (*stray_held == held, *stray == stack, common(stack, stray))
        });
        let none = Stack::new();
        let (stray, stray_held) = counterpart
            .map(|(stray, held)| (*stray, **held))
            .unwrap_or((&none, (0, 0)));
        write!(
            message,
            "\n\ntold:  {} frames, {} blocks, {} bytes\nshown: {} frames, {} blocks, {} bytes\n",
            stack.len(),
            held.0,
            held.1,
            stray.len(),
            stray_held.0,
            stray_held.1
        )
        .expect("text takes it");
        side_by_side(&mut message, stack, stray, &names);
    }
    for (stack, held) in strays.into_iter().take(SHOWN) {
        write!(message, "\n\nnot told: {held:?}\n").expect("text takes it");
        side_by_side(&mut message, &Stack::new(), stack, &names);
    }
    message
}

/// How many frames two stacks have in common from the leaf on.
fn common(one: &[Place], other: &[Place]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

fn side_by_side(
    message: &mut String,
    told: &[Place],
    shown: &[Place],
    names: &BTreeMap<Place, String>,
) {
    let equal = common(told, shown);
    let length = told.len().max(shown.len());
    let (from, to) = (equal.saturating_sub(CONTEXT), length.min(equal + CONTEXT));
    if from > 0 {
        let _ = writeln!(message, "      {from} equal frames");
    }
    for at in from..to {
        let text = |stack: &[Place]| {
            let Some(place) = stack.get(at) else {
                return "-".to_owned();
            };
            let module = place.module.as_deref().unwrap_or("?");
            let module = module.rsplit('/').next().unwrap_or(module);
            let name = names.get(place).map_or("", String::as_str);
            format!("{module}+{:#x} {name}", place.offset)
        };
        let mark = if at == equal { "=>" } else { "  " };
        let _ = writeln!(message, "{mark} {at:4} {:60} {}", text(told), text(shown));
    }
    if to < length {
        let _ = writeln!(message, "      {} more frames", length - to);
    }
}

impl Mapping {
    /// A line of `/proc/PID/maps`, if code is mapped there.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let executable = fields.next()?.contains('x');
        let offset = fields.next()?;
        let path = fields.nth(2).unwrap_or_default();
        executable.then(|| Self {
            start: hexadecimal(start, line),
            end: hexadecimal(end, line),
            offset: hexadecimal(offset, line),
            path: path.to_owned(),
        })
    }
}

/// Where a return address lies. What counts is the call before it, as in reports.
fn place(mappings: &[Mapping], address: u64) -> Place {
    let holds = |mapping: &&Mapping| (mapping.start..mapping.end).contains(&(address - 1));
    match mappings.iter().find(holds) {
        Some(mapping) if !mapping.path.is_empty() => Place {
            module: Some(mapping.path.clone()),
            offset: mapping.offset + (address - mapping.start),
        },
        _ => Place {
            module: None,
            offset: address,
        },
    }
}

#[track_caller]
fn hexadecimal(word: &str, line: &str) -> u64 {
    u64::from_str_radix(word, 16).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[track_caller]
fn index(word: Option<&str>, line: &str) -> usize {
    word.and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no number: {line}"))
}
