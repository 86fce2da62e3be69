//! Nothing that happens to a file makes a reader do worse than stop.

use proptest::prelude::*;

use super::*;
use crate::record::format::{ENTRIES, EVENTS, MAX_CHUNK, OLDER, THIRD_EVENTS};
use crate::record::{content, older, reader, varint};

mod unknown;

/// Entries and events one by one, to compare beginnings.
fn one_by_one(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let split = |entry| match entry {
        Entry::Events(events) => events.into_iter().map(|e| Entry::Events(vec![e])).collect(),
        entry => vec![entry],
    };
    entries.into_iter().flat_map(split).collect()
}

/// Whether the ones are among the others, in the same order.
fn are_among(ones: &[Entry], others: &[Entry]) -> bool {
    let mut others = others.iter();
    ones.iter().all(|one| others.any(|other| other == one))
}

/// A file header and a chunk with this content and a right checksum.
fn hostile(kind: u8, content: &[u8]) -> Vec<u8> {
    let header = ChunkHeader {
        kind,
        packed: false,
        stored: content.len() as u32,
        unpacked: content.len() as u32,
        checksum: 0,
    };
    [&written(&[])[..], &header.encode(content), content].concat()
}

fn damage_of(bytes: &[u8]) -> Damage {
    match read(bytes) {
        (_, Some(ReadError::Damaged { damage, .. })) => damage,
        (_, other) => panic!("expected damage, not {other:?}"),
    }
}

/// Where the chunks lie that were written together: entries and the events among them.
fn flushes(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut flushes: Vec<Range<usize>> = Vec::new();
    let mut open = false;
    for chunk in chunks(bytes) {
        let kind = bytes[chunk.start];
        match flushes.last_mut() {
            Some(flush) if open && kind == EVENTS => flush.end = chunk.end,
            _ => flushes.push(chunk),
        }
        open = kind == ENTRIES;
    }
    flushes
}

/// A small recording of several flushes, packed and not, and what is in each.
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
    let mut entries = renamed(chunks.concat()).into_iter();
    let chunks = chunks
        .iter()
        .map(|chunk| entries.by_ref().take(chunk.len()).collect())
        .collect();
    (writer.finish().unwrap(), chunks)
}

