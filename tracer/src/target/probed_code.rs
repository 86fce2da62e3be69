//! The first instructions of probed functions: what their file has, and what a process has in memory.
//!
//! The kernel takes the instruction that a probe replaces from the file, and does not look at the memory. Where a program has patched a
//! function (an inline hook of frida, a live patch), the kernel would write its breakpoint into the midst of the patch and then
//! emulate an instruction that is not there: the process dies. So the bytes are compared before a probe goes in, and
//! again while it is in: a debugger that deletes its own breakpoint takes ours out with it.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use highwater_common::cookie::Function;
use iced_x86::{Decoder, DecoderOptions, OpKind};

use super::{
    Target, TargetError,
    allocator::ProbePoint,
    error::Privilege,
    maps::{Mapping, MappingName},
};

/// So many bytes of a patch are shown at least: those of a far jump.
const SHOWN: usize = 14;

/// `int3`: what a uprobe writes, and a debugger too.
const BREAKPOINT: u8 = 0xcc;

/// A function's code in its file, from its first byte to the end of the probed instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstInstructions {
    bytes: Box<[u8]>,
    /// Where each instruction begins; the last one is probed.
    begins: Box<[usize]>,
}

impl FirstInstructions {
    /// Of a function whose code begins so; `place` is where it is probed, bytes past its first.
    pub(super) fn of(code: &[u8], place: u64) -> Self {
        let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
        let mut begins = Vec::new();
        while decoder.can_decode() && decoder.ip() <= place {
            begins.push(decoder.position());
            let _ = decoder.decode();
        }
        Self {
            bytes: code[..decoder.position()].into(),
            begins: begins.into(),
        }
    }

    /// What these bytes of memory are, held against the file's.
    fn compare(&self, memory: &[u8]) -> InMemory {
        let begins_here = |at: usize| self.begins.contains(&at);
        let differs = |at: usize| memory.get(at) != self.bytes.get(at);
        let different: Vec<usize> = (0..self.bytes.len()).filter(|at| differs(*at)).collect();
        if different.is_empty() {
            return InMemory::Original;
        }
        let is_breakpoint = |at: &usize| begins_here(*at) && memory.get(*at) == Some(&BREAKPOINT);
        if different.iter().all(is_breakpoint) {
            let at_place = self.begins.last().is_some_and(|place| differs(*place));
            return InMemory::Breakpoints { at_place };
        }
        InMemory::Patched(memory.into())
    }
}

/// What a process has in place of a function's first instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InMemory {
    /// What the file has.
    Original,
    /// The same but for breakpoints; whether one stands where we probe.
    Breakpoints {
        /// On the instruction that we probe.
        at_place: bool,
    },
    /// Instructions other than the file's, which are these bytes.
    Patched(Box<[u8]>),
    /// Memory of no file: its code was copied elsewhere, and the probes would not be in what runs.
    Copied,
}

/// What a probe looks like.
const PROBE: InMemory = InMemory::Breakpoints { at_place: true };

/// One function in one place of a process's memory.
#[derive(Clone, Debug)]
struct Copy {
    function: Function,
    /// Of its first byte; none where no mapping of the file holds it.
    address: Option<u64>,
    code: FirstInstructions,
    /// What was there as this was made.
    at_first: InMemory,
}

/// The probed functions of a process, wherever they are mapped.
#[derive(Debug)]
pub struct ProbedCode {
    memory: File,
    copies: Vec<Copy>,
}

/// A function that is not what its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The allocator function that was changed.
    pub function: Function,
    /// What is there instead.
    pub found: InMemory,
    /// The file that a jump found there leads to.
    pub leads_to: Option<PathBuf>,
}

impl fmt::Display for Changed {
    /// `e9 cb f7 ff fb where its file has other code; it leads to /usr/lib/agent.so`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            InMemory::Original => f.write_str("it has what its file has"),
            InMemory::Breakpoints { .. } => f.write_str("it has a breakpoint that is no probe"),
            InMemory::Copied => f.write_str("its code lies in memory of no file"),
            InMemory::Patched(bytes) => {
                f.write_str("it has the bytes")?;
                for byte in bytes.iter().take(SHOWN) {
                    write!(f, " {byte:02x}")?;
                }
                f.write_str(", which its file has not")?;
                match &self.leads_to {
                    Some(path) => write!(f, "; they lead to {}", path.display()),
                    None => Ok(()),
                }
            }
        }
    }
}

