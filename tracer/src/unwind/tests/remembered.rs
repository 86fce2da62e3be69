//! The stack of a moment ago: the kernel side's argument (`tracer-ebpf/src/walk/mod.rs`), told once more in Rust and held
//! against walking every stack in full. Stacks here grow and shrink at random and leave their words behind in dead memory,
//! and functions use `rbp` as a frame base, as any register, or not at all: so that stale words match again and again.

use std::collections::HashMap;

use proptest::prelude::*;

/// What a function does with `rbp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rbp {
    /// Leaves it alone.
    Keeps,
    /// Saves it and uses it for something else.
    Saves,
    /// Saves it and finds its frame by it; the frame's size is known only as it runs.
    Frame,
}

/// Functions by return address into them.
#[derive(Clone, Copy, Debug)]
struct Function {
    rbp: Rbp,
    /// Words from the stack pointer at a call to the CFA, where that is known beforehand.
    words: u64,
}

/// The function that a return address lies in: a few shapes, many addresses.
fn function(ip: u64) -> Function {
    let rbp = [Rbp::Keeps, Rbp::Saves, Rbp::Frame][(ip % 3) as usize];
    Function {
        rbp,
        words: 3 + ip / 3 % 2,
    }
}

const TOP: u64 = 0x10_0000;
/// The outermost function's address: the stack ends there.
const ROOT: u64 = 1;

/// A thread: its memory with all that was left in it, and its frames.
#[derive(Default)]
struct Thread {
    memory: HashMap<u64, u64>,
    /// Outermost first: where the frame began (its CFA), what `rbp` was before it, its address at the call under way.
    frames: Vec<(u64, u64, u64)>,
    sp: u64,
    rbp: u64,
}

impl Thread {
    fn new() -> Self {
        Self {
            sp: TOP,
            rbp: 7,
            frames: vec![(TOP, 7, ROOT)],
            ..Self::default()
        }
    }

    /// Calls a function, which goes as far as its own call at `ip`; a frame base makes room for `extra` words more.
    fn call(&mut self, ip: u64, extra: u64, clobber: u64) {
        let (cfa, caller) = (self.sp, self.frames.last().unwrap().2);
        let before = self.rbp;
        self.memory.insert(cfa - 8, caller);
        let Function { rbp, words } = function(ip);
        if rbp != Rbp::Keeps {
            self.memory.insert(cfa - 16, before);
        }
        self.sp = cfa - 8 * words;
        match rbp {
            Rbp::Keeps => {}
            Rbp::Saves => self.rbp = clobber,
            Rbp::Frame => {
                self.rbp = cfa - 16;
                self.sp -= 8 * extra;
            }
        }
        self.frames.push((cfa, before, ip));
    }

    fn unwind_to(&mut self, depth: usize) {
        while self.frames.len() > depth.max(1) {
            let (cfa, before, _) = self.frames.pop().unwrap();
            self.sp = cfa;
            self.rbp = before;
        }
    }

    fn truth(&self) -> Vec<u64> {
        self.frames.iter().rev().map(|frame| frame.2).collect()
    }

    fn word(&self, address: u64) -> u64 {
        self.memory.get(&address).copied().unwrap_or(0)
    }
}

/// As the kernel side's `Frame`.
#[derive(Clone, Copy, Debug)]
struct Frame {
    ip: u64,
    cfa: u64,
    base_slot: u64,
    base: u64,
    uses: bool,
    saves: bool,
    needs: bool,
}

/// A thread's last walk, outermost frame first.
#[derive(Default)]
struct Remembered {
    frames: Vec<Frame>,
    start: (u64, u64, u64),
    start_needs: bool,
    verified: usize,
}

impl Remembered {
    fn walk(&mut self, thread: &Thread) -> Vec<u64> {
        let start = (thread.frames.last().unwrap().2, thread.sp, thread.rbp);
        let alike = !self.frames.is_empty()
            && (self.start.0, self.start.1) == (start.0, start.1)
            && (!self.start_needs || self.start.2 == start.2);
        if alike
            && self
                .first_change(thread, self.frames.len(), false)
                .is_none()
        {
            self.verified += self.frames.len();
        } else {
            self.walk_anew(thread, start);
        }
        self.frames.iter().rev().map(|frame| frame.ip).collect()
    }

