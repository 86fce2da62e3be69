//! Nothing that happens to a file makes a reader do worse than stop.

use proptest::prelude::*;

use super::*;
use crate::record::format::{ENTRIES, MAX_CHUNK};
use crate::record::{content, events, reader};

/// Entries and events one by one, to compare beginnings.
fn one_by_one(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let split = |entry| match entry {
        Entry::Events(events) => events.into_iter().map(|e| Entry::Events(vec![e])).collect(),
        entry => vec![entry],
    };
    entries.into_iter().flat_map(split).collect()
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
        if damaged.len() >= bytes.len() {
            assert!(error.is_some(), "round {round}: the damage is seen");
        }
    }
}

proptest! {
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
            supported: 2
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
    content::put_entry(&mut entries, 0, 0xf0, b"whatever");
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
                offset: 2,
                kind: FrameKind::Native
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
    for tag in [0, 12, 0x1f, 0x13, 0x01, 0xe1, 0xf2] {
        assert_eq!(damage_of(&with_event(tag, 0, 0)), Damage::Call(tag));
    }
    assert_eq!(damage_of(&with_event(3, 1, 0)), Damage::Reference);
    assert_eq!(damage_of(&with_event(3, 0, 1)), Damage::Reference);
    assert_eq!(damage_of(&with_event(11, 0, 0)), Damage::LeftOver);
}
