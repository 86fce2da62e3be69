//! Where stacks end that a program has made by hand: those of coroutines.
//!
//! Who makes a stack writes a return address into its first frame that no call has left there. The unwinder looks one byte
//! before a return address, for the call. Before the start of a function there is padding, of which nothing is known; so
//! the stack would seem cut. It is whole in two cases:
//!
//! - The function that begins there says itself that nothing called it.
//! - The C library's `makecontext`, or Boost's `make_fcontext`, has loaded that address: its own function for what is
//!   to happen when a coroutine returns.
//!
//! A return address right behind a call is that call's, whatever begins there. Such a place is left out.

use std::fs::File;

use iced_x86::{Decoder, DecoderOptions, Mnemonic};

use super::{cfi::Functions, rules::END};
use crate::target::elf::Elf;

/// The functions that make a stack.
const MAKERS: [&str; 2] = ["makecontext", "make_fcontext"];
/// Longest call: two bytes, a scale-index-base byte, four of displacement.
const LONGEST_CALL: usize = 7;
/// Most functions of a file that are looked at since they say that nothing called them; programs have one or two.
const MOST_OUTERMOST: usize = 256;

/// The addresses right before those that such stacks return to, sorted, as the file counts them.
pub(super) fn of(file: &File, functions: &Functions) -> Vec<u64> {
    let Ok(elf) = Elf::open(file) else {
        return Vec::new();
    };
    let mut returned_to: Vec<u64> = functions
        .list
        .iter()
        .filter(|function| {
            let first = functions.rows_of(function).first();
            first.is_some_and(|row| row.rule == END)
        })
        .map(|function| function.start)
        .take(MOST_OUTERMOST)
        .collect();
    for maker in MAKERS {
        for symbol in elf.functions(maker).unwrap_or_default() {
            let code = elf.code(&symbol).unwrap_or_default();
            returned_to.extend(loaded_addresses(&code, symbol.address));
        }
    }
    let mut bottoms: Vec<u64> = returned_to
        .into_iter()
        .filter(|&address| nothing_runs_into(&elf, address))
        .map(|address| address - 1)
        .collect();
    bottoms.sort_unstable();
    bottoms.dedup();
    bottoms
}

/// The addresses that some code loads relative to itself.
fn loaded_addresses(code: &[u8], from: u64) -> Vec<u64> {
    Decoder::with_ip(64, code, from, DecoderOptions::NONE)
        .iter()
        .filter(|instruction| {
            instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand()
        })
        .map(|instruction| instruction.ip_rel_memory_address())
        .collect()
}

/// Whether the bytes before an address are no call, and no return of one byte, which a signal could interrupt.
fn nothing_runs_into(elf: &Elf<'_>, address: u64) -> bool {
    let Some(from) = address.checked_sub(LONGEST_CALL as u64) else {
        return false;
    };
    elf.bytes_at(from, LONGEST_CALL)
        .is_ok_and(|before| before.len() == LONGEST_CALL && !ends_in_call_or_return(&before))
}

/// Whether the last bytes can be read as a call or a return.
fn ends_in_call_or_return(code: &[u8]) -> bool {
    let at = |back: usize| code.len().checked_sub(back).map(|index| code[index]);
    // `call *operand` is ff with 2 in the middle of the byte after it.
    let indirect = |length: usize| {
        at(length) == Some(0xff) && at(length - 1).is_some_and(|operand| operand >> 3 & 7 == 2)
    };
    at(1) == Some(0xc3) || at(5) == Some(0xe8) || [2, 3, 4, 6, 7].into_iter().any(indirect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_all_lengths_and_returns_are_seen() {
        for code in [
            &[0x90, 0x90, 0xe8, 1, 2, 3, 4][..],
            &[0xff, 0xd3],
            &[0xff, 0x53, 0x08],
            &[0xff, 0x54, 0x24, 0x08],
            &[0xff, 0x15, 1, 2, 3, 4],
            &[0xff, 0x94, 0x24, 1, 2, 3, 4],
            &[0x48, 0x89, 0xc3, 0xc3],
        ] {
            assert!(ends_in_call_or_return(code), "{code:x?}");
        }
    }

    #[test]
    fn padding_and_jumps_are_neither() {
        for code in [
            &[0x0f, 0x1f, 0x80, 0, 0, 0, 0][..],
            &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
            &[0xcc; 7],
            &[0x90; 7],
            &[0; 7],
            // jmp *%rbx
            &[0x55, 0xff, 0xe3],
        ] {
            assert!(!ends_in_call_or_return(code), "{code:x?}");
        }
    }

    #[test]
    fn addresses_are_those_that_lea_gives() {
        // lea 0x10(%rip), %rcx; lea -0x40(%rax), %rax
        let code = [0x48, 0x8d, 0x0d, 0x10, 0, 0, 0, 0x48, 0x8d, 0x40, 0xc0];
        assert_eq!(loaded_addresses(&code, 0x1225), [0x123c]);
    }
}
