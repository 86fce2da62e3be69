//! Whatever a file holds, its table is sorted, and every row is found where it begins.
#![no_main]

use highwater::unwind::{Draft, RuleBook};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|elf: &[u8]| {
    if let Ok(draft) = Draft::of_bytes(elf) {
        let mut book = RuleBook::new();
        let table = draft.intern(&mut book);
        assert!(table.rows.is_sorted_by(|one, next| one.pc < next.pc));
        for row in &table.rows {
            assert!((row.rule as usize) < book.rules().len());
            assert_eq!(table.find(table.base + u64::from(row.pc)), Some(*row));
        }
    }
});
