//! What functions stand in that debug information names without a linker's name: those of unnamed namespaces, and lambdas, where the
//! compiler inlined them and no symbol is left. `insert` may be `app::(anonymous namespace)::insert`, or anything.

use std::fs::File;

use gimli::{
    AttributeValue, DebuggingInformationEntry, DwTag, Dwarf, DwarfSections, EndianSlice,
    LittleEndian, SectionId, Unit, UnitOffset,
};

use super::demangle::demangle;
use super::dwarf;
use super::elf::Elf;

/// Most bytes of debug information read for this, decompressed: they are read anew each time.
const MOST_BYTES: u64 = 64 << 20;
/// Longest chain of entries that refer to each other, and deepest nesting of scopes that is shown.
const MOST_STEPS: usize = 16;

type Slice<'data> = EndianSlice<'data, LittleEndian>;
type Entry<'data> = DebuggingInformationEntry<Slice<'data>>;

/// The functions at addresses before relocation: for each address innermost first, with the real function last; `None` for one that has
/// a linker's name, or stands in nothing. Empty where nothing is known.
pub(super) fn qualified(file: &File, elf: &Elf, addresses: &[u64]) -> Vec<Vec<Option<String>>> {
    let mut left = MOST_BYTES;
    let loaded = DwarfSections::load(|section: SectionId| -> Result<Vec<u8>, ()> {
        let content = dwarf::content(file, elf, section.name(), left).map_err(drop)?;
        left -= content.len() as u64;
        Ok(content)
    });
    let mut found = vec![Vec::new(); addresses.len()];
    let Ok(loaded) = loaded else {
        return found;
    };
    let dwarf = loaded.borrow(|content| EndianSlice::new(content, LittleEndian));
    let mut units = dwarf.units();
    while let Ok(Some(header)) = units.next() {
        if let Ok(unit) = dwarf.unit(header) {
            // What makes no sense ends the unit, as it does elsewhere.
            let _ = look_into(&dwarf, &unit, addresses, &mut found);
        }
    }
    found
}

/// An entry that others stand in.
struct Scope {
    offset: UnitOffset,
    tag: DwTag,
    parent: Option<usize>,
}

fn look_into(
    dwarf: &Dwarf<Slice<'_>>,
    unit: &Unit<Slice<'_>>,
    addresses: &[u64],
    found: &mut [Vec<Option<String>>],
) -> gimli::Result<()> {
    let mut here = vec![false; addresses.len()];
    let mut ranges = dwarf.unit_ranges(unit)?;
    while let Some(range) = ranges.next()? {
        for (here, address) in here.iter_mut().zip(addresses) {
            *here |= (range.begin..range.end).contains(address);
        }
    }
    if !here.contains(&true) {
        return Ok(());
    }
    // In the order of the file, outermost first.
    let mut chains: Vec<Vec<UnitOffset>> = vec![Vec::new(); addresses.len()];
    let mut scopes: Vec<Scope> = Vec::new();
    let mut open: Vec<(isize, usize)> = Vec::new();
    let mut entries = unit.entries();
    while let Some(entry) = entries.next_dfs()? {
        let depth = entry.depth();
        while open.last().is_some_and(|(outer, _)| *outer >= depth) {
            open.pop();
        }
        let tag = entry.tag();
        if matches!(
            tag,
            gimli::DW_TAG_namespace
                | gimli::DW_TAG_class_type
                | gimli::DW_TAG_structure_type
                | gimli::DW_TAG_union_type
                | gimli::DW_TAG_subprogram
        ) {
            let parent = open.last().map(|(_, scope)| *scope);
            open.push((depth, scopes.len()));
            scopes.push(Scope {
                offset: entry.offset(),
                tag,
                parent,
            });
        }
        if matches!(
            tag,
            gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine
        ) {
            let mut ranges = dwarf.die_ranges(unit, entry)?;
            while let Some(range) = ranges.next()? {
                for (at, address) in addresses.iter().enumerate() {
                    if here[at] && (range.begin..range.end).contains(address) {
                        chains[at].push(entry.offset());
                    }
                }
            }
        }
    }
    let names = Names {
        dwarf,
        unit,
        scopes: &scopes,
    };
    for (found, chain) in found.iter_mut().zip(&chains) {
        if found.is_empty() {
            found.extend(chain.iter().rev().map(|&offset| names.qualified(offset)));
        }
    }
    Ok(())
}

