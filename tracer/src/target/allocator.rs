//! The allocator that a process uses, and where to probe it.

use std::{
    collections::HashSet,
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use highwater_common::cookie::Function;

use super::{
    Target, TargetError,
    elf::{Elf, ElfError},
    mapped_file::{self, MappedFile},
    maps::{self, Mapping, MappingName},
    placement::{self, Placement},
    probed_code::{self, Changed, FirstInstructions, ProbedCode},
    safety, thunk,
};

/// Most files that are looked into. Large desktop programs map some five hundred.
const FILE_LIMIT: usize = 8192;

/// The allocator that a process uses: its glibc.
#[derive(Debug)]
pub struct Allocator {
    /// The library's path, as the process names it.
    pub name: PathBuf,
    /// The library, held open.
    pub file: File,
    /// Its GNU build id, hexadecimal.
    pub build_id: Option<String>,
    /// Where its code is mapped; empty where it is not mapped yet.
    pub text: Range<u64>,
    /// Where in it the allocator's own functions lie, mapped like `text`: from the first that it exports to the last.
    /// Calls from there are the allocator's own doing.
    pub own_code: Range<u64>,
    /// Where to probe it, in the order of [`Function::ALL`]. One probe for functions that are the same code, none for
    /// those that only call `free`.
    pub probes: Vec<ProbePoint>,
    /// Another mapped file that exports `malloc` and `free` too: calls may go there, and then are not seen here.
    pub interposed_by: Option<PathBuf>,
    /// Mapped files that could not be opened or understood: one of them may hold another allocator.
    pub unexamined: Vec<PathBuf>,
    /// Functions that are not probed, because the process has patched them in memory.
    pub patched: Vec<Changed>,
    /// What of the process's memory is probed; none where the library is not mapped yet.
    pub in_memory: Option<ProbedCode>,
}

/// A file with functions to be probed.
#[derive(Clone, Copy, Debug)]
pub struct Library<'a> {
    /// The file, open for reading.
    pub file: &'a File,
    /// What it is called, for errors.
    pub name: &'a Path,
}

impl Allocator {
    /// The file that is probed.
    pub fn library(&self) -> Library<'_> {
        Library {
            file: &self.file,
            name: &self.name,
        }
    }
}

/// Where to probe one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePoint {
    /// The allocator function that begins there.
    pub function: Function,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes past the symbol.
    pub symbol_offset: u64,
    /// The kernel emulates the instruction there; single-stepping is some 30 times slower in a virtual machine.
    pub emulated: bool,
    /// Calls with NULL are not seen.
    pub past_null_check: bool,
    /// How far below the return address the stack pointer is there, bytes. 0 for all that return a block.
    pub pushed_bytes: u64,
    /// The function's code in its file.
    pub code: FirstInstructions,
}

/// Finds the glibc that a process maps.
///
/// # Errors
///
/// [`TargetError::Refused`] where there is none; [`TargetError::Patched`] or [`TargetError::Patcher`] where probes could kill the process;
/// `NotPermitted` or `Gone` where we could not look.
pub fn find(target: &Target) -> Result<Allocator, TargetError> {
    find_with(target, false)
}

/// The same in a process that has probes of ours in it already.
///
/// # Errors
///
/// As of [`find`].
pub fn find_probed(target: &Target) -> Result<Allocator, TargetError> {
    find_with(target, true)
}

fn find_with(target: &Target, has_our_probes: bool) -> Result<Allocator, TargetError> {
    let survey = survey(target)?;
    let Some(found) = survey.glibc else {
        return Err(safety::without_glibc(&survey).of(target));
    };
    let elf_error = |source| TargetError::Elf {
        path: found.library.clone(),
        source,
    };
    let elf = Elf::open(&found.mapped.file).map_err(elf_error)?;
    let (build_id, probes) = (elf.build_id(), probe_points(&elf).map_err(elf_error)?);
    let mapped_at = |file_offset: u64| {
        let into = file_offset.checked_sub(found.text_offset)?;
        found
            .text
            .start
            .checked_add(into)
            .filter(|at| found.text.contains(at))
    };
    let own_code = own_code(&elf).map_err(elf_error)?;
    let own_code = match (mapped_at(own_code.start), mapped_at(own_code.end)) {
        (Some(start), Some(end)) => start..end,
        _ => 0..0,
    };
    drop(elf);
    if let Some(library) = survey.patcher {
        return Err(TargetError::Patcher {
            pid: target.pid,
            command: target.command.clone(),
            library,
        });
    }
    let in_memory = ProbedCode::of(target, &survey.maps, &found.mapping, &probes)?;
    let patched = patched(target, has_our_probes, &in_memory, &survey.maps)?;
    let probes: Vec<ProbePoint> = probes
        .into_iter()
        .filter(|probe| patched.iter().all(|it| it.function != probe.function))
        .collect();
    Ok(Allocator {
        // A patch may change without harm to what is not probed.
        in_memory: Some(in_memory.without(&patched)),
        name: found.library,
        file: found.mapped.file,
        build_id,
        text: found.text,
        own_code,
        probes,
        interposed_by: survey.interposed_by,
        unexamined: survey.unexamined,
        patched,
    })
}

