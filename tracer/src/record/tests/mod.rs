//! What is written is read back, byte for byte as the documentation says.

use std::io;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;

use super::ahead::Ahead;
use super::events::TICK;
use super::events::blocks::Names;
use super::format::{CHUNK_HEADER, ChunkHeader, FILE_HEADER, MAX_EVENTS};
use super::reader::{ReadError, Reader};
use super::writer::{WriteError, Writer};
use super::*;
use crate::event::{Address, Call, Function, Tid};

mod arbitrary;
mod compacted;
mod damages;
mod hostile;

/// Entries as a reader may give them: neighbouring events as one, none without events.
fn grouped(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let mut grouped: Vec<Entry> = Vec::new();
    for entry in entries {
        match (grouped.last_mut(), entry) {
            (_, Entry::Events(events)) if events.is_empty() => {}
            (Some(Entry::Events(last)), Entry::Events(events)) => last.extend(events),
            (_, entry) => grouped.push(entry),
        }
    }
    grouped
}

/// Entries as a recording has them: blocks have names, and time is told in ticks.
fn renamed(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let mut names = Names::new();
    let rename = |entry| match entry {
        Entry::Events(events) => {
            let renamed = events.iter().map(|event| Event {
                at: Nanos(event.at.0 / TICK * TICK),
                ..names.rename(event)
            });
            Entry::Events(renamed.collect())
        }
        entry => entry,
    };
    entries.into_iter().map(rename).collect()
}

fn written(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for entry in entries {
        writer.write(entry).unwrap();
    }
    writer.finish().unwrap()
}

/// Everything that can be read, and why no more could be.
fn read(bytes: &[u8]) -> (Vec<Entry>, Option<ReadError>) {
    let mut entries = Vec::new();
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (entries, Some(error)),
    };
    for entry in reader.by_ref() {
        match entry {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                assert!(reader.next().is_none(), "nothing comes after an error");
                return (entries, Some(error));
            }
        }
    }
    (entries, None)
}

/// Where the chunks of an undamaged recording lie.
fn chunks(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut chunks = Vec::new();
    let mut at = FILE_HEADER;
    while at < bytes.len() {
        let header = bytes[at..at + CHUNK_HEADER].try_into().unwrap();
        let end = at + CHUNK_HEADER + ChunkHeader::decode(header).unwrap().stored as usize;
        chunks.push(at..end);
        at = end;
    }
    chunks
}

/// A deterministic source of numbers (splitmix64), the same on each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

/// Allocations and frees of one thread.
fn load(count: usize, numbers: &mut Numbers) -> Vec<Event> {
    let mut live = Vec::new();
    let mut at = 1_000_000_000;
    (0..count)
        .map(|_| {
            at += 200 + numbers.below(800) as u64;
            let call = if live.is_empty() || numbers.below(2) == 0 {
                let address = Address(0x5555_0000_0000 + 16 * numbers.below(1 << 20) as u64);
                let size = numbers.below(5000) as u64;
                live.push((address, size));
                Call::Allocated {
                    function: Function::Malloc.into(),
                    address,
                    size,
                    stack: StackIndex(1 + numbers.below(200) as u32),
                }
            } else {
                let (address, size) = live.swap_remove(numbers.below(live.len()));
                let header = ((size + 23) & !15).max(32) | 1;
                Call::Freed { address, header }
            };
            Event {
                at: Nanos(at),
                process: ProcessId(1 << 10),
                thread: Tid(4711),
                call,
            }
        })
        .collect()
}

proptest! {
    #[test]
    fn entries_come_back_in_the_order_in_which_they_were_written(
        entries in vec((arbitrary::entry(), prop::bool::weighted(0.1)), 0..40)
    ) {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for (entry, flush) in &entries {
            writer.write(entry).unwrap();
            if *flush {
                writer.flush().unwrap();
            }
        }
        let (back, error) = read(&writer.finish().unwrap());
        prop_assert!(error.is_none(), "{:?}", error);
        let entries = entries.into_iter().map(|(entry, _)| entry);
        prop_assert_eq!(grouped(back), grouped(renamed(entries)));
    }
}

#[test]
fn what_is_read_ahead_is_what_is_read() {
    let bytes = written(&[Entry::Events(load(100_000, &mut Numbers(5)))]);
    for damaged in [bytes.clone(), bytes[..bytes.len() - 1].to_vec()] {
        let (entries, error) = read(&damaged);
        let ahead = Ahead::of(Reader::new(io::Cursor::new(damaged)).unwrap()).unwrap();
        let (fine, failed): (Vec<_>, Vec<_>) = ahead.partition(Result::is_ok);
        let fine: Vec<Entry> = fine.into_iter().map(Result::unwrap).collect();
        assert_eq!(fine, entries);
        assert_eq!(failed.len(), usize::from(error.is_some()));
    }
}

