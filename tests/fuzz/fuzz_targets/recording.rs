//! Whatever a file holds, reading it ends, with entries and at most one error.
#![no_main]

use highwater::record::reader::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(reader) = Reader::new(bytes) {
        let errors = reader.filter(Result::is_err).count();
        assert!(errors <= 1, "nothing comes after an error");
    }
});
