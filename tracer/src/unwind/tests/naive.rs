//! The naive twin: for each address, all entries are looked at, and gimli's own search among the rows of the right one.

use gimli::{
    BaseAddresses, CieOrFde, DebugFrame, EhFrame, FrameDescriptionEntry, LittleEndian,
    UnwindContext, UnwindSection,
};
use highwater_common::unwind::{CFA_UNKNOWN, CFA_UNSUPPORTED, Rule};
use object::{Object, ObjectSection};

use super::super::{
    rule::{self, Bytes, Room},
    rules::bare,
};

/// The entries of one section.
pub(super) struct Naive<'data, S> {
    section: S,
    bases: BaseAddresses,
    pub(super) entries: Vec<FrameDescriptionEntry<Bytes<'data>>>,
}

impl<'data> Naive<'data, EhFrame<Bytes<'data>>> {
    pub(super) fn of_eh_frame(elf: &'data [u8]) -> Self {
        let (address, content) = section(elf, ".eh_frame");
        let bases = BaseAddresses::default().set_eh_frame(address);
        Self::new(EhFrame::new(content, LittleEndian), bases)
    }
}

impl<'data> Naive<'data, DebugFrame<Bytes<'data>>> {
    pub(super) fn of_debug_frame(elf: &'data [u8]) -> Self {
        let (_, content) = section(elf, ".debug_frame");
        Self::new(
            DebugFrame::new(content, LittleEndian),
            BaseAddresses::default(),
        )
    }
}

fn section<'data>(elf: &'data [u8], name: &str) -> (u64, &'data [u8]) {
    let elf = object::File::parse(elf).unwrap();
    let section = elf.section_by_name(name).unwrap();
    (section.address(), section.data().unwrap())
}

impl<'data, S: UnwindSection<Bytes<'data>>> Naive<'data, S> {
    fn new(section: S, bases: BaseAddresses) -> Self {
        let mut entries = Vec::new();
        let mut rest = section.entries(&bases);
        while let Some(entry) = rest.next().unwrap() {
            if let CieOrFde::Fde(partial) = entry {
                entries.push(partial.parse(S::cie_from_offset).unwrap());
            }
        }
        Self {
            section,
            bases,
            entries,
        }
    }

    /// The rule at an address.
    pub(super) fn rule_at(&self, address: u64) -> Rule {
        let covering = self.entries.iter().filter(|fde| fde.contains(address));
        // Of equal ones, the last.
        let Some(fde) = covering.max_by_key(|fde| fde.initial_address()) else {
            return bare(CFA_UNKNOWN);
        };
        let mut context = UnwindContext::<usize, Room>::new_in();
        fde.unwind_info_for_address(&self.section, &self.bases, &mut context, address)
            .map_or(bare(CFA_UNSUPPORTED), |row| {
                rule::of_row(row, fde.is_signal_trampoline(), &self.section)
            })
    }
}