#[test]
fn a_chunk_is_written_when_it_is_full() {
    let events = load(MAX_EVENTS * 2 + 1, &mut Numbers(3));
    let bytes = written(&[Entry::Events(events.clone())]);
    assert_eq!(chunks(&bytes).len(), 3);
    let (back, error) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(grouped(back), renamed([Entry::Events(events)]));
    assert!(bytes.len() < MAX_EVENTS * 2 * 6, "{} bytes", bytes.len());

    let notes = |len| {
        Entry::Quality(Quality {
            notes: vec!["x".repeat(len)],
            ..Quality::default()
        })
    };
    let bytes = written(&[notes(1 << 20), notes(1 << 20)]);
    assert_eq!(chunks(&bytes).len(), 2);
}

#[test]
fn an_entry_that_is_too_large_is_left_out() {
    let frames = Entry::Stack(Stack {
        index: StackIndex(1),
        process: ProcessId(1),
        frames: (0..1 << 14).map(FrameIndex).collect(),
        truncated: false,
    });
    let closing = Entry::Closing(Closing {
        ended_ns: 1,
        reason: "done".into(),
    });
    let mut writer = Writer::new(Vec::new()).unwrap();
    let error = writer.write(&frames).unwrap_err();
    assert!(matches!(error, WriteError::TooDeep { .. }), "{error}");
    writer.write(&closing).unwrap();
    assert_eq!(read(&writer.finish().unwrap()).0, [closing]);
}

#[test]
fn a_full_disk_leaves_whole_chunks_and_ends_the_recording() {
    /// A file on a disk with room for so many bytes.
    struct Disk {
        file: Vec<u8>,
        room: usize,
    }
    impl io::Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room - self.file.len());
            self.file.extend(&bytes[..fits]);
            match fits {
                0 => Err(io::ErrorKind::StorageFull.into()),
                fits => Ok(fits),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut disk = Disk {
        file: Vec::new(),
        room: 1000,
    };
    let mut numbers = Numbers(4);
    let mut writer = Writer::new(&mut disk).unwrap();
    let mut whole = Vec::new();
    let error = loop {
        let events = Entry::Events(load(50, &mut numbers));
        writer.write(&events).unwrap();
        match writer.flush() {
            Ok(()) => whole.push(events),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WriteError::Io(_)), "{error}");
    assert!(matches!(writer.flush(), Err(WriteError::Failed)));
    assert!(matches!(writer.write(&whole[0]), Err(WriteError::Failed)));
    assert!(matches!(writer.finish(), Err(WriteError::Failed)));
    let (back, error) = read(&disk.file);
    assert!(!whole.is_empty());
    assert_eq!(back, renamed(whole));
    assert!(matches!(error, Some(ReadError::CutShort { offset: 1000 })));
}

/// Old recordings have to stay readable, and other readers have only this page: it changes with the version alone.
#[test]
fn the_example_of_the_documentation_is_what_is_written() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/recording-format.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, example) = page.rsplit_once("```text\n").unwrap();
    let documented: Vec<u8> = example
        .lines()
        .filter_map(|line| line.split_once('|'))
        .flat_map(|(bytes, _)| bytes.split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();

    let event = |at, call| Event {
        at: Nanos(at * TICK),
        process: ProcessId(1024),
        thread: Tid(77),
        call,
    };
    let address = Address(0x40_52a0);
    let entries = [
        Entry::Function(super::Function {
            index: FunctionIndex(1),
            name: "malloc".into(),
            allocator: "glibc".into(),
            does: Does::Allocates,
        }),
        Entry::Frame(Frame {
            index: FrameIndex(0),
            module: None,
            offset: 0x40_1136,
            kind: FrameKind::Native,
        }),
        Entry::Stack(Stack {
            index: StackIndex(1),
            process: ProcessId(1024),
            frames: vec![FrameIndex(0)],
            truncated: false,
        }),
        Entry::Events(vec![
            event(
                1000,
                Call::Allocated {
                    function: Function::Malloc.into(),
                    address,
                    size: 100,
                    stack: StackIndex(1),
                },
            ),
            event(
                1600,
                Call::Freed {
                    address,
                    header: 0x71,
                },
            ),
        ]),
    ];
    assert_eq!(written(&entries), documented);
    assert_eq!(read(&documented).0, renamed(entries));
}
