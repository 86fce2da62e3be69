//! Where in a function a probe is cheapest.
//!
//! A uprobe replaces an instruction by a trap. Most instructions the kernel then runs out of line, single-stepped: a
//! second trap, and some 30 times slower in a virtual machine. Only `nop`, `jmp`, `call`, `jcc` and `push` of a register
//! does it emulate at once. Few functions begin with one of those, but most have one among their first instructions:
//! a probe there sees the same calls, if three things hold.
//!
//! 1. **Every call gets there, once.** From the entry we follow the straight line only, up to the first branch, which may
//!    itself be probed: the trap comes before it is taken. No branch of the function may lead into the part that is
//!    passed over, or to the probe itself, for then a loop would be counted as calls. One branch is passed: that of
//!    `free` on a NULL argument, behind which only calls that free something arrive.
//! 2. **The arguments are still there**: nothing on the way writes their registers. Nor does anything store to memory
//!    but the stack, so that whatever the probe reads is as it was at entry.
//! 3. **The return address is still where the stack pointer points** in functions whose return is probed: the kernel
//!    swaps it there. In the others only pushes may move the stack pointer, and how far is told.
//!
//! What cannot be seen here is where indirect jumps lead. Those that look like a jump table (`switch`) forbid anything
//! but the entry; the others are tail calls. Cold parts that the compiler moved out of the function come back behind
//! the branch that left it, and the line ends at the first branch.

use highwater_common::cookie::Function;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfo,
    InstructionInfoFactory, MemorySize, Mnemonic, OpAccess, OpKind, Register, RflagsBits,
};

/// Longer functions are probed at their entry: an allocator's are below 4 KiB.
const BODY_LIMIT: usize = 64 << 10;

/// Where to probe a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Bytes past the symbol.
    pub offset: u64,
    /// The kernel emulates the instruction there.
    pub emulated: bool,
    /// Calls with a NULL argument do not get there.
    pub past_null_check: bool,
    /// How far below the return address the stack pointer is there, bytes. 0 in functions whose return is probed.
    pub pushed_bytes: u64,
}

/// Chooses where to probe a function, given all its code.
///
/// The first emulated instruction that fulfils the conditions above, for functions that free blocks preferably one past
/// the NULL check; else the entry. Code that is empty or cannot be decoded is probed at its entry.
pub fn place(code: &[u8], symbol_address: u64, function: Function) -> Placement {
    let mut chosen = Placement {
        offset: 0,
        emulated: false,
        past_null_check: false,
        pushed_bytes: 0,
    };
    let Some(body) = Body::decode(code, symbol_address) else {
        let first = Decoder::with_ip(64, code, symbol_address, DecoderOptions::NONE).decode();
        chosen.emulated = code.get(..first.len()).is_some_and(kernel_emulates);
        return chosen;
    };
    let mut info = InstructionInfoFactory::new();
    let mut past_null_check = false;
    let mut tests_for_null = false;
    let mut pushed_bytes = 0;
    for (offset, instruction) in body.instructions() {
        if offset >= body.passable {
            break;
        }
        let is_call = instruction.flow_control() == FlowControl::Call;
        if kernel_emulates(body.bytes(offset, instruction)) && (offset == 0 || !is_call) {
            let better = !chosen.emulated || past_null_check;
            if better {
                chosen = Placement {
                    offset,
                    emulated: true,
                    past_null_check,
                    pushed_bytes,
                };
            }
            if !function.frees() || past_null_check {
                break;
            }
        }
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::ConditionalBranch
                if function.frees() && tests_for_null && instruction.mnemonic() == Mnemonic::Je =>
            {
                past_null_check = true;
            }
            _ => break,
        }
        let effects = info.info(instruction);
        if writes_needed_register(effects, function) || stores_off_stack(effects) {
            break;
        }
        if writes_register(effects, Register::RSP) {
            if !function.frees() || instruction.mnemonic() != Mnemonic::Push {
                break;
            }
            pushed_bytes += u64::from(instruction.stack_pointer_increment().unsigned_abs());
        }
        if is_null_test(instruction) {
            tests_for_null = true;
        } else if instruction.rflags_modified() != RflagsBits::NONE {
            tests_for_null = false;
        }
    }
    chosen
}

