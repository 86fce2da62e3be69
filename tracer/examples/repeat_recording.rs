//! Reads a recording of one process into memory and writes its events again and again, as one long recording: to a file, or to
//! nowhere. Prints how many there were, the processor time that writing took, and the bytes that came out, as JSON.
//!
//!     repeat_recording FILE EVENTS [OUTPUT]

use std::{
    env,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, ensure};
use highwater::{
    event::{Call, Event, Nanos},
    record::{Entry, reader, writer::Writer},
};
use rustix::time::{ClockId, clock_gettime};

/// Counts what goes through.
struct Counted<W> {
    sink: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

fn processor_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Turns of the process's life are written once, as entries of their own.
fn is_of_a_call(event: &Event) -> bool {
    !matches!(
        event.call,
        Call::Forked { .. } | Call::Executed { .. } | Call::Exited { .. } | Call::OomVictim
    )
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, events, output @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: repeat_recording FILE EVENTS [OUTPUT]");
    };
    let wanted: u64 = events.parse().context("EVENTS is no number")?;

    // What is defined, what happens, and what is said at the end.
    let (mut first, mut stream, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for entry in reader::open(Path::new(file))? {
        match entry? {
            Entry::Events(mut events) => {
                events.retain(is_of_a_call);
                stream.push(events);
            }
            entry @ (Entry::End(_) | Entry::Quality(_) | Entry::Closing(_)) => last.push(entry),
            entry => first.push(entry),
        }
    }
    let in_one: u64 = stream.iter().map(|events| events.len() as u64).sum();
    ensure!(in_one > 0, "{file} has no events");
    let at = |event: Option<&Event>| event.map_or(0, |event| event.at.0);
    let began = at(stream.iter().flatten().next());
    let span = at(stream.iter().flatten().last()) - began + 1;

    let sink: Box<dyn Write> = match output {
        [] => Box::new(io::sink()),
        [path, ..] => Box::new(BufWriter::new(File::create(path)?)),
    };
    let mut writer = Writer::new(Counted { sink, bytes: 0 })?;
    for entry in &first {
        writer.write(entry)?;
    }
    let (mut written, mut rounds, mut ns) = (0, 0u64, 0);
    while written < wanted {
        for events in &stream {
            let entry = Entry::Events(events.clone());
            let before = processor_ns();
            writer.write(&entry)?;
            ns += processor_ns() - before;
            written += events.len() as u64;
        }
        for event in stream.iter_mut().flatten() {
            event.at = Nanos(event.at.0 + span);
        }
        rounds += 1;
    }
    let shift = (rounds - 1) * span;
    for mut entry in last {
        match &mut entry {
            Entry::End(end) => end.at = Nanos(end.at.0 + shift),
            Entry::Closing(closing) => closing.ended_ns += shift,
            _ => {}
        }
        writer.write(&entry)?;
    }
    let before = processor_ns();
    let mut counted = writer.finish()?;
    counted.flush()?;
    ns += processor_ns() - before;
    println!(
        "{{\"events\": {written}, \"in_one_round\": {in_one}, \"processor_ns\": {ns}, \"bytes\": {}}}",
        counted.bytes
    );
    Ok(())
}
