//! What is written is read back, and nothing that happens to a file in between makes a reader do worse than stop.

use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::format::{CHUNK_HEADER, ChunkHeader, ENTRIES, FILE_HEADER, MAX_CHUNK, MAX_EVENTS};
use super::reader::{ReadError, Reader};
use super::writer::{WriteError, Writer};
use super::*;
use crate::event::{Address, Call, Function, Tid};

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

/// Entries and events one by one, to compare beginnings.
fn one_by_one(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let split = |entry| match entry {
        Entry::Events(events) => events.into_iter().map(|e| Entry::Events(vec![e])).collect(),
        entry => vec![entry],
    };
    entries.into_iter().flat_map(split).collect()
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

/// A file header and a chunk with this content and a right checksum.
fn hostile(content: &[u8]) -> Vec<u8> {
    let header = ChunkHeader {
        kind: ENTRIES,
        packed: false,
        stored: content.len() as u32,
        unpacked: content.len() as u32,
    };
    [&written(&[])[..], &header.encode(content), content].concat()
}

fn damage_of(bytes: &[u8]) -> Damage {
    match read(bytes) {
        (_, Some(ReadError::Damaged { damage, .. })) => damage,
        (_, other) => panic!("expected damage, not {other:?}"),
    }
}

/// Addresses and sizes come back in real programs, so most are of a few here.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..64u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn event() -> impl Strategy<Value = Event> {
    let number_32 = || number().prop_map(|number| number as u32);
    let function = || prop::sample::select(Function::ALL.as_slice());
    let address = || number().prop_map(Address);
    let stack = || number_32().prop_map(StackIndex);
    let process = || number_32().prop_map(ProcessId);
    let call = prop_oneof![
        (function(), address(), number(), stack()).prop_map(|(function, address, size, stack)| {
            Call::Allocated {
                function,
                address,
                size,
                stack,
            }
        }),
        (function(), number(), stack()).prop_map(|(function, size, stack)| Call::Failed {
            function,
            size,
            stack
        }),
        (address(), number()).prop_map(|(address, header)| Call::Freed { address, header }),
        (address(), number(), any::<u8>()).prop_map(|(address, header, slot)| Call::ResizeBegan {
            address,
            header,
            slot
        }),
        (function(), address(), number(), stack(), any::<u8>()).prop_map(
            |(function, address, size, stack, slot)| Call::Resized {
                function,
                address,
                size,
                stack,
                slot
            }
        ),
        (address(), number(), any::<u8>()).prop_map(|(address, size, slot)| Call::ResizeFailed {
            address,
            size,
            slot
        }),
        (address(), any::<u8>()).prop_map(|(address, slot)| Call::ResizeFreed { address, slot }),
        process().prop_map(|child| Call::Forked { child }),
        process().prop_map(|next| Call::Executed { next }),
        any::<u32>().prop_map(|status| Call::Exited { status }),
        Just(Call::OomVictim),
    ];
    (number(), process(), number_32(), call).prop_map(|(at, process, thread, call)| Event {
        at: Nanos(at),
        process,
        thread: Tid(thread),
        call,
    })
}