impl ProbedCode {
    /// Looks up where the probed functions of the file behind `library` are mapped. A file may be mapped more than once, and
    /// the kernel puts a probe into each.
    ///
    /// # Errors
    ///
    /// The process's memory cannot be read: then no probe may go in.
    pub fn of(
        target: &Target,
        maps: &[Mapping],
        library: &Mapping,
        probes: &[ProbePoint],
    ) -> Result<Self, TargetError> {
        let path = target.proc_dir().join("mem");
        let unreadable = |source| {
            if target.is_alive() {
                TargetError::reading(target.pid, &path, Privilege::Inspect, source)
            } else {
                TargetError::Gone { pid: target.pid }
            }
        };
        let mut code = Self {
            memory: File::open(&path).map_err(unreadable)?,
            copies: Vec::new(),
        };
        for probe in probes {
            let first_byte = probe.offset - probe.symbol_offset;
            let addresses = maps.iter().filter_map(|map| {
                let is_of_file =
                    map.executable && (map.device, map.inode) == (library.device, library.inode);
                let into = first_byte.checked_sub(map.offset)?;
                (is_of_file && into < map.end - map.start).then_some(map.start + into)
            });
            let mut addresses: Vec<_> = addresses.map(Some).collect();
            if addresses.is_empty() {
                addresses.push(None);
            }
            for address in addresses {
                let found = code.look_at(address, &probe.code).map_err(unreadable)?;
                code.copies.push(Copy {
                    function: probe.function,
                    address,
                    code: probe.code.clone(),
                    at_first: found,
                });
            }
        }
        Ok(code)
    }

    /// Whether a breakpoint stood in one of the places as this was made: another tracer's, or one of ours.
    pub fn was_shared(&self) -> bool {
        let has_breakpoint = |copy: &Copy| matches!(copy.at_first, InMemory::Breakpoints { .. });
        self.copies.iter().any(has_breakpoint)
    }

    /// The same without functions that are not to be probed.
    pub(super) fn without(mut self, changed: &[Changed]) -> Self {
        let is_probed = |copy: &Copy| changed.iter().all(|it| it.function != copy.function);
        self.copies.retain(is_probed);
        self
    }

    /// What is in memory now, for each function in each place.
    ///
    /// # Errors
    ///
    /// The memory cannot be read: the process has ended, or unmapped the library.
    pub fn look(&self) -> io::Result<Vec<(Function, InMemory)>> {
        self.copies
            .iter()
            .map(|copy| Ok((copy.function, self.look_at(copy.address, &copy.code)?)))
            .collect()
    }

    /// The functions that have a breakpoint where we probe; none of a process that has ended.
    pub fn breakpoints(&self) -> Vec<Function> {
        let found = self.look().unwrap_or_default();
        let found = found.into_iter();
        found
            .filter(|(_, found)| *found == PROBE)
            .map(|(function, _)| function)
            .collect()
    }

    /// The functions that had one as this was made.
    pub(super) fn breakpoints_at_first(&self) -> Vec<Function> {
        let probed = self.copies.iter().filter(|copy| copy.at_first == PROBE);
        probed.map(|copy| copy.function).collect()
    }

    fn look_at(&self, address: Option<u64>, code: &FirstInstructions) -> io::Result<InMemory> {
        let Some(address) = address else {
            return Ok(InMemory::Copied);
        };
        let mut bytes = vec![0; code.bytes.len().max(SHOWN)];
        self.memory.read_exact_at(&mut bytes, address)?;
        Ok(code.compare(&bytes))
    }

    /// The functions that were not what their file says as this was made, breakpoints apart unless `breakpoints_count`.
    pub(super) fn changed(&self, maps: &[Mapping], breakpoints_count: bool) -> Vec<Changed> {
        let mut changed: Vec<Changed> = Vec::new();
        for copy in &self.copies {
            let counts = match &copy.at_first {
                InMemory::Original => false,
                InMemory::Breakpoints { .. } => breakpoints_count,
                InMemory::Patched(_) | InMemory::Copied => true,
            };
            if counts && changed.iter().all(|known| known.function != copy.function) {
                let leads_to = match (&copy.at_first, copy.address) {
                    (InMemory::Patched(bytes), Some(at)) => self.leads_to(bytes, at, maps),
                    _ => None,
                };
                changed.push(Changed {
                    function: copy.function,
                    found: copy.at_first.clone(),
                    leads_to,
                });
            }
        }
        changed
    }

