//! The kernel side, loaded: maps and tracepoint programs through aya, uprobe programs by our own system calls on the same
//! object, relocated against aya's maps: aya 0.14 does not know all kinds of links.

mod ahead;
mod object;
mod processes;
mod readings;

use std::{
    collections::HashMap,
    ffi::CStr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{Array, HashMap as BpfHashMap, Map, MapData, PerCpuArray},
    programs::{ProgramError, RawTracePoint},
};
use aya_obj::{Object, generated::bpf_insn};
use highwater_common::{
    config::PATCHED_ALTERNATE_STACK,
    loss::Losses,
    process::TracedProcess,
    python::{CodeKey, Interpreter},
    sampling::{QUANTILE_SHIFT, QUANTILES, Sampling},
    stranger::Strangers,
};

use crate::own_memory;

use self::{
    ahead::{Ahead, Unloaded},
    object::{map_fd, relocate},
};
use super::{
    ProbeError,
    btf::{self, KernelTypes},
    pins::Pins,
    ring::Ring,
    sizes::Sizes,
    sys::{self, Attach, Purpose},
    tables::Tables,
};

/// The object built by `cargo xtask ebpf`; see docs/architecture/build.md, "The committed object".
static OBJECT: &[u8] = include_bytes_aligned!("highwater.bpf.o");

/// Helper numbers that do not exist and stand for kernel functions; the kernel side uses the same.
const KERNEL_FUNCTIONS: [(i32, &str); 1] = [(0x7fff_0001, "bpf_session_is_return")];

/// Opcode of a call; `src_reg` says of what.
const BPF_CALL: u8 = 0x85;
/// The bits of an opcode that say its class.
const BPF_CLASS: u8 = 0x07;
/// The class of loads.
const BPF_LDX: u8 = 0x01;
/// `src_reg` of a call of a kernel function.
const PSEUDO_KERNEL_FUNCTION: u8 = 2;

/// The tracepoints of a process's life, and the programs for them.
const TRACEPOINTS: [(&str, &str); 4] = [
    ("hw_fork", "sched_process_fork"),
    ("hw_exec", "sched_process_exec"),
    ("hw_exit", "sched_process_exit"),
    ("hw_oom", "mark_victim"),
];

/// The program that changes a traced process for us.
const UPDATE: &str = "hw_update";
/// ... and that gives it numbers of program images.
const IMAGE: &str = "hw_image";
/// The program that sees addresses given out anew.
const REMAP: &str = "hw_remap";
/// Those that see the system calls that change address spaces begin and end.
const CALL_BEGINS: &str = "hw_call_begins";
const CALL_ENDS: &str = "hw_call_ends";

/// The rings that the kernel side writes.
pub struct Rings {
    /// Events of calls, and of processes' lives.
    pub events: Ring,
    /// Frees that found no room among them.
    pub spilled: Ring,
    /// Definitions of stacks and of Python code objects.
    pub stacks: Ring,
}

/// highwater's kernel side.
pub struct Kernel {
    /// First, so that it is over before the maps that it names are closed.
    ahead: Ahead,
    ebpf: Ebpf,
    object: Object,
    btf: Arc<OwnedFd>,
    types: KernelTypes,
    programs: HashMap<(String, u32), Arc<OwnedFd>>,
    pins: Option<Arc<Pins>>,
    processes: BpfHashMap<MapData, u32, TracedProcess>,
    changes: Array<MapData, u64>,
    /// How often we have changed `processes`.
    changed: u64,
    losses: BpfHashMap<MapData, u32, Losses>,
    sampling: Array<MapData, Sampling>,
    strangers: Array<MapData, Strangers>,
    /// Open for programs that are loaded later.
    _exponential: Array<MapData, u32>,
    counters: PerCpuArray<MapData, u64>,
    selftest: Array<MapData, u64>,
    calls: PerCpuArray<MapData, u64>,
    scan: Array<MapData, u64>,
    interpreters: Array<MapData, Interpreter>,
    sent_code: BpfHashMap<MapData, CodeKey, u8>,
    tables: Tables,
    /// Links of tracepoints that aya does not hold.
    links: Vec<OwnedFd>,
}

/// A tracepoint program that could not be loaded, attached or run.
fn attaching(program: &str, source: ProgramError) -> ProbeError {
    ProbeError::Attach {
        program: program.to_owned(),
        source,
    }
}

