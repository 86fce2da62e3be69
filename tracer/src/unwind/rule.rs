//! One row of call frame information as a [`Rule`].
//!
//! The DWARF 5 standard, section 6.4, says what such a row can hold: any expression for the canonical frame address
//! (CFA) and for each register. What compilers and assembly authors write is little of that, and the rest is
//! [`CFA_UNSUPPORTED`].

use gimli::{
    CfaRule, EndianSlice, LittleEndian, Operation, Register, RegisterRule, UnwindContextStorage,
    UnwindExpression, UnwindSection, UnwindTableRow, X86_64,
};
use highwater_common::unwind::{
    CFA_DEREFERENCED, CFA_END, CFA_PLT, CFA_REGISTER, CFA_SIGNAL, CFA_UNSUPPORTED, Rule, SAVED_RBP,
    SAVED_REGISTERS, SIGNAL_ORDER, SIGNAL_REGISTERS,
};

use super::rules::bare;

pub(super) type Bytes<'data> = EndianSlice<'data, LittleEndian>;

/// Longest expression that is looked at, bytes. The longest with a meaning here, the procedure linkage table's, has 11.
const MOST_EXPRESSION: usize = 32;
/// The form of expressions on x86-64: only the size of an address matters.
const ENCODING: gimli::Encoding = gimli::Encoding {
    address_size: 8,
    format: gimli::Format::Dwarf32,
    version: 4,
};

/// The room that gimli evaluates a function's instructions in. Its own default has room for 192 registers, which it
/// copies a lot; x86-64 has no more callee-saved registers than 18 in any calling convention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Room;

impl UnwindContextStorage<usize> for Room {
    type Rules = [(Register, RegisterRule<usize>); 32];
    type Stack = Box<[UnwindTableRow<usize, Self>; 8]>;
}

/// The rule of a row. `signal`: its entry says that it is of a signal frame.
pub(super) fn of_row<'data, S: UnwindSection<Bytes<'data>>>(
    row: &UnwindTableRow<usize, Room>,
    signal: bool,
    section: &S,
) -> Rule {
    of_supported_row(row, signal, section).unwrap_or_else(|| bare(CFA_UNSUPPORTED))
}

fn of_supported_row<'data, S: UnwindSection<Bytes<'data>>>(
    row: &UnwindTableRow<usize, Room>,
    signal: bool,
    section: &S,
) -> Option<Rule> {
    match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => return Some(bare(CFA_END)),
        Some(RegisterRule::Offset(-8)) => {}
        _ => return (signal && is_kernels_frame(row, section)).then(|| bare(CFA_SIGNAL)),
    }
    // The caller's stack pointer is the CFA, or the frame is of a kind of its own.
    match row.register(X86_64::RSP) {
        None | Some(RegisterRule::ValOffset(0)) => {}
        _ => return None,
    }
    let mut rule = match row.cfa() {
        &CfaRule::RegisterAndOffset { register, offset } => Address {
            register: register.0,
            offset,
            add: None,
        }
        .into_rule()?,
        CfaRule::Expression(expression) => plt(expression, section)
            .or_else(|| address(expression, section).and_then(Address::into_rule))?,
    };
    add_saved_registers(&mut rule, row, section);
    Some(rule)
}

