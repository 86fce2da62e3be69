//! The only direct calls of `bpf(2)`: what aya 0.14 has no way to say (session and multi links).

use std::{
    ffi::{CString, c_int},
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::{
    Function,
    generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type},
};

/// `BPF_TRACE_UPROBE_MULTI`: entry or return, from Linux 6.6.
pub(super) const ATTACH_UPROBE_MULTI: u32 = 48;
/// `BPF_TRACE_UPROBE_SESSION`: entry and return in one program, from Linux 6.13.
pub(super) const ATTACH_UPROBE_SESSION: u32 = 57;
/// `BPF_F_UPROBE_MULTI_RETURN`
const UPROBE_MULTI_RETURN: u32 = 1;

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<c_int> {
    // SAFETY: `attr` is a whole, initialised bpf_attr, and every pointer its callers put in outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as c_int, &raw mut *attr, size_of::<bpf_attr>()) };
    match c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

fn owned(fd: c_int) -> OwnedFd {
    // SAFETY: called with what BPF_PROG_LOAD, BPF_BTF_LOAD or BPF_LINK_CREATE has just returned: a new descriptor.
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

/// Loads a uprobe program for an attach type. On failure the second part is the verifier's log.
pub(super) fn load_program(
    name: &str,
    function: &Function,
    license: &CString,
    btf: BorrowedFd<'_>,
    attach_type: u32,
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
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
        load.expected_attach_type = attach_type;
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

/// Links a program to all `offsets` of one file, in one process (0: in every process), by one link.
pub(super) fn link_uprobes(
    program: BorrowedFd<'_>,
    attach_type: u32,
    at_return: bool,
    path: &Path,
    offsets: &[u64],
    cookies: &[u64],
    pid: u32,
) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.attach_type = attach_type;
    // SAFETY: as in `load_btf`.
    let multi = unsafe { &mut attr.link_create.__bindgen_anon_3.uprobe_multi };
    multi.path = path.as_ptr() as u64;
    multi.offsets = offsets.as_ptr() as u64;
    multi.cookies = cookies.as_ptr() as u64;
    multi.cnt = offsets.len().min(cookies.len()) as u32;
    multi.flags = if at_return { UPROBE_MULTI_RETURN } else { 0 };
    multi.pid = pid;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

/// `BPF_TRACE_ITER`
const ATTACH_ITERATOR: u32 = bpf_attach_type::BPF_TRACE_ITER as u32;

/// Loads an iterator program; `target` is the type id of the kernel's `bpf_iter_...` function.
pub(super) fn load_iterator(
    function: &Function,
    license: &CString,
    btf: BorrowedFd<'_>,
    target: u32,
) -> io::Result<OwnedFd> {
    let func_info = function.func_info.func_info_bytes();
    let mut attr = zeroed();
    // SAFETY: as in `load_btf`.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    load.expected_attach_type = ATTACH_ITERATOR;
    load.attach_btf_id = target;
    load.insns = function.instructions.as_ptr() as u64;
    load.insn_cnt = function.instructions.len() as u32;
    load.license = license.as_ptr() as u64;
    load.prog_btf_fd = btf.as_raw_fd() as u32;
    if function.func_info_rec_size > 0 {
        load.func_info = func_info.as_ptr() as u64;
        load.func_info_rec_size = function.func_info_rec_size as u32;
        load.func_info_cnt = (func_info.len() / function.func_info_rec_size) as u32;
    }
    bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr).map(owned)
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