    /// Looks at the outer `count` frames from the innermost on; gives how many lie outside of the first change.
    fn first_change(&self, thread: &Thread, count: usize, first_is_known: bool) -> Option<usize> {
        (0..count).rev().find(|&at| {
            let frame = self.frames[at];
            let known = first_is_known && at + 1 == count;
            let base_holds =
                known || frame.base_slot == 0 || thread.word(frame.base_slot) == frame.base;
            let returns_as_before = at == 0 || thread.word(frame.cfa - 8) == self.frames[at - 1].ip;
            !(base_holds && returns_as_before)
        })
    }

    fn walk_anew(&mut self, thread: &Thread, start: (u64, u64, u64)) {
        let (mut ip, mut sp, rbp) = start;
        let mut slot = 0;
        let mut fresh = Vec::new();
        let mut live = self.frames.len();
        let mut joined = 0;
        loop {
            if ip == ROOT {
                fresh.push(Frame {
                    ip,
                    cfa: 0,
                    base_slot: 0,
                    base: 0,
                    uses: false,
                    saves: false,
                    needs: false,
                });
                break;
            }
            let shape = function(ip);
            let uses = shape.rbp == Rbp::Frame;
            let base = if slot == 0 { rbp } else { thread.word(slot) };
            let cfa = if uses {
                base + 16
            } else {
                sp + 8 * shape.words
            };
            fresh.push(Frame {
                ip,
                cfa,
                base_slot: if uses { slot } else { 0 },
                base: if uses { base } else { 0 },
                uses,
                saves: shape.rbp != Rbp::Keeps,
                needs: false,
            });
            while live > 0 && self.frames[live - 1].cfa < cfa && self.frames[live - 1].cfa != 0 {
                live -= 1;
            }
            if live > 0 {
                let candidate = self.frames[live - 1];
                if candidate.cfa == cfa && candidate.ip == ip && !candidate.needs {
                    match self.first_change(thread, live, true) {
                        None => {
                            joined = live - 1;
                            break;
                        }
                        Some(change) => live = change,
                    }
                }
            }
            if shape.rbp != Rbp::Keeps {
                slot = cfa - 16;
            }
            ip = thread.word(cfa - 8);
            sp = cfa;
        }
        self.verified += joined;
        self.frames.truncate(joined);
        for mut frame in fresh.into_iter().rev() {
            if let Some(caller) = self.frames.last() {
                frame.needs |= (caller.needs || caller.uses) && !frame.saves;
            }
            self.start_needs = frame.needs || frame.uses;
            self.frames.push(frame);
        }
        self.start = start;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_stack_of_a_moment_ago_is_taken_for_the_same_only_where_it_is(
        steps in proptest::collection::vec((0usize..8, proptest::collection::vec((2u64..8, 0u64..9, 0u64..4), 0..5)), 1..60),
    ) {
        let mut thread = Thread::new();
        let mut remembered = Remembered::default();
        for (leave, calls) in steps {
            let depth = thread.frames.len().saturating_sub(leave);
            thread.unwind_to(depth);
            for (ip, extra, clobber) in calls {
                // What a register happens to hold may well be an address of this very stack.
                let clobber = if clobber == 0 { thread.sp - 16 } else { TOP - 8 * clobber };
                thread.call(ip, extra, clobber);
            }
            prop_assert_eq!(remembered.walk(&thread), thread.truth());
        }
    }
}

#[test]
fn most_of_a_stack_that_hardly_changes_is_taken_over() {
    let mut thread = Thread::new();
    for ip in 3..40 {
        thread.call(ip, 1, 0);
    }
    let mut remembered = Remembered::default();
    for leaf in 2..102 {
        let depth = thread.frames.len();
        thread.call(leaf, 0, 0);
        assert_eq!(remembered.walk(&thread), thread.truth());
        thread.unwind_to(depth);
    }
    assert!(remembered.verified > 3000, "{}", remembered.verified);
}
