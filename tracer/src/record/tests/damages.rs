//! Ten thousand recordings that something happened to.

use std::collections::BTreeMap;

use super::*;

fn opening() -> Opening {
    Opening {
        highwater: "0.1.0".into(),
        command_line: vec!["highwater".into(), "record".into()],
        kernel: "Linux".into(),
        started_ns: 1,
        started_unix_ns: 2,
        page_size: 4096,
        link: "session".into(),
        redacted: false,
        options: BTreeMap::new(),
    }
}

/// What a recorder might have left of a recording: cut, flipped, swapped, repeated.
fn damaged(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        match numbers.below(5) {
            0 => bytes.truncate(at + 1),
            1 => bytes[at] ^= 1 << numbers.below(8),
            2 => bytes[at] = numbers.below(256) as u8,
            3 => {
                let end = (at + numbers.below(4096)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let end = (at + numbers.below(4096)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

#[test]
fn ten_thousand_random_damages_never_panic_and_leave_what_was_before_them() {
    let mut numbers = Numbers(17);
    let mut entries = vec![Entry::Opening(opening())];
    for _ in 0..6 {
        entries.push(Entry::Events(load(40, &mut numbers)));
        entries.push(Entry::Mark(Mark {
            at: Nanos(5),
            process: None,
            kind: MarkKind::Moment,
            name: "warm".into(),
        }));
    }
    let mut writer = Writer::new(Vec::new()).unwrap();
    for entry in &entries {
        writer.write(entry).unwrap();
        writer.flush().unwrap();
    }
    let bytes = writer.finish().unwrap();
    let entries = renamed(entries);
    let chunks = chunks(&bytes);
    assert_eq!(chunks.len(), entries.len());
    for _ in 0..10_000 {
        let damaged = damaged(&bytes, &mut numbers);
        let same = bytes.iter().zip(&damaged).take_while(|(a, b)| a == b);
        let same = same.count();
        let whole = chunks.iter().filter(|chunk| chunk.end <= same).count();
        let Ok(reader) = Reader::new(&damaged[..]) else {
            assert!(same < FILE_HEADER);
            continue;
        };
        let mut back = 0;
        for entry in reader {
            match entry {
                Ok(entry) if back < whole => assert_eq!(entry, entries[back]),
                Ok(_) => {}
                Err(_) => break,
            }
            back += 1;
        }
        assert!(
            back >= whole,
            "{back} entries came back of {whole} that were whole"
        );
        let profile = Reader::new(&damaged[..]).map(crate::report::Profile::replay);
        if whole > 0 {
            assert!(profile.is_ok_and(|profile| profile.is_ok()));
        }
    }
}