/// The names of one unit.
struct Names<'unit, 'data> {
    dwarf: &'unit Dwarf<Slice<'data>>,
    unit: &'unit Unit<Slice<'data>>,
    scopes: &'unit [Scope],
}

impl<'data> Names<'_, 'data> {
    /// The function's name behind those of what it stands in. `None`: it has a linker's name, or stands in nothing.
    fn qualified(&self, offset: UnitOffset) -> Option<String> {
        let (declared, linker_name) = self.declaration(offset)?;
        if linker_name.is_some() {
            return None;
        }
        let own = self.text(&self.unit.entry(declared).ok()?, gimli::DW_AT_name)?;
        let mut parts = vec![own];
        let mut next = self.scope(declared)?.parent;
        while let Some(scope) = next.and_then(|scope| self.scopes.get(scope)) {
            if parts.len() > MOST_STEPS {
                return None;
            }
            let (part, is_whole) = self.part(scope)?;
            parts.push(part);
            next = if is_whole { None } else { scope.parent };
        }
        parts.reverse();
        (parts.len() > 1).then(|| parts.join("::"))
    }

    fn scope(&self, offset: UnitOffset) -> Option<&Scope> {
        let at = self
            .scopes
            .binary_search_by_key(&offset, |scope| scope.offset);
        self.scopes.get(at.ok()?)
    }

    /// How a scope is shown, and whether that has all around it already.
    fn part(&self, scope: &Scope) -> Option<(String, bool)> {
        if scope.tag == gimli::DW_TAG_subprogram {
            let (declared, linker_name) = self.declaration(scope.offset)?;
            return match linker_name {
                Some(name) => Some((demangle(&name), true)),
                None => {
                    let entry = self.unit.entry(declared).ok()?;
                    Some((self.text(&entry, gimli::DW_AT_name)?, false))
                }
            };
        }
        let entry = self.unit.entry(scope.offset).ok()?;
        let name = self.text(&entry, gimli::DW_AT_name);
        let unnamed = match scope.tag {
            gimli::DW_TAG_namespace => "(anonymous namespace)",
            // Functions of unnamed classes are lambdas, nearly always.
            _ => "{lambda}",
        };
        Some((name.unwrap_or_else(|| unnamed.to_owned()), false))
    }

    /// The entry that declares a function, and its linker's name, if one of those that lead there has it.
    fn declaration(&self, offset: UnitOffset) -> Option<(UnitOffset, Option<String>)> {
        let mut offset = offset;
        for _ in 0..MOST_STEPS {
            let entry = self.unit.entry(offset).ok()?;
            let linker_name = self.text(&entry, gimli::DW_AT_linkage_name);
            if linker_name.is_some() {
                return Some((offset, linker_name));
            }
            let of = entry
                .attr_value(gimli::DW_AT_abstract_origin)
                .or_else(|| entry.attr_value(gimli::DW_AT_specification));
            offset = match of {
                None => return Some((offset, None)),
                Some(AttributeValue::UnitRef(offset)) => offset,
                // In another unit, as link-time optimization leaves it.
                Some(_) => return None,
            };
        }
        None
    }

    fn text(&self, entry: &Entry<'data>, attribute: gimli::DwAt) -> Option<String> {
        let value = entry.attr_value(attribute)?;
        let text = self.dwarf.attr_string(self.unit, value).ok()?;
        Some(text.to_string_lossy().into_owned())
    }
}
