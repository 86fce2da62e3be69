//! From a program counter to the rule for it.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_loop;
use highwater_common::{
    stack::{CUT_NO_CODE, CUT_NO_RULE, CUT_PENDING, CUT_UNSUPPORTED},
    unwind::{
        CFA_FRAME_POINTER, CFA_REGISTER, CFA_UNKNOWN, CFA_UNSUPPORTED, CodeRange, Row, Rule,
        SAVED_RBP, TABLE_FRAME_POINTERS, TABLE_PENDING, Unit,
    },
};

use super::{Walk, memory::KnownRule};
use crate::maps::{CODE_RANGES, RULES, TABLES};

/// Steps that a search among the code ranges of a process can take.
const RANGE_STEPS: u32 = 14;
/// Steps that a search among the rows of a unit can take.
const ROW_STEPS: u32 = 24;

/// The rule for an address, and whether it is that of frame pointers.
#[inline(always)]
pub fn rule(walk: &Walk, address: u64) -> Result<(Rule, bool), u16> {
    let memory = walk.memory();
    let tag = memory.tag;
    let known = memory.known_rule(address);
    if known.address == address && known.tag == tag {
        return known_as(known.rule);
    }
    if address.wrapping_sub(memory.range.start) >= memory.range.end - memory.range.start {
        range(walk, address)?;
    }
    let CodeRange {
        bias,
        table,
        units,
        unit_shift,
        ..
    } = walk.memory().range;
    if table == TABLE_FRAME_POINTERS {
        return Ok((by_frame_pointer(), true));
    }
    if table == TABLE_PENDING {
        return Err(CUT_PENDING);
    }
    let pc = address.wrapping_sub(bias) as u32;
    let unit = pc >> (unit_shift & 31);
    if unit >= units {
        return Err(CUT_NO_RULE);
    }
    let found = element(table, unit).ok_or(CUT_NO_RULE)?;
    let Unit { first, last } = Unit {
        first: found as u32,
        last: (found >> 32) as u32,
    };
    walk.memory().search = Search {
        target: pc as u64,
        first,
        last,
    };
    unsafe {
        bpf_loop(
            ROW_STEPS,
            narrow_rows as *mut c_void,
            (&raw const *walk).cast_mut().cast(),
            0,
        );
    }
    let row = walk.memory().search.first;
    let found = element(table, units.wrapping_add(row)).ok_or(CUT_NO_RULE)?;
    let row = Row {
        pc: found as u32,
        rule: (found >> 32) as u32,
    };
    if row.pc > pc {
        return Err(CUT_NO_RULE);
    }
    let memory = walk.memory();
    let tag = memory.tag;
    *memory.known_rule(address) = KnownRule {
        address,
        tag,
        rule: row.rule,
    };
    known_as(row.rule)
}

/// The rule of an index, and whether it is that of frame pointers.
#[inline(always)]
fn known_as(index: u32) -> Result<(Rule, bool), u16> {
    let rule = *RULES.get(index).ok_or(CUT_UNSUPPORTED)?;
    match rule.cfa {
        CFA_FRAME_POINTER => Ok((by_frame_pointer(), true)),
        CFA_UNKNOWN => Err(CUT_NO_RULE),
        CFA_UNSUPPORTED => Err(CUT_UNSUPPORTED),
        _ => Ok((rule, false)),
    }
}

/// `push rbp; mov rbp, rsp`: what compilers at run time do, if they keep frame pointers.
#[inline(always)]
fn by_frame_pointer() -> Rule {
    Rule {
        cfa: CFA_REGISTER,
        register: 6,
        saves: 1 << SAVED_RBP,
        slots_from_rbp: 0,
        offset: 16,
        add: 0,
        slots: [0, -2, 0, 0, 0, 0],
    }
}

/// Element of a table.
#[inline(always)]
fn element(table: u32, index: u32) -> Option<u64> {
    TABLES.get_value(table, &index).copied()
}

/// A binary search under way. It lies in the walk's memory, for a stack of BPF has room for little.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Search {
    /// What is looked for: a program counter or an address.
    pub target: u64,
    /// Rows: the one wanted is among these, both inclusive. Ranges: all before `first` start at or below the target, all
    /// from `last` on above it.
    pub first: u32,
    pub last: u32,
}

extern "C" fn narrow_rows(_index: u64, context: *mut c_void) -> i64 {
    let walk = unsafe { &*context.cast::<Walk>() };
    let memory = walk.memory();
    let Search {
        target,
        first,
        last,
    } = memory.search;
    if first >= last {
        return 1;
    }
    let middle = ((first as u64 + last as u64 + 1) >> 1) as u32;
    let CodeRange { table, units, .. } = memory.range;
    let Some(row) = element(table, units.wrapping_add(middle)) else {
        return 1;
    };
    if row as u32 as u64 <= target {
        memory.search.first = middle;
    } else {
        memory.search.last = middle - 1;
    }
    0
}

/// Finds the code range of an address.
#[inline(always)]
fn range(walk: &Walk, address: u64) -> Result<(), u16> {
    let memory = walk.memory();
    memory.search = Search {
        target: address,
        first: memory.code_start,
        last: memory.code_start.wrapping_add(memory.code_count),
    };
    unsafe {
        bpf_loop(
            RANGE_STEPS,
            narrow_ranges as *mut c_void,
            (&raw const *walk).cast_mut().cast(),
            0,
        );
    }
    let memory = walk.memory();
    let after = memory.search.first;
    if after == memory.code_start {
        return Err(CUT_NO_CODE);
    }
    let range = CODE_RANGES.get(after.wrapping_sub(1)).ok_or(CUT_NO_CODE)?;
    if address < range.start || address >= range.end {
        return Err(CUT_NO_CODE);
    }
    // Said so, or the compiler has it copied byte by byte.
    unsafe { core::ptr::copy_nonoverlapping(range, &raw mut memory.range, 1) };
    Ok(())
}

extern "C" fn narrow_ranges(_index: u64, context: *mut c_void) -> i64 {
    let walk = unsafe { &*context.cast::<Walk>() };
    let memory = walk.memory();
    let Search {
        target,
        first,
        last,
    } = memory.search;
    if first >= last {
        return 1;
    }
    let middle = ((first as u64 + last as u64) >> 1) as u32;
    let Some(range) = CODE_RANGES.get(middle) else {
        return 1;
    };
    if range.start <= target {
        memory.search.first = middle + 1;
    } else {
        memory.search.last = middle;
    }
    0
}
