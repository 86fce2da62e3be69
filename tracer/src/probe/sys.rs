//! The only direct calls of `bpf(2)` and `perf_event_open(2)`: what aya 0.14 has no way to say (session and multi links),
//! and pinning them ([`super::pins`]).

use std::{
    ffi::{CStr, CString, c_int},
    fs::{self, File},
    io,
    num::NonZeroU32,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya_obj::{
    Function,
    generated::{
        PERF_FLAG_FD_CLOEXEC, bpf_attach_type, bpf_attr, bpf_cmd, bpf_map_type, bpf_prog_type,
        perf_event_attr, perf_sw_ids, perf_type_id,
    },
};
use highwater_common::unwind::TABLE_FLAGS;

use crate::priority;

/// How a program is linked to points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attach {
    /// `BPF_TRACE_UPROBE_SESSION`: entry and return in one program, from Linux 6.13.
    Session,
    /// `BPF_TRACE_UPROBE_MULTI`, from Linux 6.6.
    MultiEntry,
    /// The same with `BPF_F_UPROBE_MULTI_RETURN`.
    MultiReturn,
    /// `BPF_PERF_EVENT`: a perf event for each point.
    PerfEntry,
    /// The same, of return probes.
    PerfReturn,
}

impl Attach {
    /// `expected_attach_type` of a program for it.
    pub(super) fn program_type(self) -> u32 {
        match self {
            Self::Session => ATTACH_UPROBE_SESSION,
            Self::MultiEntry | Self::MultiReturn => ATTACH_UPROBE_MULTI,
            Self::PerfEntry | Self::PerfReturn => 0,
        }
    }
}

/// One place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// File offset of the instruction.
    pub offset: u64,
    /// Handed to the program.
    pub cookie: u64,
}

/// Attach type of a performance event (`BPF_PERF_EVENT`).
const ATTACH_PERF_EVENT: u32 = 41;
/// Attach type of many probes (`BPF_TRACE_UPROBE_MULTI`).
const ATTACH_UPROBE_MULTI: u32 = 48;
/// Attach type of many probes, of entry and return together (`BPF_TRACE_UPROBE_SESSION`).
const ATTACH_UPROBE_SESSION: u32 = 57;
/// Flag: the probes are at the functions' returns (`BPF_F_UPROBE_MULTI_RETURN`).
const UPROBE_MULTI_RETURN: u32 = 1;

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<c_int> {
    // SAFETY: `attr` is a whole, initialised bpf_attr, and every pointer its callers put in outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as c_int,
            &raw mut *attr,
            size_of::<bpf_attr>(),
        )
    };
    match c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

fn owned(fd: c_int) -> OwnedFd {
    // SAFETY: called with what bpf(2) or perf_event_open(2) has just returned: a new descriptor.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn zeroed() -> bpf_attr {
    // SAFETY: bpf_attr is a union of plain integers and arrays of them; the kernel wants unused bytes zero.
    unsafe { std::mem::zeroed() }
}

/// Loads type information, which programs with callbacks (`bpf_loop`) need.
pub(super) fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: plain integers; writing a union field is always valid.
    let load = unsafe { &mut attr.__bindgen_anon_7 };
    load.btf = btf.as_ptr() as u64;
    load.btf_size = btf.len() as u32;
    bpf(bpf_cmd::BPF_BTF_LOAD, &mut attr).map(owned)
}

/// Makes an inner map of `TABLES` that holds `elements`.
pub(super) fn create_table(elements: &[u64]) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: as in `load_btf`.
    let create = unsafe { &mut attr.__bindgen_anon_1 };
    create.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    create.key_size = size_of::<u32>() as u32;
    create.value_size = size_of::<u64>() as u32;
    create.max_entries = u32::try_from(elements.len())
        .map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?
        .max(1);
    create.map_flags = TABLE_FLAGS;
    for (to, from) in create.map_name.iter_mut().zip(b"TABLE") {
        *to = *from as _;
    }
    let map = bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr).map(owned)?;
    let bytes = size_of_val(elements);
    if bytes == 0 {
        return Ok(map);
    }
    // SAFETY: a new mapping at an address that the kernel chooses; nothing of ours is replaced.
    let place = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            bytes,
            rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
            rustix::mm::MapFlags::SHARED,
            &map,
            0,
        )
    }?;
    // SAFETY: the mapping is `bytes` long, writable, page-aligned, and nobody else knows of it.
    unsafe {
        std::ptr::copy_nonoverlapping(elements.as_ptr(), place.cast::<u64>(), elements.len());
    };
    // SAFETY: the mapping made above, whole; no reference into it is left.
    unsafe { rustix::mm::munmap(place, bytes) }?;
    Ok(map)
}