fn rare_entry() -> impl Strategy<Value = Entry> {
    let process = || any::<u32>().prop_map(ProcessId);
    let origin = prop_oneof![
        Just(Origin::Attached),
        Just(Origin::Launched),
        any::<u64>().prop_map(|missed_ns| Origin::Forked { missed_ns }),
        any::<u64>().prop_map(|missed_ns| Origin::Executed { missed_ns }),
    ];
    let reason = prop_oneof![
        any::<u8>().prop_map(|code| EndReason::Exited { code }),
        any::<u8>().prop_map(|signal| EndReason::Signal { signal }),
        Just(EndReason::OomKilled),
        Just(EndReason::Executed),
        Just(EndReason::Detached),
        Just(EndReason::Vanished),
    ];
    prop_oneof![
        (
            any::<String>(),
            vec(any::<String>(), 0..4),
            any::<[u64; 3]>()
        )
            .prop_map(|(text, command_line, numbers)| Entry::Opening(Opening {
                highwater: text.clone(),
                command_line,
                kernel: text.clone(),
                started_ns: numbers[0],
                started_unix_ns: numbers[1],
                page_size: numbers[2],
                link: text,
            })),
        (
            process(),
            option::of(process()),
            any::<String>(),
            option::of(any::<String>()),
            any::<[u64; 3]>(),
            any::<[u32; 2]>(),
            origin
        )
            .prop_map(|(id, parent, command, cgroup, numbers, pids, origin)| {
                Entry::Process(Process {
                    id,
                    pid: pids[0],
                    ns_pid: pids[1],
                    parent,
                    command,
                    cgroup,
                    started_unix_ns: numbers[0],
                    from_ns: numbers[1],
                    origin,
                    baseline_bytes: numbers[2],
                })
            }),
        (number(), process(), reason).prop_map(|(at, process, reason)| Entry::End(ProcessEnd {
            at: Nanos(at),
            process,
            reason
        })),
        (any::<[u64; 3]>(), vec(any::<String>(), 0..3)).prop_map(|(numbers, notes)| {
            Entry::Quality(Quality {
                lost_frees: numbers[0],
                no_walk_buffer: numbers[1],
                unfollowed_children: numbers[2],
                notes,
                ..Quality::default()
            })
        }),
        (any::<u64>(), any::<String>())
            .prop_map(|(ended_ns, reason)| Entry::Closing(Closing { ended_ns, reason })),
    ]
}