impl Kernel {
    /// Loads the object and its maps; no program is attached yet. Rings are rounded up to a power of two pages.
    pub fn load(sizes: &Sizes) -> Result<Self, ProbeError> {
        let types = btf::running_kernel()?;
        // The kernel's types take megabytes, and few of them are kept.
        own_memory::give_back();
        Self::load_with(types, sizes)
    }

    /// Makes the maps anew, of other sizes; programs and links are gone. The place where links are pinned stays.
    pub fn resize(mut self, sizes: &Sizes) -> Result<Self, ProbeError> {
        let (types, pins) = (self.types.clone(), self.pins.take());
        // Before the others are made: both at once would be more than is needed.
        drop(self);
        own_memory::give_back();
        let kernel = Self::load_with(types, sizes)?;
        Ok(Self { pins, ..kernel })
    }

    fn load_with(types: KernelTypes, sizes: &Sizes) -> Result<Self, ProbeError> {
        let tables = sizes.tables();
        let mut loader = EbpfLoader::new();
        let log_level = log::max_level() as u8;
        let loader = loader
            .btf(None)
            .override_global("KERNEL_OFFSETS", &types.offsets, true)
            .override_global("TABLE_SIZES", &tables, true)
            .override_global("AYA_LOG_LEVEL", &log_level, false);
        for (map, entries) in sizes.entries() {
            loader.map_max_entries(map, entries);
        }
        let mut ebpf = sys::aside(|| loader.load(OBJECT))?;
        for name in [UPDATE, IMAGE] {
            let program: &mut RawTracePoint = ebpf
                .program_mut(name)
                .ok_or_else(|| ProbeError::Object(format!("it has no program {name}")))?
                .try_into()
                .map_err(|source| attaching(name, source))?;
            sys::aside(|| program.load()).map_err(|source| attaching(name, source))?;
        }
        let table_maps = ebpf
            .map("TABLES")
            .and_then(map_fd)
            .ok_or_else(|| ProbeError::Object("it has no map TABLES".to_owned()))
            .and_then(|fd| {
                // SAFETY: aya holds the descriptor open for as long as `ebpf` lives.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                fd.try_clone_to_owned().map_err(ProbeError::Tables)
            })?;
        own_memory::give_back();
        let (object, btf) = relocate(&ebpf)?;
        own_memory::give_back();
        let processes = take(&mut ebpf, "PROCESSES")?;
        let changes = take(&mut ebpf, "CHANGES")?;
        let losses = take(&mut ebpf, "LOSSES")?;
        let sampling = take(&mut ebpf, "SAMPLING")?;
        let strangers = take(&mut ebpf, "STRANGERS")?;
        let mut exponential: Array<MapData, u32> = take(&mut ebpf, "EXPONENTIAL")?;
        for (index, quantile) in (0..).zip(exponential_quantiles()) {
            exponential
                .set(index, quantile, 0)
                .map_err(|source| ProbeError::Map {
                    name: "EXPONENTIAL",
                    source,
                })?;
        }
        let counters = take(&mut ebpf, "COUNTERS")?;
        let selftest = take(&mut ebpf, "SELFTEST")?;
        let calls = take(&mut ebpf, "CALLS")?;
        let scan = take(&mut ebpf, "SCAN")?;
        let interpreters = take(&mut ebpf, "INTERPRETERS")?;
        let sent_code = take(&mut ebpf, "SENT_CODE")?;
        let tables = Tables::new(
            table_maps,
            take(&mut ebpf, "RULES")?,
            take(&mut ebpf, "CODE_RANGES")?,
        );
        Ok(Self {
            ahead: Ahead::default(),
            ebpf,
            object,
            btf: Arc::new(btf),
            types,
            programs: HashMap::new(),
            pins: None,
            processes,
            changes,
            changed: 0,
            losses,
            sampling,
            strangers,
            _exponential: exponential,
            counters,
            selftest,
            calls,
            scan,
            interpreters,
            sent_code,
            tables,
            links: Vec::new(),
        })
    }

    /// The unwind tables.
    pub fn tables(&mut self) -> &mut Tables {
        &mut self.tables
    }

