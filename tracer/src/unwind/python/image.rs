//! An interpreter as a file: a shared `libpython`, a program that has it within itself.

use std::{collections::HashSet, fs::File, ops::Range, path::Path};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

use super::{
    super::{cfi, elf::Sections},
    layout::{self, DEBUG_OFFSETS_BYTES, Layout, Version},
};
use crate::target::elf::{Elf, ElfError, Symbol};

/// Longest evaluation loop that we read, bytes; they have some 55 000.
const MOST_LOOP_BYTES: usize = 1 << 20;
/// Longest run of instructions that is followed where nothing says how far a piece of it reaches.
const MOST_RUN_BYTES: usize = 64 << 10;
/// Most such pieces that are looked for.
const MOST_COLD_PARTS: usize = 256;

/// An interpreter's file. Addresses are as the file counts them.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its version; `None`: nothing in the file says.
    pub version: Option<Version>,
    /// `_PyRuntime`: address and size.
    pub runtime: Symbol,
    /// Address of `PyCode_Type`.
    pub type_of_code: u64,
    /// The code of the evaluation loop, its rarely used parts too, sorted. Empty: the file does not say where it is.
    pub evaluation: Vec<Range<u64>>,
    /// How its structures are laid out; `None`: of that version, we do not know.
    pub layout: Option<Layout>,
}

impl Image {
    /// What a file says of the interpreter in it; `None`: there is none.
    ///
    /// # Errors
    ///
    /// The file is damaged or cannot be read.
    pub fn of(file: &File, path: &Path) -> Result<Option<Self>, ElfError> {
        let elf = Elf::open(file)?;
        let (Some(runtime), Some(type_of_code)) =
            (elf.object("_PyRuntime")?, elf.object("PyCode_Type")?)
        else {
            return Ok(None);
        };
        let evaluate = elf
            .functions("_PyEval_EvalFrameDefault")?
            .first()
            .copied()
            .filter(|function| function.size > 0);
        let told = elf
            .bytes_at(runtime.address, DEBUG_OFFSETS_BYTES)
            .ok()
            .and_then(|bytes| layout::of_debug_offsets(&bytes));
        let (version, layout) = match told {
            Some((version, layout)) => (Some(version), Some(layout)),
            None => {
                let version = version_of(&elf, path)?;
                (version, version.and_then(layout::of_version))
            }
        };
        let evaluation = evaluate.map_or_else(
            || Ok(Vec::new()),
            |evaluate| whole(&elf, evaluate, &extents(file)),
        )?;
        Ok(Some(Self {
            version,
            runtime,
            type_of_code: type_of_code.address,
            evaluation,
            layout,
        }))
    }
}

fn version_of(elf: &Elf<'_>, path: &Path) -> Result<Option<Version>, ElfError> {
    if let Some(symbol) = elf.object("Py_Version")? {
        let bytes = elf.bytes_at(symbol.address, 4)?;
        if let Some(hex) = bytes.first_chunk::<4>() {
            return Ok(Some(Version::from_hex(u32::from_le_bytes(*hex).into())));
        }
    }
    let soname = elf.soname().unwrap_or_default();
    let name = path.file_name().unwrap_or_default();
    Ok(Version::from_file_name(&String::from_utf8_lossy(&soname))
        .or_else(|| Version::from_file_name(&name.to_string_lossy())))
}

/// A function with the pieces of it that the compiler has put elsewhere (`.cold`): what it jumps to outside of itself,
/// if that jumps back into its midst. A stripped file does not name them, but has call frame information for each. Such a
/// piece can well be nearly all of the function: to GCC 16, what is reached through a table of addresses is cold.
fn whole(
    elf: &Elf<'_>,
    function: Symbol,
    extents: &[Range<u64>],
) -> Result<Vec<Range<u64>>, ElfError> {
    let hot = function.address..function.address.saturating_add(function.size);
    let code = read(elf, &hot)?;
    let mut parts = vec![hot.clone()];
    let mut seen = HashSet::new();
    let mut waiting = targets(&code, hot.start);
    while let Some(target) = waiting.pop() {
        if parts.iter().any(|part| part.contains(&target))
            || !seen.insert(target)
            || seen.len() > MOST_COLD_PARTS
        {
            continue;
        }
        let extent = extents
            .partition_point(|extent| extent.start <= target)
            .checked_sub(1)
            .map(|at| &extents[at])
            .filter(|extent| extent.contains(&target));
        let (part, targets) = match extent {
            Some(extent) => {
                let Ok(code) = read(elf, extent) else {
                    continue;
                };
                (extent.clone(), targets(&code, extent.start))
            }
            None => {
                let Ok(code) = elf.bytes_at(target, MOST_RUN_BYTES) else {
                    continue;
                };
                let (end, targets) = straight(&code, target);
                (target..end, targets)
            }
        };
        // Another function may go on with this one, which takes it to its start.
        if targets
            .iter()
            .any(|target| hot.contains(target) && *target != hot.start)
        {
            parts.push(part);
            waiting.extend(targets);
        }
    }
    parts.sort_unstable_by_key(|part| part.start);
    Ok(parts)
}

/// Where functions, and pieces of them that lie apart, begin and end, sorted. Empty: nothing says so.
fn extents(file: &File) -> Vec<Range<u64>> {
    let sections = Sections::read(&file);
    let mut extents = sections.map_or_else(|_| Vec::new(), |sections| cfi::extents(&sections));
    extents.sort_unstable_by_key(|extent| extent.start);
    extents
}

fn read(elf: &Elf<'_>, code: &Range<u64>) -> Result<Vec<u8>, ElfError> {
    let length = usize::try_from(code.end - code.start).unwrap_or(MOST_LOOP_BYTES);
    elf.bytes_at(code.start, length.min(MOST_LOOP_BYTES))
}

/// What is jumped to in some code.
fn targets(code: &[u8], from: u64) -> Vec<u64> {
    Decoder::with_ip(64, code, from, DecoderOptions::NONE)
        .iter()
        .filter_map(|instruction| jumps_to(&instruction))
        .collect()
}

/// From a place up to the first instruction that nothing follows: where that ends, and what is jumped to on the way.
fn straight(code: &[u8], from: u64) -> (u64, Vec<u64>) {
    let mut targets = Vec::new();
    let mut end = from;
    for instruction in &mut Decoder::with_ip(64, code, from, DecoderOptions::NONE) {
        if instruction.is_invalid() {
            break;
        }
        end = instruction.next_ip();
        targets.extend(jumps_to(&instruction));
        let flow = instruction.flow_control();
        if matches!(
            flow,
            FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch
                | FlowControl::Return
                | FlowControl::Exception
        ) {
            break;
        }
    }
    (end, targets)
}

fn jumps_to(instruction: &Instruction) -> Option<u64> {
    let jumps = matches!(
        instruction.flow_control(),
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
    ) && instruction.op0_kind() == OpKind::NearBranch64;
    jumps.then(|| instruction.near_branch_target())
}
