//! Measures what forks cost: a process with BLOCKS live blocks forks CHILDREN times, and each child lives on. Prints how long each fork
//! took in the live set and in the writer of a recording (which keeps a number for each live block), and how much memory
//! both have after it.
//!
//!     fork_live_set [BLOCKS] [CHILDREN]

use std::{env, fs, hint::black_box, io, time::Instant};

use anyhow::Context as _;
use highwater::{
    event::{Address, Call, Event, Function, Nanos, ProcessId, StackIndex, Tid},
    live::LiveSet,
    record::{Entry, writer::Writer},
};

/// Resident memory of this process, KiB.
fn resident_kib() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.context("/proc/self/status has no VmRSS")?
        .parse()
        .context("VmRSS is no number")
}

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let mut number = |default: u64| match arguments.next() {
        Some(text) => text.parse().with_context(|| format!("{text} is no number")),
        None => Ok(default),
    };
    let (blocks, children) = (number(1_500_000)?, number(4)?);

    let parent = ProcessId(1 << 10);
    let event = |at: u64, call: Call| Event {
        at: Nanos(at * 1000),
        process: parent,
        thread: Tid(1),
        call,
    };
    let before = resident_kib()?;
    let mut live = LiveSet::new();
    let began = Instant::now();
    for number in 0..blocks {
        live.apply(&event(number, allocation(number)));
    }
    let took = began.elapsed();
    let of_live_set = resident_kib()?;
    let mut writer = Writer::new(io::sink())?;
    let numbers: Vec<u64> = (0..blocks).collect();
    for chunk in numbers.chunks(4096) {
        let events = chunk.iter().map(|&at| event(at, allocation(at)));
        writer.write(&Entry::Events(events.collect()))?;
    }
    let held = resident_kib()?;
    println!(
        "{blocks} blocks: {:.0} ns each in the live set; {} KiB in the live set, {} KiB in the writer",
        took.as_nanos() as f64 / blocks.max(1) as f64,
        of_live_set - before,
        held - of_live_set,
    );
    for number in 1..=children {
        let child = ProcessId(u32::try_from(number + 1)? << 10);
        let fork = event(blocks + number, Call::Forked { child });
        let entry = Entry::Events(vec![fork]);
        let before = resident_kib()?;
        let began = Instant::now();
        live.apply(&fork);
        let in_live_set = began.elapsed();
        let of_live_set = resident_kib()?;
        let began = Instant::now();
        writer.write(&entry)?;
        writer.flush()?;
        println!(
            "fork {number}: live set {in_live_set:?}, {} KiB more; writer {:?}, {} KiB more",
            of_live_set - before,
            began.elapsed(),
            resident_kib()? - of_live_set,
        );
    }
    black_box((&live, &writer));
    Ok(())
}

fn allocation(number: u64) -> Call {
    Call::Allocated {
        function: Function::Malloc.into(),
        address: Address(0x5555_0000_0000 + number * 32),
        size: 16,
        stack: StackIndex(1),
    }
}