    /// The rings; once.
    pub fn take_rings(&mut self) -> Result<Rings, ProbeError> {
        let mut ring = |name| Ring::new(take(&mut self.ebpf, name)?).map_err(ProbeError::Ring);
        Ok(Rings {
            events: ring("EVENTS")?,
            spilled: ring("SPILLED")?,
            stacks: ring("STACKS")?,
        })
    }

    /// aya's own handle, for the log of error paths.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Starts to follow forks, execs, ends and out-of-memory kills. They stay attached as long as `self`.
    pub fn follow_processes(&mut self) -> Result<(), ProbeError> {
        for (name, tracepoint) in TRACEPOINTS {
            self.attach_tracepoint(name, tracepoint)?;
        }
        Ok(())
    }

    fn attach_tracepoint(&mut self, name: &str, tracepoint: &str) -> Result<(), ProbeError> {
        let failed = |source| attaching(name, source);
        let program: &mut RawTracePoint = self
            .ebpf
            .program_mut(name)
            .ok_or_else(|| ProbeError::Object(format!("it has no program {name}")))?
            .try_into()
            .map_err(failed)?;
        sys::aside(|| program.load()).map_err(failed)?;
        program.attach(tracepoint).map_err(failed)?;
        Ok(())
    }

    /// Starts to see off code whose addresses are given out anew, so that its tables are not used for what comes there. It
    /// stays attached as long as `self`. Without it (a kernel without this tracepoint), stacks through such code may be
    /// wrong for the moment until the user side has heard of it.
    pub fn follow_remapping(&mut self) -> Result<(), ProbeError> {
        self.link_tracepoint(REMAP, c"vm_unmapped_area")
    }

    /// Starts to follow the system calls that change address spaces. It stays attached as long as `self`, and makes every
    /// system call on the machine a little slower.
    pub fn follow_mappings(&mut self) -> Result<(), ProbeError> {
        self.link_tracepoint(CALL_BEGINS, c"sys_enter")?;
        self.link_tracepoint(CALL_ENDS, c"sys_exit")
    }

    /// Ends what [`follow_mappings`](Self::follow_mappings) and [`follow_remapping`](Self::follow_remapping) began.
    pub fn unfollow_mappings(&mut self) {
        self.links.clear();
    }

    /// Not by aya: its programs have no callbacks.
    fn link_tracepoint(
        &mut self,
        name: &'static str,
        tracepoint: &'static CStr,
    ) -> Result<(), ProbeError> {
        let program = self.load_program(name, Purpose::RawTracepoint)?;
        let link = sys::attach_tracepoint(program.as_fd(), tracepoint).map_err(|source| {
            ProbeError::Verifier {
                program: name.to_owned(),
                source,
                log: String::new(),
            }
        })?;
        self.links.push(link);
        Ok(())
    }

    /// Sets how calls are sampled from here on.
    pub fn set_sampling(&mut self, sampling: Sampling) -> Result<(), ProbeError> {
        self.sampling
            .set(0, sampling, 0)
            .map_err(|source| ProbeError::Map {
                name: "SAMPLING",
                source,
            })
    }

    /// Lets the self-test's programs count the calls of that process alone.
    pub(super) fn test_process(&mut self, tgid: u32) -> Result<(), ProbeError> {
        self.selftest
            .set(2, u64::from(tgid), 0)
            .map_err(|source| ProbeError::Map {
                name: "SELFTEST",
                source,
            })
    }

    /// Hits of the self-test's programs so far: entries, returns.
    pub(super) fn selftest_hits(&self) -> (u64, u64) {
        let read = |index| self.selftest.get(&index, 0).unwrap_or(0);
        (read(0), read(1))
    }

    /// What holds our links.
    pub(super) fn pins(&mut self) -> Arc<Pins> {
        Arc::clone(self.pins.get_or_insert_with(Pins::new))
    }

    /// A uprobe program, loaded for an attach type (`expected_attach_type`).
    pub(super) fn program(
        &mut self,
        name: &str,
        attach_type: u32,
    ) -> Result<Arc<OwnedFd>, ProbeError> {
        let key = (name.to_owned(), attach_type);
        if !self.programs.contains_key(&key) {
            let fd = self.load_program(name, Purpose::Uprobe(attach_type))?;
            self.programs.insert(key.clone(), Arc::new(fd));
        }
        Ok(Arc::clone(&self.programs[&key]))
    }

