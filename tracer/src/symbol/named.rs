//! What blazesym says of an address, and whether to believe it.

use std::path::PathBuf;

use blazesym::symbolize::{CodeInfo, Sym};

use super::demangle::demangle;
use super::elf::Elf;
use crate::record::FunctionName;

/// Longest path of a source file kept, bytes.
const MOST_PATH_BYTES: usize = 4096;

/// Which symbols count as the one at an address.
#[derive(Clone, Copy)]
pub(super) enum Covers {
    /// The one whose range holds it.
    Surely,
    /// The one that begins there.
    Start,
    /// The one before it, if it may reach that far.
    Perhaps,
}

impl Covers {
    pub(super) fn holds(self, elf: &Elf, sym: &Sym<'_>, address: u64) -> bool {
        match (self, sym.size) {
            (Self::Start, _) => sym.addr == address,
            (Self::Surely | Self::Perhaps, Some(size)) => address
                .checked_sub(sym.addr)
                .is_some_and(|into| into < size as u64),
            // A function in several pieces: blazesym found the piece that holds the address, and says no start.
            (Self::Surely, None) => sym.addr == 0,
            // A symbol of unknown size, such as assembly has: blazesym extends it up to the next symbol, however far
            // that is. It cannot reach beyond its section.
            (Self::Perhaps, None) => elf.in_one_code_section(sym.addr, address),
        }
    }
}

/// What is at an address.
#[derive(Clone, Default)]
pub(super) struct Named {
    /// Innermost first, the real function last; empty without a name.
    pub(super) functions: Vec<FunctionName>,
    /// The name of the real function is not a linker's name.
    pub(super) plain: bool,
}

impl Named {
    pub(super) fn from_sym(sym: &Sym<'_>) -> Self {
        if sym.name.is_empty() {
            return Self::default();
        }
        // blazesym has the outermost of the inlined functions first.
        let inlined = sym.inlined.iter().rev();
        let functions: Vec<_> = inlined
            .map(|function| (&function.name, function.code_info.as_ref()))
            .chain([(&sym.name, sym.code_info.as_deref())])
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, place)| FunctionName {
                function: demangle(name),
                file: place.and_then(source_file),
                line: place.and_then(|place| place.line).filter(|&line| line > 0),
            })
            .collect();
        Self {
            plain: functions
                .last()
                .is_some_and(|real| real.function == sym.name),
            functions,
        }
    }
}

/// The path of a source file: absolute where the compiler noted its directory, without `.` parts.
fn source_file(place: &CodeInfo<'_>) -> Option<String> {
    let path: PathBuf = place.to_path().components().collect();
    let mut path = path.to_string_lossy().into_owned();
    path.truncate(path.floor_char_boundary(MOST_PATH_BYTES));
    (!path.is_empty()).then_some(path)
}
