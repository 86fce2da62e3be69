//! Whatever a perf map says, it takes no more memory than it may, and a name is that of an entry.
#![no_main]

use highwater::symbol::perf_map::PerfMap;
use libfuzzer_sys::fuzz_target;

const ROOM: usize = 1 << 16;
/// One entry, with the longest name, may come when there is hardly any room left, and split another.
const SLACK: usize = 1 << 16;

fuzz_target!(|pieces: Vec<&[u8]>| {
    let mut map = PerfMap::default();
    for piece in pieces {
        map.take_in(piece, ROOM);
        assert!(map.bytes() <= ROOM + SLACK);
    }
    for address in [0, 1, 0x10, 0xff, 0x1000, u64::MAX] {
        assert_ne!(map.name_at(address), Some(""));
    }
});