/// Puts inner maps into an array of maps, all in one call: the kernel waits for running programs after each.
pub(super) fn put_maps(outer: BorrowedFd<'_>, slots: &[u32], inner: &[OwnedFd]) -> io::Result<()> {
    let descriptors: Vec<c_int> = inner.iter().map(OwnedFd::as_raw_fd).collect();
    let mut attr = zeroed();
    attr.batch.keys = slots.as_ptr() as u64;
    attr.batch.values = descriptors.as_ptr() as u64;
    attr.batch.count = slots.len().min(descriptors.len()) as u32;
    attr.batch.map_fd = outer.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).map(drop)
}

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// Probes of this attach type (0: perf events).
    Uprobe(u32),
    /// Iterating over tasks; the type id of the kernel's `bpf_iter_task`.
    TaskIterator(u32),
    /// Running at a tracepoint.
    RawTracepoint,
}

/// Has the kernel do some long work for us: verifying our programs takes it hundreds of milliseconds.
pub(super) fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    priority::giving_way("hw-load", work)
}

/// Loads a program. On failure the second part is the verifier's log.
pub(super) fn load_program(
    name: &str,
    function: &Function,
    license: &CString,
    btf: BorrowedFd<'_>,
    purpose: Purpose,
) -> Result<OwnedFd, (io::Error, String)> {
    let func_info = function.func_info.func_info_bytes();
    let mut log = Vec::new();
    loop {
        let mut attr = zeroed();
        // SAFETY: as in `load_btf`.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        for (to, from) in load.prog_name.iter_mut().take(15).zip(name.bytes()) {
            *to = from as _;
        }
        match purpose {
            Purpose::Uprobe(attach_type) => {
                load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
                load.expected_attach_type = attach_type;
            }
            Purpose::RawTracepoint => {
                load.prog_type = bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT as u32;
            }
            Purpose::TaskIterator(function) => {
                load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
                load.expected_attach_type = ATTACH_ITERATOR;
                load.attach_btf_id = function;
            }
        }
        load.insns = function.instructions.as_ptr() as u64;
        load.insn_cnt = function.instructions.len() as u32;
        load.license = license.as_ptr() as u64;
        load.prog_btf_fd = btf.as_raw_fd() as u32;
        if function.func_info_rec_size > 0 {
            load.func_info = func_info.as_ptr() as u64;
            load.func_info_rec_size = function.func_info_rec_size as u32;
            load.func_info_cnt = (func_info.len() / function.func_info_rec_size) as u32;
        }
        if !log.is_empty() {
            load.log_level = 1;
            load.log_buf = log.as_mut_ptr() as u64;
            load.log_size = log.len() as u32;
        }
        match bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr) {
            Ok(fd) => return Ok(owned(fd)),
            // Once more with room for the log: verifying with a log is many times slower, so not at first.
            Err(_) if log.is_empty() => log.resize(16 << 20, 0u8),
            Err(error) => {
                let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
                return Err((error, String::from_utf8_lossy(&log[..end]).into_owned()));
            }
        }
    }
}

/// Links a program to one point of a file, in one process, by a link of the multi family.
pub(super) fn link_uprobe(
    program: BorrowedFd<'_>,
    attach: Attach,
    path: &CStr,
    point: Point,
    pid: NonZeroU32,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.attach_type = attach.program_type();
    // SAFETY: as in `load_btf`.
    let multi = unsafe { &mut attr.link_create.__bindgen_anon_3.uprobe_multi };
    multi.path = path.as_ptr() as u64;
    multi.offsets = &raw const point.offset as u64;
    multi.cookies = &raw const point.cookie as u64;
    multi.cnt = 1;
    multi.flags = if attach == Attach::MultiReturn {
        UPROBE_MULTI_RETURN
    } else {
        0
    };
    multi.pid = pid.get();
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

/// Gives a link a file in a BPF file system, which holds it from then on.
pub(super) fn pin(link: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    let path = CString::new(path)?;
    let mut attr = zeroed();
    // SAFETY: as in `load_btf`.
    let pin = unsafe { &mut attr.__bindgen_anon_4 };
    pin.pathname = path.as_ptr() as u64;
    pin.bpf_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Attach type of an iterator over kernel objects (`BPF_TRACE_ITER`).
const ATTACH_ITERATOR: u32 = bpf_attach_type::BPF_TRACE_ITER as u32;

/// Attaches a program to a tracepoint.
pub(super) fn attach_tracepoint(program: BorrowedFd<'_>, tracepoint: &CStr) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.raw_tracepoint.name = tracepoint.as_ptr() as u64;
    attr.raw_tracepoint.prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr).map(owned)
}

/// Runs an iterator program over all tasks.
pub(super) fn run_iterator(program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.attach_type = ATTACH_ITERATOR;
    let link = owned(bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)?);
    let mut attr = zeroed();
    attr.iter_create.link_fd = link.as_raw_fd() as u32;
    let iterator = File::from(owned(bpf(bpf_cmd::BPF_ITER_CREATE, &mut attr)?));
    // The program writes nothing: the read runs it over everything and finds the end.
    io::copy(&mut &iterator, &mut io::sink()).map(drop)
}

