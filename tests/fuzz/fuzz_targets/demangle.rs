//! Whatever a linker name is, its reading is bounded, and it is never empty where the name is not.
#![no_main]

use highwater::symbol::demangle::{MOST_NAME_BYTES, demangle};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &str| {
    for prefix in ["", "_Z", "_R"] {
        let name = format!("{prefix}{name}");
        let read = demangle(&name);
        assert!(read.len() <= MOST_NAME_BYTES + '…'.len_utf8());
        assert_eq!(read.is_empty(), name.is_empty());
    }
});