    /// Begins to load what a session is about to need, beside what else it starts: verifying is most of the time that an attach
    /// takes. What cannot be loaded is tried again where it is used, and fails there.
    pub fn load_ahead(&mut self, mappings: bool) {
        // Kernels without session links take one of two other kinds, and a trial says which.
        let sessions = self.types.functions.contains_key("bpf_session_is_return");
        let probes = [
            ("hw_session", Attach::Session),
            ("hw_entry", Attach::MultiEntry),
        ]
        .map(|(name, attach)| (name, Purpose::Uprobe(attach.program_type())));
        let calls = [REMAP, CALL_BEGINS, CALL_ENDS].map(|name| (name, Purpose::RawTracepoint));
        let calls = match mappings {
            true => &calls[..],
            false => &calls[..1],
        };
        for (programs, wanted) in [(&probes[..], sessions), (calls, true)] {
            let unloaded: Vec<Unloaded> = programs
                .iter()
                .filter(|_| wanted)
                .filter_map(|(name, purpose)| self.unloaded(name, *purpose).ok())
                .collect();
            if !unloaded.is_empty() {
                self.ahead.start(unloaded);
            }
        }
    }

    fn load_program(&mut self, name: &str, purpose: Purpose) -> Result<OwnedFd, ProbeError> {
        if let Some(loaded) = self.ahead.take(name, purpose) {
            return Ok(loaded);
        }
        let unloaded = self.unloaded(name, purpose)?;
        sys::aside(|| unloaded.load()).map_err(|(source, log)| ProbeError::Verifier {
            program: name.to_owned(),
            source,
            log,
        })
    }

    /// A program as this kernel takes it.
    fn unloaded(&self, name: &str, purpose: Purpose) -> Result<Unloaded, ProbeError> {
        let program = self
            .object
            .programs
            .get(name)
            .ok_or_else(|| ProbeError::Object(format!("it has no program {name}")))?;
        let mut function = self
            .object
            .functions
            .get(&program.function_key())
            .ok_or_else(|| ProbeError::Object(format!("program {name} has no code")))?
            .clone();
        for instruction in &mut function.instructions {
            self.patch(instruction);
        }
        Ok(Unloaded {
            name: name.to_owned(),
            function,
            license: program.license.clone(),
            btf: Arc::clone(&self.btf),
            purpose,
        })
    }

    /// Turns a call of a stand-in helper into the call of the kernel function that it stands for, and gives loads from a
    /// `task_struct` the running kernel's offsets.
    fn patch(&self, instruction: &mut bpf_insn) {
        let behind = instruction.off.wrapping_sub(PATCHED_ALTERNATE_STACK);
        if instruction.code & BPF_CLASS == BPF_LDX && [0, 8, 16].contains(&behind) {
            // Of a kernel without this member the load stays as it is, which the verifier refuses.
            let offset = i16::try_from(self.types.offsets.task_alternate_stack);
            instruction.off = offset.map_or(instruction.off, |offset| offset + behind);
        }
        if instruction.code != BPF_CALL || instruction.src_reg() != 0 {
            return;
        }
        let stand_in = KERNEL_FUNCTIONS
            .iter()
            .find(|(helper, _)| *helper == instruction.imm);
        // An unknown function stays a call of no helper, which the verifier refuses: the next kind of link is tried.
        if let Some(id) = stand_in.and_then(|(_, name)| self.types.functions.get(name)) {
            instruction.set_src_reg(PSEUDO_KERNEL_FUNCTION);
            instruction.imm = *id as i32;
        }
    }
}

/// Quantiles of the exponential distribution of mean 1, in the fixed point of the kernel side.
fn exponential_quantiles() -> impl Iterator<Item = u32> {
    (0..QUANTILES).map(|piece| {
        let below = f64::from(piece) / f64::from(QUANTILES);
        (-(-below).ln_1p() * f64::from(1u32 << QUANTILE_SHIFT)).round() as u32
    })
}

/// Takes a map out of aya's hands, as the type it has.
fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, ProbeError>
where
    T: TryFrom<Map, Error = aya::maps::MapError>,
{
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| ProbeError::Object(format!("it has no map {name}")))?;
    T::try_from(map).map_err(|source| ProbeError::Map { name, source })
}