/// Whether the kernel emulates an instruction instead of single-stepping it, on every version that we run on: see
/// `branch_setup_xol_ops` and `push_setup_xol_ops` in
/// <https://github.com/torvalds/linux/blob/v6.12/arch/x86/kernel/uprobes.c>.
///
/// Prefixes are refused there or treated with care, so that none but `push`'s is taken here.
fn kernel_emulates(instruction: &[u8]) -> bool {
    matches!(
        instruction,
        [0x90] // nop
            | [0xeb, _] // jmp rel8
            | [0xe9 | 0xe8, _, _, _, _] // jmp rel32, call rel32
            | [0x70..=0x7f, _] // jcc rel8
            | [0x0f, 0x80..=0x8f, _, _, _, _] // jcc rel32
            | [0x50..=0x57] // push rax ... push rdi
            | [0x41, 0x50..=0x57] // push r8 ... push r15
    )
}

/// A function's code, decoded from its first byte on.
struct Body<'code> {
    code: &'code [u8],
    address: u64,
    decoded: Vec<Instruction>,
    /// Offset of the first byte past the entry that some branch leads to: only what lies before it can be passed over.
    passable: u64,
}

impl<'code> Body<'code> {
    /// `None` where the code cannot be known whole: too long, not decodable, or with a jump table.
    fn decode(code: &'code [u8], address: u64) -> Option<Self> {
        if code.is_empty() || code.len() > BODY_LIMIT {
            return None;
        }
        address.checked_add(code.len() as u64)?;
        let decoded: Vec<_> = Decoder::with_ip(64, code, address, DecoderOptions::NONE)
            .into_iter()
            .collect();
        if decoded.iter().any(|one| one.code() == Code::INVALID) || has_jump_table(&decoded) {
            return None;
        }
        let passable = decoded
            .iter()
            .filter(|one| one.op0_kind() == OpKind::NearBranch64)
            .filter_map(|one| one.near_branch_target().checked_sub(address))
            .filter(|&offset| offset > 0)
            .min()
            .unwrap_or(u64::MAX);
        Some(Self {
            code,
            address,
            decoded,
            passable,
        })
    }

    /// Each instruction with its offset.
    fn instructions(&self) -> impl Iterator<Item = (u64, &Instruction)> {
        self.decoded
            .iter()
            .map(|one| (one.ip() - self.address, one))
    }

    fn bytes(&self, offset: u64, instruction: &Instruction) -> &[u8] {
        // Offsets are below the limit of 64 KiB.
        let start = offset as usize;
        &self.code[start..start + instruction.len()]
    }
}

/// A jump through a table: `jmp [table + index * 8]`, or, position independent, an offset loaded by `movsxd` from
/// `[table + index * 4]` and a jump through a register.
fn has_jump_table(decoded: &[Instruction]) -> bool {
    let indirect = |one: &&Instruction| one.flow_control() == FlowControl::IndirectBranch;
    let loads_offset = decoded.iter().any(|one| {
        one.mnemonic() == Mnemonic::Movsxd
            && one.memory_size() == MemorySize::Int32
            && one.memory_index() != Register::None
    });
    decoded.iter().filter(indirect).any(|jump| {
        jump.memory_index() != Register::None
            || (loads_offset && jump.op0_kind() == OpKind::Register)
    })
}

/// `test rdi, rdi`: a `je` right after it is taken when the first argument is NULL.
pub(crate) fn is_null_test(instruction: &Instruction) -> bool {
    instruction.code() == Code::Test_rm64_r64
        && instruction.op0_register() == Register::RDI
        && instruction.op1_register() == Register::RDI
}

fn writes_needed_register(effects: &InstructionInfo, function: Function) -> bool {
    needed_registers(function)
        .iter()
        .any(|&register| writes_register(effects, register))
}

fn needed_registers(function: Function) -> &'static [Register] {
    &[Register::RDI, Register::RSI, Register::RDX][..usize::from(function.arguments())]
}

fn writes_register(effects: &InstructionInfo, register: Register) -> bool {
    effects
        .used_registers()
        .iter()
        .any(|used| used.register().full_register() == register && writes(used.access()))
}

fn stores_off_stack(effects: &InstructionInfo) -> bool {
    effects
        .used_memory()
        .iter()
        .any(|used| writes(used.access()) && used.base() != Register::RSP)
}

const fn writes(access: OpAccess) -> bool {
    matches!(
        access,
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}

#[cfg(test)]
mod tests;