fn definition() -> impl Strategy<Value = Entry> {
    let frame = || any::<u32>().prop_map(FrameIndex);
    let name = (
        any::<String>(),
        option::of(any::<String>()),
        option::of(any::<u32>()),
    )
        .prop_map(|(function, file, line)| FunctionName {
            function,
            file,
            line,
        });
    prop_oneof![
        // Paths are bytes, not text.
        (any::<u32>(), any::<Vec<u8>>(), option::of("[0-9a-f]{40}")).prop_map(
            |(index, path, build_id)| Entry::Module(Module {
                index,
                path: PathBuf::from(std::ffi::OsString::from_vec(path)),
                build_id
            })
        ),
        (frame(), option::of(any::<u32>()), any::<u64>()).prop_map(|(index, module, offset)| {
            Entry::Frame(Frame {
                index,
                module: module.map(ModuleIndex),
                offset,
            })
        }),
        (frame(), vec(name, 0..4))
            .prop_map(|(frame, functions)| Entry::Names(FrameNames { frame, functions })),
        (any::<[u32; 2]>(), vec(frame(), 0..20), any::<bool>()).prop_map(
            |(numbers, frames, truncated)| Entry::Stack(Stack {
                index: StackIndex(numbers[0]),
                process: ProcessId(numbers[1]),
                frames,
                truncated
            })
        ),
        (number(), any::<u32>(), any::<[Option<u64>; 7]>()).prop_map(|(at, process, values)| {
            let [rss, anon, file, shmem, swap, cgroup_current, cgroup_limit] = values;
            Entry::Memory(MemorySample {
                at: Nanos(at),
                process: ProcessId(process),
                rss,
                anon,
                file,
                shmem,
                swap,
                cgroup_current,
                cgroup_limit,
            })
        }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        1 => rare_entry(),
        3 => definition(),
        4 => vec(event(), 0..20).prop_map(Entry::Events),
    ]
}

proptest! {
    #[test]
    fn entries_come_back_in_the_order_in_which_they_were_written(
        entries in vec((entry(), prop::bool::weighted(0.1)), 0..40)
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
        prop_assert_eq!(grouped(back), grouped(entries));
    }

    #[test]
    fn a_chunk_of_any_content_is_read_or_refused(content: Vec<u8>) {
        read(&hostile(&content));
    }

    #[test]
    fn a_chunk_whose_parts_hold_anything_is_read_or_refused(
        parts in prop::array::uniform11(vec(prop_oneof![0..12u8, any::<u8>()], 0..30))
    ) {
        let lengths = parts.iter().flat_map(|part| (part.len() as u32).to_le_bytes());
        let content = 11u32.to_le_bytes().into_iter().chain(lengths);
        read(&hostile(&content.chain(parts.concat()).collect::<Vec<_>>()));
    }
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
                    function: Function::Malloc,
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

/// A small recording of several chunks, packed and not, and what is in each.
fn small() -> (Vec<u8>, Vec<Vec<Entry>>) {
    let mut numbers = Numbers(1);
    let stack = |index| {
        Entry::Stack(Stack {
            index: StackIndex(index),
            process: ProcessId(1 << 10),
            frames: (0..10).map(FrameIndex).collect(),
            truncated: index % 2 == 0,
        })
    };
    let chunks = vec![
        vec![Entry::Module(Module {
            index: 0,
            path: "/usr/bin/target".into(),
            build_id: Some("c0ffee".into()),
        })],
        (1..10)
            .flat_map(|index| [stack(index), Entry::Events(load(12, &mut numbers))])
            .collect(),
        vec![Entry::Events(load(100, &mut numbers)), stack(10)],
        vec![Entry::Closing(Closing {
            ended_ns: 1,
            reason: "interrupted".into(),
        })],
    ];
    let mut writer = Writer::new(Vec::new()).unwrap();
    for chunk in &chunks {
        for entry in chunk {
            writer.write(entry).unwrap();
        }
        writer.flush().unwrap();
    }
    (writer.finish().unwrap(), chunks)
}

#[test]
fn a_recording_cut_anywhere_gives_the_chunks_before_the_cut() {
    let (bytes, entries) = small();
    let chunks = chunks(&bytes);
    assert_eq!(chunks.len(), entries.len());
    for cut in 0..bytes.len() {
        let (back, error) = read(&bytes[..cut]);
        let whole = chunks.iter().filter(|chunk| chunk.end <= cut).count();
        assert_eq!(back, entries[..whole].concat(), "cut at {cut}");
        let between = cut == FILE_HEADER || chunks.iter().any(|chunk| chunk.end == cut);
        match error {
            Some(ReadError::Empty) => assert_eq!(cut, 0),
            Some(ReadError::CutShort { offset }) => {
                assert!(cut > 0 && !between, "cut at {cut}");
                assert_eq!(offset, cut as u64);
            }
            None => assert!(between, "cut at {cut}"),
            error => panic!("cut at {cut}: {error:?}"),
        }
    }
}

#[test]
fn damage_anywhere_leaves_everything_before_it() {
    let (bytes, entries) = small();
    let chunks = chunks(&bytes);
    let all = one_by_one(entries.concat());
    let mut numbers = Numbers(2);
    for round in 0..10_000 {
        let mut damaged = bytes.clone();
        let at = numbers.below(bytes.len());
        match numbers.below(4) {
            0 => damaged[at] ^= 1 << numbers.below(8),
            1 => damaged[at] ^= 1 + numbers.below(255) as u8,
            2 => drop(damaged.drain(at..(at + 1 + numbers.below(40)).min(bytes.len()))),
            _ => {
                let inserted = (0..=numbers.below(40)).map(|_| numbers.below(256) as u8);
                damaged.splice(at..at, inserted.collect::<Vec<_>>());
            }
        }
        let (back, error) = read(&damaged);
        let whole = chunks.iter().filter(|chunk| chunk.end <= at).count();
        let back = one_by_one(back);
        assert!(all.starts_with(&back), "round {round}: nothing is made up");
        assert!(
            back.starts_with(&one_by_one(entries[..whole].concat())),
            "round {round}: what came before the damage is there"
        );
        assert!(error.is_some() || all.starts_with(&back), "round {round}");
        if damaged.len() >= bytes.len() {
            assert!(error.is_some(), "round {round}: the damage is seen");
        }
    }
}

#[test]
fn other_files_are_told_apart() {
    let error = |bytes: &[u8]| read(bytes).1.expect("an error");
    assert!(matches!(error(b""), ReadError::Empty));
    let not = error(b"\x7fELF\x02\x01\x01");
    assert_eq!(
        not.to_string(),
        "this is not a highwater recording (it starts with \"\\x7fELF\\x02\\x01\\x01\"); expected the file that \
         `highwater record` wrote"
    );
    assert!(matches!(error(b"{}"), ReadError::NotARecording { .. }));

    let mut newer = written(&[]);
    newer[8] = 7;
    let checksum = crc32fast::hash(&newer[..12]);
    newer[12..16].copy_from_slice(&checksum.to_le_bytes());
    assert!(matches!(
        error(&newer),
        ReadError::OtherVersion {
            found: 7,
            supported: 1
        }
    ));
    assert!(error(&newer).to_string().contains("a newer one"));

    let missing = reader::open("/nonexistent/a.hwm".as_ref()).err().unwrap();
    assert!(missing.to_string().contains("/nonexistent/a.hwm"));
}

#[test]
fn lengths_that_are_too_large_are_refused_before_room_is_made() {
    let start = written(&[]);
    let chunk = |stored, unpacked, packed, payload: &[u8]| {
        let header = ChunkHeader {
            kind: ENTRIES,
            packed,
            stored,
            unpacked,
        };
        [&start[..], &header.encode(payload), payload].concat()
    };
    let too_large = MAX_CHUNK as u32 + 1;
    for (stored, unpacked) in [(too_large, 1), (1, too_large), (u32::MAX, u32::MAX)] {
        let damage = damage_of(&chunk(stored, unpacked, true, b"x"));
        assert!(matches!(damage, Damage::ChunkLength(_)), "{damage:?}");
    }

    // As much as may be, but it is not there.
    let bytes = chunk(MAX_CHUNK as u32, MAX_CHUNK as u32, true, b"x");
    let mut reader = Reader::new(&bytes[..]).unwrap();
    assert!(matches!(
        reader.next(),
        Some(Err(ReadError::CutShort { .. }))
    ));
    assert!(reader.room() < 4096, "{} bytes", reader.room());

    // It is all there, but zstd knows of less, or of more.
    let packed = zstd::bulk::compress(&[0; 1000], 1).unwrap();
    for unpacked in [999, 1001, MAX_CHUNK as u32] {
        let bytes = chunk(packed.len() as u32, unpacked, true, &packed);
        let mut reader = Reader::new(&bytes[..]).unwrap();
        assert!(matches!(
            reader.next(),
            Some(Err(ReadError::Damaged {
                damage: Damage::Compression,
                ..
            }))
        ));
        assert!(reader.room() < 4096, "{} bytes", reader.room());
    }

    // Counts inside a chunk: a stack of 2^32 frames, names of 2^32 functions, a text as long as memory.
    for (kind, body) in [
        (6, &b"\x01\x01\x00\xff\xff\xff\xff\x0f"[..]),
        (5, b"\x01\xff\xff\xff\xff\x0f"),
        (3, b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
    ] {
        let entry = [&[0, kind, body.len() as u8], body].concat();
        let mut content = Vec::new();
        content::assemble(&mut content, &entry, &events::EventPacker::new());
        assert_eq!(
            damage_of(&hostile(&content)),
            Damage::Overrun,
            "kind {kind}"
        );
    }
    let crowded = [
        &11u32.to_le_bytes()[..],
        &0u32.to_le_bytes(),
        &(MAX_EVENTS as u32 + 1).to_le_bytes(),
        &[0; 4 * 9],
        &vec![11; MAX_EVENTS + 1],
    ]
    .concat();
    assert_eq!(
        damage_of(&hostile(&crowded)),
        Damage::EventCount(MAX_EVENTS + 1)
    );
}

#[test]
fn a_later_writer_may_add_what_this_reader_passes_over() {
    // A kind of entry from 0x80 on, a field at the end of a body, a part after the last, a type of chunk from 0x80 on.
    let closing = br#"{"ended_ns":5,"reason":"x","mood":"sunny"}"#;
    let mut entries = Vec::new();
    content::put_entry(&mut entries, 0, 0x80, b"whatever");
    content::put_entry(&mut entries, 0, 4, &[1, 0, 2, 99, 99]);
    content::put_entry(&mut entries, 0, 10, closing);
    let mut lengths = [0u32; 13];
    lengths[0] = 12;
    lengths[1] = entries.len() as u32;
    lengths[12] = 3;
    let directory: Vec<u8> = lengths.iter().flat_map(|l| l.to_le_bytes()).collect();
    let mut bytes = hostile(&[&directory[..], &entries, b"new"].concat());
    let optional = ChunkHeader {
        kind: 0xff,
        packed: true,
        stored: 4,
        unpacked: 1,
    };
    bytes.splice(16..16, [&optional.encode(b"abcd")[..], b"abcd"].concat());
    let (back, error) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(
        back,
        [
            Entry::Frame(Frame {
                index: FrameIndex(1),
                module: None,
                offset: 2
            }),
            Entry::Closing(Closing {
                ended_ns: 5,
                reason: "x".into()
            })
        ]
    );
}

#[test]
fn what_means_nothing_is_damage() {
    let with_entry = |kind, body: &[u8]| {
        let mut entries = Vec::new();
        content::put_entry(&mut entries, 0, kind, body);
        let mut content = Vec::new();
        content::assemble(&mut content, &entries, &events::EventPacker::new());
        damage_of(&hostile(&content))
    };
    assert_eq!(with_entry(11, b""), Damage::Entry(11));
    assert_eq!(with_entry(3, b"\x00\x00\x03\xff\xfe"), Damage::Text);
    assert!(matches!(with_entry(10, b"{"), Damage::Json(_)));
    assert!(matches!(
        with_entry(8, b"\x00\x00\x07\x00"),
        Damage::Field { .. }
    ));

    // One event: parts are entries, tags, times, threads, new threads, repeats, new addresses, headers, sizes, ...
    let with_event = |tag: u8, thread: u8, repeat: u8| {
        let parts: [&[u8]; 11] = [
            &[],
            &[tag],
            &[0],
            &[thread],
            &[1, 1],
            &[repeat],
            &[0],
            &[0],
            &[],
            &[],
            &[],
        ];
        let lengths = parts
            .iter()
            .flat_map(|part| (part.len() as u32).to_le_bytes());
        let content: Vec<u8> = 11u32.to_le_bytes().into_iter().chain(lengths).collect();
        hostile(&[&content[..], &parts.concat()].concat())
    };
    let (back, error) = read(&with_event(3, 0, 0));
    assert!(error.is_none() && back.len() == 1, "{error:?}");
    for tag in [0, 12, 15, 0x13, 0x01, 0xe1, 0xf2] {
        assert_eq!(damage_of(&with_event(tag, 0, 0)), Damage::Call(tag));
    }
    assert_eq!(damage_of(&with_event(3, 1, 0)), Damage::Reference);
    assert_eq!(damage_of(&with_event(3, 0, 1)), Damage::Reference);
    assert_eq!(damage_of(&with_event(11, 0, 0)), Damage::LeftOver);
}

#[test]
fn a_chunk_is_written_when_it_is_full() {
    let events = load(MAX_EVENTS * 2 + 1, &mut Numbers(3));
    let bytes = written(&[Entry::Events(events.clone())]);
    assert_eq!(chunks(&bytes).len(), 3);
    let (back, error) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(grouped(back), [Entry::Events(events)]);
    assert!(bytes.len() < MAX_EVENTS * 2 * 8, "{} bytes", bytes.len());

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
        frames: vec![FrameIndex(u32::MAX); 1 << 20],
        truncated: false,
    });
    let closing = Entry::Closing(Closing {
        ended_ns: 1,
        reason: "done".into(),
    });
    let mut writer = Writer::new(Vec::new()).unwrap();
    let error = writer.write(&frames).unwrap_err();
    assert!(matches!(error, WriteError::TooLarge { .. }), "{error}");
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
    assert_eq!(back, whole);
    assert!(matches!(error, Some(ReadError::CutShort { offset: 1000 })));
}