/// Links a program to one point, in one thread, by a perf event. The link keeps the event.
pub(super) fn link_perf_event(
    program: BorrowedFd<'_>,
    at_return: bool,
    path: &CStr,
    point: Point,
    tid: NonZeroU32,
) -> io::Result<OwnedFd> {
    let event = open_uprobe_event(at_return, path, point.offset, tid)?;
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_fd = event.as_raw_fd() as u32;
    attr.link_create.attach_type = ATTACH_PERF_EVENT;
    attr.link_create.__bindgen_anon_3.perf_event.bpf_cookie = point.cookie;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

/// `PERF_SAMPLE_TIME` of `enum perf_event_sample_format`.
const PERF_SAMPLE_TIME: u64 = 1 << 2;

/// Opens an event that records which process maps code, of all processes on one processor.
pub(super) fn open_mapping_events(cpu: u32) -> io::Result<OwnedFd> {
    // SAFETY: perf_event_attr is plain integers and unions of them; the kernel wants unused bytes zero.
    let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
    attr.size = size_of::<perf_event_attr>() as u32;
    attr.type_ = perf_type_id::PERF_TYPE_SOFTWARE as u32;
    attr.config = perf_sw_ids::PERF_COUNT_SW_DUMMY as u64;
    attr.set_mmap(1);
    attr.set_mmap2(1);
    // Each record ends with its time, by the clock of all other events.
    attr.set_sample_id_all(1);
    attr.sample_type = PERF_SAMPLE_TIME;
    attr.set_use_clockid(1);
    attr.clockid = libc::CLOCK_MONOTONIC;
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = 1;
    let (any_process, no_group): (c_int, c_int) = (-1, -1);
    // SAFETY: `attr` is whole and initialised.
    let event = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            any_process,
            cpu as c_int,
            no_group,
            u64::from(PERF_FLAG_FD_CLOEXEC),
        )
    };
    match c_int::try_from(event) {
        Ok(event) if event >= 0 => Ok(owned(event)),
        _ => Err(io::Error::last_os_error()),
    }
}

fn open_uprobe_event(
    at_return: bool,
    path: &CStr,
    offset: u64,
    tid: NonZeroU32,
) -> io::Result<OwnedFd> {
    // SAFETY: perf_event_attr is plain integers and unions of them; the kernel wants unused bytes zero.
    let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
    attr.size = size_of::<perf_event_attr>() as u32;
    attr.type_ = event_source("type", |text| text.parse().ok())?;
    if at_return {
        let bit: u32 = event_source("format/retprobe", |text| {
            text.strip_prefix("config:")?.parse().ok()
        })?;
        attr.config = 1u64.checked_shl(bit).unwrap_or(0);
    }
    attr.__bindgen_anon_3.uprobe_path = path.as_ptr() as u64;
    attr.__bindgen_anon_4.probe_offset = offset;
    let (any_cpu, no_group): (c_int, c_int) = (-1, -1);
    // SAFETY: `attr` is whole and initialised, and `path` outlives the call.
    let event = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            tid.get(),
            any_cpu,
            no_group,
            u64::from(PERF_FLAG_FD_CLOEXEC),
        )
    };
    match c_int::try_from(event) {
        Ok(event) if event >= 0 => Ok(owned(event)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What sysfs says of perf events that are uprobes. `EOPNOTSUPP` where there are none.
fn event_source<T>(what: &str, parse: impl Fn(&str) -> Option<T>) -> io::Result<T> {
    fs::read_to_string(format!("/sys/bus/event_source/devices/uprobe/{what}"))
        .ok()
        .and_then(|text| parse(text.trim()))
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}
