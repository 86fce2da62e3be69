//! Functions that do nothing but hand their arguments on.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

use super::elf::{Elf, Symbol};
use super::placement::is_null_test;

/// Longest way to the call that we follow, instructions.
const STEPS: usize = 16;

/// Whether every call of `function` that does anything ends in a call of `target` of the same file: by a jump or call to it,
/// directly or through the procedure linkage table.
///
/// glibc's `free_sized` is `free(block)` and nothing more. A probe in both would see each block freed twice.
pub(super) fn leads_to(elf: &Elf<'_>, function: &Symbol, target: &str) -> bool {
    let Ok(code) = elf.code(function) else {
        return false;
    };
    let targets = elf.functions(target).unwrap_or_default();
    let mut previous = Instruction::default();
    for instruction in Decoder::with_ip(64, &code, function.address, DecoderOptions::NONE)
        .into_iter()
        .take(STEPS)
    {
        match instruction.flow_control() {
            FlowControl::Next => {}
            // Past a NULL check: the way that does nothing is left aside.
            FlowControl::ConditionalBranch
                if is_null_test(&previous) && instruction.mnemonic() == Mnemonic::Je => {}
            FlowControl::UnconditionalBranch | FlowControl::Call if is_near(&instruction) => {
                let destination = instruction.near_branch_target();
                return targets.iter().any(|symbol| symbol.address == destination)
                    || linkage_target(elf, destination).as_deref() == Some(target.as_bytes());
            }
            FlowControl::IndirectBranch | FlowControl::IndirectCall => {
                return slot_target(elf, &instruction).as_deref() == Some(target.as_bytes());
            }
            _ => return false,
        }
        previous = instruction;
    }
    false
}

fn is_near(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::NearBranch64
}

/// The function that a stub of the procedure linkage table leads to: `[endbr64] [bnd] jmp [slot]`.
fn linkage_target(elf: &Elf<'_>, stub: u64) -> Option<Vec<u8>> {
    let code = elf.bytes_at(stub, 16).ok()?;
    Decoder::with_ip(64, &code, stub, DecoderOptions::NONE)
        .into_iter()
        .take(2)
        .find(|instruction| instruction.mnemonic() != Mnemonic::Endbr64)
        .and_then(|jump| slot_target(elf, &jump))
}

/// The function whose address lies in the slot through which an instruction jumps or calls.
fn slot_target(elf: &Elf<'_>, jump: &Instruction) -> Option<Vec<u8>> {
    if jump.is_ip_rel_memory_operand() {
        elf.relocated_symbol(jump.ip_rel_memory_address())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::target::process::tests::compile;

    /// Whether `sized`, compiled like this, is seen to lead to `free`.
    fn sized_leads_to_free(body: &str, flags: &[&str]) -> bool {
        let source = format!(
            "static void *volatile last;\n\
             void free(void *block) {{ last = block; }}\n\
             void other(void *block) {{ last = block; }}\n\
             void sized(void *block, unsigned long size) {{ (void)size; {body} }}\n"
        );
        let flags: Vec<&str> = [
            "-shared",
            "-fPIC",
            "-O2",
            "-fno-builtin",
            "-fno-inline",
            "-fno-ipa-icf",
        ]
        .into_iter()
        .chain(flags.iter().copied())
        .collect();
        let (_dir, library) = compile(&source, &flags);
        let file = File::open(library).unwrap();
        let elf = Elf::open(&file).unwrap();
        let sized = elf.functions("sized").unwrap()[0];
        leads_to(&elf, &sized, "free")
    }

    #[test]
    fn jumps_and_calls_to_free_are_found_through_every_kind_of_linkage() {
        for flags in [
            &[][..],
            &["-Wl,-Bsymbolic"],
            &["-fno-plt"],
            &["-fno-semantic-interposition"],
            &["-fcf-protection=full"],
            &["-fno-optimize-sibling-calls"],
            &["-Wl,-z,now"],
        ] {
            assert!(sized_leads_to_free("free(block);", flags), "{flags:?}");
            assert!(
                sized_leads_to_free("if (block) free(block);", flags),
                "{flags:?}"
            );
            assert!(!sized_leads_to_free("other(block);", flags), "{flags:?}");
            assert!(!sized_leads_to_free("last = block;", flags), "{flags:?}");
            assert!(
                !sized_leads_to_free("if (size > 100) free(block); else last = block;", flags),
                "{flags:?}"
            );
        }
    }
}