#[test]
fn a_recording_cut_anywhere_gives_what_was_written_before_the_cut() {
    let (bytes, entries) = small();
    let (chunks, flushes) = (chunks(&bytes), flushes(&bytes));
    assert_eq!(flushes.len(), entries.len());
    for cut in 0..bytes.len() {
        let (back, error) = read(&bytes[..cut]);
        let whole = flushes.iter().filter(|flush| flush.end <= cut).count();
        // Of what was written together the entries may be there without the events.
        let before = entries[..whole].concat();
        assert!(back.starts_with(&before), "cut at {cut}");
        let after = &back[before.len()..];
        assert!(are_among(after, &entries[whole]), "cut at {cut}");
        assert!(!after.iter().any(|entry| matches!(entry, Entry::Events(_))));
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
    let flushes = flushes(&bytes);
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
        let whole = flushes.iter().filter(|flush| flush.end <= at).count();
        let back = one_by_one(back);
        assert!(are_among(&back, &all), "round {round}: nothing is made up");
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
    fn a_chunk_of_any_content_is_read_or_refused(
        kind in prop::sample::select(vec![OLDER, ENTRIES, THIRD_EVENTS, EVENTS]), content: Vec<u8>
    ) {
        read(&hostile(kind, &content));
    }

    #[test]
    fn events_whose_columns_hold_anything_are_read_or_refused(
        count in 0..32u64,
        first: u64,
        columns in prop::array::uniform11(vec(prop_oneof![0..16u8, any::<u8>()], 0..30))
    ) {
        let columns = columns.each_ref().map(Vec::as_slice);
        read(&hostile(EVENTS, &events(count, first, &columns)));
    }

    #[test]
    fn events_of_version_3_whose_columns_hold_anything_are_read_or_refused(
        first: [u8; 8],
        columns in prop::array::uniform10(vec(prop_oneof![0..16u8, any::<u8>()], 0..30))
    ) {
        let columns = columns.each_ref().map(Vec::as_slice);
        read(&hostile(THIRD_EVENTS, &older::third_laid_out(first, &columns)));
    }

    #[test]
    fn an_entry_of_any_kind_and_body_is_read_or_refused(
        entries in vec((any::<u8>(), vec(prop_oneof![0..16u8, any::<u8>()], 0..30)), 0..5)
    ) {
        let mut content = Vec::new();
        for (kind, body) in entries {
            // Most kinds that there are, and some that there are not.
            let kind = if kind < 200 { kind % 20 } else { kind };
            content::put_entry(&mut content, 0, kind, &body);
        }
        read(&hostile(ENTRIES, &content));
    }

    #[test]
    fn whatever_fields_an_unknown_kind_has_it_is_passed_over_or_refused(
        kind in 60..=255u8,
        fields in vec(prop_oneof![0..12u8, any::<u8>()], 0..12),
        columns in prop::array::uniform6(vec(0..16u8, 0..30))
    ) {
        let mut new_tags = vec![];
        varint::put(&mut new_tags, kind.into());
        new_tags.push(0);
        varint::put_bytes(&mut new_tags, &fields);
        let tags = [0; 20];
        let (times, threads) = (tags, tags);
        let [blocks, addresses, headers, sizes, stacks, rest] = columns.each_ref().map(Vec::as_slice);
        let columns = [&tags[..], &times, &threads, &[1, 1], blocks, addresses, headers, sizes, stacks, rest, &new_tags];
        read(&hostile(EVENTS, &events(20, 1, &columns)));
    }

    #[test]
    fn older_chunks_whose_parts_hold_anything_are_read_or_refused(
        parts in prop::array::uniform11(vec(prop_oneof![0..12u8, any::<u8>()], 0..30))
    ) {
        let parts = parts.each_ref().map(Vec::as_slice);
        read(&hostile(OLDER, &older::laid_out(&parts)));
    }
}

/// The content of a chunk of events.
fn events(count: u64, first_block: u64, columns: &[&[u8]]) -> Vec<u8> {
    let mut content = Vec::new();
    content::lay_out(&mut content, count, first_block, columns);
    content
}

/// The content of a chunk of entries that has this one.
fn entry(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut entries = Vec::new();
    content::put_entry(&mut entries, 0, kind, body);
    entries
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
            supported: 4
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
            checksum: 0,
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
        assert_eq!(
            damage_of(&hostile(ENTRIES, &entry(kind, body))),
            Damage::Overrun,
            "kind {kind}"
        );
    }
    let crowded = MAX_EVENTS + 1;
    let tags = vec![11; crowded];
    let mut columns: [&[u8]; 11] = [&[]; 11];
    columns[0] = &tags;
    let many = damage_of(&hostile(EVENTS, &events(crowded as u64, 0, &columns)));
    assert_eq!(many, Damage::EventCount(crowded));
    // More than there are tags, which have a byte at least.
    for count in [crowded as u64 + 1, u64::MAX] {
        let beyond = damage_of(&hostile(EVENTS, &events(count, 0, &columns)));
        assert_eq!(beyond, Damage::Overrun);
    }
    let many = damage_of(&hostile(
        THIRD_EVENTS,
        &older::third_laid_out([0; 8], &columns[..10]),
    ));
    assert_eq!(many, Damage::EventCount(crowded));
    let mut parts: [&[u8]; 11] = [&[]; 11];
    parts[1] = &tags;
    let many = damage_of(&hostile(OLDER, &older::laid_out(&parts)));
    assert_eq!(many, Damage::EventCount(crowded));
}

#[test]
fn a_few_bytes_cannot_name_endless_frames() {
    // Each stack goes one frame deeper than the one before.
    let mut bytes = Vec::new();
    for index in 0..10_000 {
        let mut body = Vec::new();
        varint::put(&mut body, index);
        body.extend([1, 0, if index == 0 { 0 } else { 2 }, 1, 7]);
        content::put_entry(&mut bytes, 0, 11, &body);
    }
    let (back, error) = read(&hostile(ENTRIES, &bytes));
    assert!(matches!(
        error,
        Some(ReadError::Damaged {
            damage: Damage::Overrun,
            ..
        })
    ));
    assert_eq!(back.len(), 1 << 13);
    let beyond = entry(11, &[1, 1, 0, 2, 1, 7]);
    assert_eq!(damage_of(&hostile(ENTRIES, &beyond)), Damage::Reference);
}