/// The functions that must not be probed, because something else than their file's code is in memory. Without `malloc` or
/// `free` there is nothing to be learned.
fn patched(
    target: &Target,
    has_our_probes: bool,
    code: &ProbedCode,
    maps: &[Mapping],
) -> Result<Vec<Changed>, TargetError> {
    // A breakpoint is another uprobe's, which the kernel knows how to share, unless somebody is there who sets his own.
    let others_breakpoints =
        !has_our_probes && (target.debugger().is_some() || target.catches_breakpoints());
    let changed = code.changed(maps, others_breakpoints);
    let needed = |change: &&Changed| matches!(change.function, Function::Malloc | Function::Free);
    match changed.iter().find(needed) {
        Some(change) => Err(TargetError::Patched {
            pid: target.pid,
            command: target.command.clone(),
            debugger: target.debugger(),
            change: change.clone(),
        }),
        None => Ok(changed),
    }
}

/// Looks into a glibc that is not mapped yet, by its path.
///
/// # Errors
///
/// [`TargetError::Read`] or [`TargetError::Elf`]; their pid is our own.
pub fn in_library(path: &Path) -> Result<Allocator, TargetError> {
    let file = File::open(path).map_err(|source| TargetError::Read {
        pid: std::process::id(),
        path: path.to_owned(),
        source,
    })?;
    let elf_error = |source| TargetError::Elf {
        path: path.to_owned(),
        source,
    };
    let elf = Elf::open(&file).map_err(elf_error)?;
    let (build_id, probes) = (elf.build_id(), probe_points(&elf).map_err(elf_error)?);
    drop(elf);
    Ok(Allocator {
        name: path.to_owned(),
        file,
        build_id,
        text: 0..0,
        own_code: 0..0,
        probes,
        interposed_by: None,
        unexamined: Vec::new(),
        patched: Vec::new(),
        in_memory: None,
    })
}

/// Where to probe the allocator functions of a file.
pub(super) fn points_of(file: &File) -> Result<Vec<ProbePoint>, ElfError> {
    probe_points(&Elf::open(file)?)
}

/// What a process maps that matters to us.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) glibc: Option<Glibc>,
    pub(super) musl: bool,
    pub(super) interposed_by: Option<PathBuf>,
    pub(super) unexamined: Vec<PathBuf>,
    /// A library that patches or copies code while the program runs.
    pub(super) patcher: Option<PathBuf>,
    /// Some part of a glibc is mapped, executable or not.
    pub(super) has_part_of_glibc: bool,
    pub(super) maps: Vec<Mapping>,
}

#[derive(Debug)]
pub(super) struct Glibc {
    library: PathBuf,
    mapped: MappedFile,
    mapping: Mapping,
    text: Range<u64>,
    /// Where in the file `text` begins.
    text_offset: u64,
}

/// Looks into every file whose code a process maps.
pub(super) fn survey(target: &Target) -> Result<Survey, TargetError> {
    let maps = maps::read(&target.proc_dir())?;
    let mut survey = Survey::default();
    let mut denied = None;
    for code in files_with_code(&maps).take(FILE_LIMIT) {
        let MappingName::File(name, _) = &code.path else {
            continue;
        };
        survey.musl |= is_musl(name);
        if probed_code::is_patcher(name) {
            survey.patcher.get_or_insert_with(|| name.clone());
        }
        let mapped = match mapped_file::open(target, code) {
            Ok(mapped) => mapped,
            Err(gone @ TargetError::Gone { .. }) if !target.is_alive() => return Err(gone),
            Err(error) => {
                denied.get_or_insert(error);
                survey.unexamined.push(name.clone());
                continue;
            }
        };
        match role(&mapped.file) {
            Ok(Role::Glibc) if survey.glibc.is_none() => {
                survey.glibc = Some(Glibc {
                    library: name.clone(),
                    text: text_range(&maps, code),
                    text_offset: code.offset,
                    mapping: code.clone(),
                    mapped,
                });
            }
            Ok(Role::Interposer) => {
                survey.interposed_by.get_or_insert_with(|| name.clone());
            }
            // A second glibc (`dlmopen`, or a debugger's) has its own heap, and few calls go there.
            Ok(Role::Glibc | Role::None) | Err(ElfError::NotElf) => {}
            Err(_) => survey.unexamined.push(name.clone()),
        }
    }
    survey.has_part_of_glibc = maps.iter().any(is_of_glibc);
    survey.maps = maps;
    match denied {
        // What we look for is among the files that we could not open.
        Some(error) if survey.glibc.is_none() && !survey.musl => Err(error),
        _ => Ok(survey),
    }
}