    /// The file that a patch's first jump leads to.
    fn leads_to(&self, bytes: &[u8], address: u64, maps: &[Mapping]) -> Option<PathBuf> {
        let mut code = [0x90; 16];
        code.iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        // The patch may be longer than what we compare.
        let _ = self.memory.read_exact_at(&mut code, address);
        let jump = Decoder::with_ip(64, &code, address, DecoderOptions::NONE).decode();
        let to = if jump.op0_kind() == OpKind::NearBranch64 {
            jump.near_branch_target()
        } else if jump.is_ip_rel_memory_operand() {
            let mut pointer = [0; 8];
            let at = jump.ip_rel_memory_address();
            self.memory.read_exact_at(&mut pointer, at).ok()?;
            u64::from_ne_bytes(pointer)
        } else {
            return None;
        };
        let map = maps.iter().find(|map| (map.start..map.end).contains(&to))?;
        match &map.path {
            MappingName::File(path, _) => Some(path.clone()),
            MappingName::Special(_) | MappingName::Anonymous => None,
        }
    }
}

/// How often it is looked whether probes are out.
const OUT_LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits until no breakpoint is left where we probed, for so long at most; says whether that is so.
pub fn await_probes_out(codes: &[&ProbedCode], within: Duration) -> bool {
    let begun = Instant::now();
    loop {
        if codes.iter().all(|code| code.breakpoints().is_empty()) {
            return true;
        }
        if begun.elapsed() >= within {
            return false;
        }
        std::thread::sleep(OUT_LOOK_EVERY);
    }
}

/// Libraries that patch or copy code while a program runs, by parts of their file names: frida, Intel's large-page
/// preload, SUSE's live patching.
const PATCHERS: [&str; 6] = [
    "frida-agent",
    "frida-gadget",
    "liblppreload",
    "libiodlr",
    "libpulp.so",
    "libhugetlbfs",
];

/// Whether a library of that name is known to patch or copy code while the program runs: it would copy our breakpoints
/// too, and the copy would kill the process.
pub fn is_patcher(library: &Path) -> bool {
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    PATCHERS.iter().any(|patcher| name.contains(patcher))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `push r12; push rbp; push rbx; mov rbx, rdi; cmp rdi, 0x80`
    const CODE: &[u8] = b"\x41\x54\x55\x53\x48\x89\xfb\x48\x81\xff\x80\0\0\0";

    fn compare(place: u64, change: &[(usize, u8)]) -> InMemory {
        let mut memory = CODE.to_vec();
        for (at, byte) in change {
            memory[*at] = *byte;
        }
        let first = FirstInstructions::of(CODE, place);
        first.compare(&memory[..first.bytes.len()])
    }

    #[test]
    fn code_is_compared_as_far_as_the_probed_instruction_goes() {
        assert_eq!(&*FirstInstructions::of(CODE, 0).bytes, b"\x41\x54");
        assert_eq!(&*FirstInstructions::of(CODE, 3).bytes, &CODE[..4]);
        assert_eq!(compare(3, &[]), InMemory::Original);
        assert_eq!(compare(3, &[(4, 0xe9)]), InMemory::Original);
    }

    #[test]
    fn breakpoints_are_told_from_patches() {
        let at_place = |at_place| InMemory::Breakpoints { at_place };
        assert_eq!(compare(3, &[(3, 0xcc)]), at_place(true));
        assert_eq!(compare(3, &[(0, 0xcc)]), at_place(false));
        assert_eq!(compare(3, &[(0, 0xcc), (3, 0xcc)]), at_place(true));
        // In the midst of an instruction it is no breakpoint.
        assert!(matches!(compare(3, &[(1, 0xcc)]), InMemory::Patched(_)));
    }

    #[test]
    fn a_jump_at_the_entry_is_a_patch_although_the_place_is_a_breakpoint() {
        let jump = [(0, 0xe9), (1, 0xcb), (2, 0xf7), (3, 0xcc)];
        assert!(matches!(compare(3, &jump), InMemory::Patched(_)));
    }

    #[test]
    fn code_that_ends_early_is_compared_as_far_as_it_goes() {
        let first = FirstInstructions::of(&CODE[..3], 7);
        assert_eq!(&*first.bytes, &CODE[..3]);
        assert_eq!(first.compare(&CODE[..3]), InMemory::Original);
        assert_eq!(
            FirstInstructions::of(&[], 0).compare(&[]),
            InMemory::Original
        );
    }

    #[test]
    fn libraries_that_patch_code_are_known_by_their_names() {
        assert!(is_patcher(Path::new("/tmp/frida-1234/frida-agent-64.so")));
        assert!(!is_patcher(Path::new("/lib/x86_64-linux-gnu/libc.so.6")));
    }
}