/// Says where the callee-saved registers lie: all relative to the CFA, or all relative to `rbp`.
///
/// gcc keeps the CFA of a function that realigns its stack in a register first, then in a slot of the frame, and says
/// of every register that it is at `rbp + offset`. It does not mix the two ways, except where r10 is not free to hold
/// the CFA (nested functions): the register that does is then saved relative to the CFA. `rbp` leads the way, since
/// that is the one that callers' CFAs come from.
fn add_saved_registers<'data, S: UnwindSection<Bytes<'data>>>(
    rule: &mut Rule,
    row: &UnwindTableRow<usize, Room>,
    section: &S,
) {
    let mut from_cfa = [None; 6];
    let mut from_rbp = [None; 6];
    for (register, saved) in row.registers() {
        let Some(place) = SAVED_REGISTERS
            .iter()
            .position(|&number| u16::from(number) == register.0)
        else {
            continue;
        };
        match saved {
            RegisterRule::Offset(offset) => from_cfa[place] = slot(*offset),
            RegisterRule::Expression(expression) => {
                from_rbp[place] = match address(expression, section) {
                    Some(Address {
                        register,
                        offset,
                        add: None,
                    }) if register == X86_64::RBP.0 => slot(offset),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    // After `leave`, gcc still says that the registers are at `rbp + offset`. With nothing between the stack pointer
    // and the return address they have all been restored, `rbp` first.
    if rule.cfa == CFA_REGISTER && u16::from(rule.register) == X86_64::RSP.0 && rule.offset == 8 {
        from_rbp = [None; 6];
    }
    let any = |slots: &[Option<i16>; 6]| slots.iter().any(Option::is_some);
    let by_rbp = from_rbp[SAVED_RBP].is_some() || (any(&from_rbp) && !any(&from_cfa));
    rule.slots_from_rbp = by_rbp.into();
    let slots = if by_rbp { from_rbp } else { from_cfa };
    for (place, slot) in slots.into_iter().enumerate() {
        if let Some(slot) = slot {
            rule.saves |= 1 << place;
            rule.slots[place] = slot;
        }
    }
}

/// Bytes as words, where they are whole words and not too many.
fn slot(offset: i64) -> Option<i16> {
    (offset % 8 == 0)
        .then(|| i16::try_from(offset / 8).ok())
        .flatten()
}

/// `register + offset`; with `add`: `*(register + offset) + add`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    register: u16,
    offset: i64,
    add: Option<i64>,
}

impl Address {
    fn plus(&mut self, value: i64) -> Option<()> {
        let sum = self.add.as_mut().unwrap_or(&mut self.offset);
        *sum = sum.checked_add(value)?;
        Some(())
    }

    fn into_rule(self) -> Option<Rule> {
        let register = u8::try_from(self.register).ok().filter(|&r| r < 16)?;
        Some(Rule {
            cfa: if self.add.is_some() {
                CFA_DEREFERENCED
            } else {
                CFA_REGISTER
            },
            register,
            offset: i32::try_from(self.offset).ok()?,
            add: i32::try_from(self.add.unwrap_or(0)).ok()?,
            ..Rule::default()
        })
    }
}

/// The operations of an expression; `None`: it is long, or broken.
fn operations<'data, S: UnwindSection<Bytes<'data>>>(
    expression: &UnwindExpression<usize>,
    section: &S,
) -> Option<Vec<Operation<Bytes<'data>>>> {
    if expression.length > MOST_EXPRESSION {
        return None;
    }
    let mut rest = expression.get(section).ok()?.operations(ENCODING);
    let mut operations = Vec::with_capacity(9);
    while let Some(operation) = rest.next().ok()? {
        operations.push(operation);
    }
    Some(operations)
}

/// Reads an expression that adds constants to a register, and may read memory there and add constants again.
fn address<'data, S: UnwindSection<Bytes<'data>>>(
    expression: &UnwindExpression<usize>,
    section: &S,
) -> Option<Address> {
    let operations = operations(expression, section)?;
    let (first, rest) = operations.split_first()?;
    let &Operation::RegisterOffset {
        register,
        offset,
        base_type: gimli::UnitOffset(0),
    } = first
    else {
        return None;
    };
    let mut address = Address {
        register: register.0,
        offset,
        add: None,
    };
    let mut rest = rest.iter();
    while let Some(operation) = rest.next() {
        match *operation {
            Operation::Nop => {}
            Operation::Deref {
                base_type: gimli::UnitOffset(0),
                size: 8,
                space: false,
            } if address.add.is_none() => address.add = Some(0),
            Operation::PlusConstant { value } => address.plus(value.cast_signed())?,
            Operation::SignedConstant { value } => address.plus(signed(value, rest.next())?)?,
            Operation::UnsignedConstant { value } => {
                address.plus(signed(value.cast_signed(), rest.next())?)?;
            }
            _ => return None,
        }
    }
    Some(address)
}

/// A constant that is added or subtracted next.
fn signed(value: i64, operation: Option<&Operation<Bytes<'_>>>) -> Option<i64> {
    match operation? {
        Operation::Plus => Some(value),
        Operation::Minus => value.checked_neg(),
        _ => None,
    }
}

/// The expression that linkers write for procedure linkage tables, whose entries are 16 bytes long and push one word:
/// `rsp + 8 + ((rip & 15) >= n) << 3`
/// (<https://sourceware.org/git/?p=binutils-gdb.git;a=blob;f=bfd/elf64-x86-64.c>, `elf_x86_64_eh_frame_lazy_plt`).
fn plt<'data, S: UnwindSection<Bytes<'data>>>(
    expression: &UnwindExpression<usize>,
    section: &S,
) -> Option<Rule> {
    let operations = operations(expression, section)?;
    let &[
        Operation::RegisterOffset {
            register: X86_64::RSP,
            offset,
            base_type: gimli::UnitOffset(0),
        },
        Operation::RegisterOffset {
            register: X86_64::RA,
            offset: 0,
            base_type: gimli::UnitOffset(0),
        },
        Operation::UnsignedConstant { value: 15 },
        Operation::And,
        Operation::UnsignedConstant { value: from },
        Operation::Ge,
        Operation::UnsignedConstant { value: 3 },
        Operation::Shl,
        Operation::Plus,
    ] = &*operations
    else {
        return None;
    };
    Some(Rule {
        cfa: CFA_PLT,
        register: X86_64::RSP.0 as u8,
        offset: i32::try_from(offset).ok()?,
        add: i32::try_from(from).ok()?,
        ..Rule::default()
    })
}

/// Whether a signal frame is the kernel's: the registers that matter lie where the kernel puts them.
fn is_kernels_frame<'data, S: UnwindSection<Bytes<'data>>>(
    row: &UnwindTableRow<usize, Room>,
    section: &S,
) -> bool {
    let place = |register: u16| {
        let place = SIGNAL_ORDER.get(usize::from(register))?;
        Some(SIGNAL_REGISTERS.cast_signed() + 8 * i64::from(*place))
    };
    let at = |register: u16, add: Option<i64>| {
        place(register).map(|offset| Address {
            register: X86_64::RSP.0,
            offset,
            add,
        })
    };
    let CfaRule::Expression(cfa) = row.cfa() else {
        return false;
    };
    let saved = SAVED_REGISTERS.map(u16::from);
    address(cfa, section) == at(X86_64::RSP.0, Some(0))
        && saved.iter().chain([&X86_64::RA.0]).all(|&register| {
            matches!(
                row.register(Register(register)),
                Some(RegisterRule::Expression(expression))
                    if address(&expression, section) == at(register, None)
            )
        })
}