/// The first executable mapping of each file.
fn files_with_code(maps: &[Mapping]) -> impl Iterator<Item = &Mapping> {
    let mut seen = HashSet::new();
    maps.iter()
        .filter(|map| map.executable && matches!(map.path, MappingName::File(..)))
        .filter(move |map| seen.insert((map.device, map.inode)))
}

/// The executable mappings of a file that follow on each other without a gap, from `first` on.
fn text_range(maps: &[Mapping], first: &Mapping) -> Range<u64> {
    let mut range = first.start..first.end;
    for map in maps {
        let same_file = (map.device, map.inode) == (first.device, first.inode);
        if map.start == range.end && map.executable && same_file {
            range.end = map.end;
        }
    }
    range
}

enum Role {
    /// It exports `malloc`, `free` and `gnu_get_libc_version`.
    Glibc,
    /// It exports `malloc` and `free` and is not a libc.
    Interposer,
    None,
}

fn role(file: &File) -> Result<Role, ElfError> {
    let elf = Elf::open(file)?;
    if !elf.exports("malloc")? || !elf.exports("free")? {
        return Ok(Role::None);
    }
    if elf.exports("gnu_get_libc_version")? {
        return Ok(Role::Glibc);
    }
    // Until glibc 2.33 the dynamic linker exported the allocator that it uses before libc is there.
    let soname = elf.soname().unwrap_or_default();
    let is_libc_itself = soname.starts_with(b"ld-linux") || soname.starts_with(b"libc.musl");
    Ok(if is_libc_itself {
        Role::None
    } else {
        Role::Interposer
    })
}

/// Whether a mapping is of a file that is named as glibc is.
pub(super) fn is_of_glibc(mapping: &Mapping) -> bool {
    matches!(&mapping.path, MappingName::File(name, _) if name.file_name().is_some_and(|name| name == "libc.so.6"))
}

fn is_musl(name: &Path) -> bool {
    name.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with("ld-musl-") || name.starts_with("libc.musl-")
    })
}

/// Functions of glibc's `malloc.c`, which is compiled as one piece, so that what lies between them is the allocator too.
/// (`reallocarray` is a file of its own.)
///
/// `__default_morecore` is a leftover for programs of before glibc 2.34, which `malloc.c` includes before all else of its
/// own. It is what tells where the piece begins: with 2.43 all that takes memory from the kernel lies before `malloc`, and
/// `malloc` itself jumps there, so that no frame of it is on the stack.
const ALLOCATOR_FUNCTIONS: [&str; 14] = [
    "__default_morecore",
    "malloc",
    "free",
    "realloc",
    "calloc",
    "memalign",
    "valloc",
    "pvalloc",
    "posix_memalign",
    "malloc_trim",
    "malloc_usable_size",
    "mallopt",
    "malloc_info",
    "malloc_stats",
];

/// File offsets from the first to the last of the allocator's functions.
fn own_code(elf: &Elf<'_>) -> Result<Range<u64>, ElfError> {
    let (mut start, mut end) = (u64::MAX, 0);
    for name in ALLOCATOR_FUNCTIONS {
        for symbol in elf.functions(name)? {
            if let Some(offset) = elf.file_offset(symbol.address) {
                start = start.min(offset);
                end = end.max(offset.saturating_add(symbol.size));
            }
        }
    }
    Ok(if start < end { start..end } else { 0..0 })
}

/// Where to probe each allocator function of a library, once for each piece of code.
fn probe_points(elf: &Elf<'_>) -> Result<Vec<ProbePoint>, ElfError> {
    let mut points = Vec::new();
    let mut probed = HashSet::new();
    for function in Function::ALL {
        for symbol in elf.functions(function.symbol())? {
            let is_free = function == Function::Free;
            if !probed.insert(symbol.address)
                || (function.frees()
                    && !is_free
                    && thunk::leads_to(elf, &symbol, Function::Free.symbol()))
            {
                continue;
            }
            let code = elf.code(&symbol)?;
            let Placement {
                offset,
                emulated,
                past_null_check,
                pushed_bytes,
            } = placement::place(&code, symbol.address, function);
            let outside = ElfError::Damaged("a function that lies outside of it");
            let address = symbol.address.checked_add(offset);
            points.push(ProbePoint {
                function,
                offset: address
                    .and_then(|address| elf.file_offset(address))
                    .ok_or(outside)?,
                symbol_offset: offset,
                emulated,
                past_null_check,
                pushed_bytes,
                code: FirstInstructions::of(&code, offset),
            });
        }
    }
    if points.is_empty() {
        return Err(
            io::Error::new(io::ErrorKind::NotFound, "it exports no allocator function").into(),
        );
    }
    Ok(points)
}

#[cfg(test)]
mod tests;
