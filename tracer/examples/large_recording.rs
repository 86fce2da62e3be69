//! Writes a recording that is large in one way: so many live blocks, or so many stacks.
//!
//!     cargo run --release --example large_recording -- blocks 10000000 FILE
//!     cargo run --release --example large_recording -- stacks 1000000 FILE

use std::fs::File;
use std::io::BufWriter;

use anyhow::{Context as _, bail};
use highwater::event::{Address, Call, Event, Function, Nanos, ProcessId, StackIndex, Tid};
use highwater::record::writer::Writer;
use highwater::record::{
    Closing, Entry, Frame, FrameIndex, FrameKind, FrameNames, FunctionName, Module, ModuleIndex,
    Opening, Origin, Process, Quality, Stack,
};

/// Functions that the stacks are made of.
const FUNCTIONS: u32 = 4000;
/// Frames of a stack.
const DEPTH: u32 = 24;
/// Nanoseconds from one allocation to the next.
const PACE: u64 = 1000;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [what, count, file] = &words[..] else {
        bail!("large_recording blocks|stacks N FILE");
    };
    let count: u32 = count.parse().context("N is a number")?;
    let (stacks, blocks) = match what.as_str() {
        "blocks" => (10_000, count),
        "stacks" => (count, count),
        _ => bail!("blocks or stacks"),
    };
    let file = BufWriter::new(File::create(file)?);
    let mut writer = Writer::new(file)?;
    for entry in head() {
        writer.write(&entry)?;
    }
    let mut batch = Vec::new();
    for block in 0..blocks {
        if block < stacks {
            writer.write(&stack(block))?;
        }
        batch.push(allocation(block, block % stacks));
        // Every fourth is passed on, so that there are frees.
        if block % 4 == 3 {
            batch.push(free(block));
            batch.push(allocation(block, block % stacks));
        }
        if batch.len() >= 4096 || block < stacks {
            writer.write(&Entry::Events(std::mem::take(&mut batch)))?;
        }
    }
    writer.write(&Entry::Events(batch))?;
    writer.write(&Entry::Quality(Quality::default()))?;
    writer.write(&Entry::Closing(Closing {
        ended_ns: at(blocks).0,
        reason: "interrupted".into(),
    }))?;
    writer.finish()?;
    Ok(())
}

fn at(block: u32) -> Nanos {
    Nanos(1_000_000_000 + u64::from(block) * PACE)
}

fn event(block: u32, call: Call) -> Event {
    Event {
        at: at(block),
        process: ProcessId(0),
        thread: Tid(4242 + block % 3),
        call,
    }
}

fn allocation(block: u32, stack: u32) -> Event {
    let call = Call::Allocated {
        function: Function::Malloc.into(),
        address: address(block),
        size: u64::from(16 + block % 500),
        stack: StackIndex(stack),
    };
    event(block, call)
}

fn free(block: u32) -> Event {
    let call = Call::Freed {
        address: address(block),
        header: 0,
    };
    event(block, call)
}

fn address(block: u32) -> Address {
    Address(0x5555_0000_0000 + u64::from(block) * 0x210)
}

/// Opening, process, and the functions.
fn head() -> Vec<Entry> {
    let mut head = vec![
        Entry::Opening(Opening {
            highwater: env!("CARGO_PKG_VERSION").into(),
            command_line: vec!["highwater".into()],
            kernel: "6.12.0".into(),
            started_ns: at(0).0,
            started_unix_ns: 1_767_323_045_500_000_000,
            page_size: 4096,
            link: "session".into(),
            redacted: false,
            options: std::collections::BTreeMap::new(),
        }),
        Entry::Process(Process {
            id: ProcessId(0),
            pid: 4242,
            ns_pid: 4242,
            parent: None,
            command: "/usr/bin/large".into(),
            cgroup: None,
            started_unix_ns: 1_767_323_045_500_000_000,
            from_ns: at(0).0,
            origin: Origin::Launched,
            baseline_bytes: 0,
        }),
        Entry::Module(Module {
            index: 0,
            path: "/usr/bin/large".into(),
            build_id: Some("c0ffee".into()),
        }),
    ];
    for index in 0..FUNCTIONS {
        head.push(Entry::Frame(Frame {
            index: FrameIndex(index),
            module: Some(ModuleIndex(0)),
            offset: 0x1000 + u64::from(index) * 64,
            kind: FrameKind::Native,
        }));
        head.push(Entry::Names(FrameNames {
            frame: FrameIndex(index),
            functions: vec![FunctionName {
                function: format!(
                    "app::module_{}::function_{index}(unsigned long, std::string const&)",
                    index % 97
                ),
                file: Some(format!("/build/app/src/module_{}.cc", index % 97)),
                line: Some(10 + index % 800),
            }],
            source: None,
        }));
    }
    head
}

/// Stacks of one number are alike towards their roots, as those of programs are.
fn stack(index: u32) -> Entry {
    let mut frames = Vec::with_capacity(DEPTH as usize);
    let mut rest = index;
    for depth in 0..DEPTH {
        let choice = match depth {
            0..8 => {
                let choice = rest % 10;
                rest /= 10;
                choice
            }
            _ => index % 7,
        };
        frames.push(FrameIndex((depth * 131 + choice * 37) % FUNCTIONS));
    }
    Entry::Stack(Stack {
        index: StackIndex(index),
        process: ProcessId(0),
        frames,
        truncated: false,
    })
}
