//! A recording without its events.

use std::io::Cursor;

use super::*;
use crate::record::compact::compact;

proptest! {
    #[test]
    fn a_compacted_recording_has_everything_but_the_events_and_can_be_written_on(
        entries in vec((arbitrary::entry(), prop::bool::weighted(0.2)), 0..40),
        more in vec(arbitrary::entry(), 0..10),
    ) {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for (entry, flush) in &entries {
            writer.write(entry).unwrap();
            if *flush {
                writer.flush().unwrap();
            }
        }
        writer.flush().unwrap();
        let mut copy = Vec::new();
        let written = compact(Cursor::new(writer.sink()), &mut copy).unwrap();
        prop_assert_eq!(written, copy.len() as u64);
        writer.move_to(copy, written).unwrap();
        for entry in &more {
            writer.write(entry).unwrap();
        }
        let (back, error) = read(&writer.finish().unwrap());
        prop_assert!(error.is_none(), "{:?}", error);
        // Names of blocks go on from the events that are gone.
        let entries: Vec<_> = entries.into_iter().map(|(entry, _)| entry).collect();
        let before = entries.len();
        let all = renamed(entries.into_iter().chain(more));
        let kept = all[..before]
            .iter()
            .filter(|entry| !matches!(entry, Entry::Events(_) | Entry::Fold(_)));
        let kept = kept.chain(&all[before..]).cloned();
        prop_assert_eq!(grouped(back), grouped(kept));
    }
}

#[test]
fn a_damaged_recording_is_not_compacted() {
    let bytes = written(&[Entry::Events(load(10, &mut Numbers(1))), closing()]);
    let chunks = chunks(&bytes);
    let [first, last] = &chunks[..] else {
        panic!("{chunks:?}")
    };
    for cut in [first.end - 1, first.start + 3, 3] {
        let cut = Cursor::new(&bytes[..cut]);
        assert!(compact(cut, Vec::new()).is_err());
    }
    let flipped = |at| {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        compact(Cursor::new(flipped), Vec::new())
    };
    assert!(flipped(first.end - 1).is_err());
    // What is wrong with events is not looked at.
    assert!(flipped(last.end - 1).is_ok());
}

fn closing() -> Entry {
    Entry::Closing(Closing {
        ended_ns: 1,
        reason: "done".into(),
    })
}
