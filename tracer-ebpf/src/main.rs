//! highwater's kernel side: the first stage of the pipeline.
//!
//! Probes at the entry and return of the allocator's functions pair each call per thread ([`call`]), take the caller's
//! stack ([`walk`]) and write one event ([`emit`]). Tracepoints tell of forks, execs and ends ([`lifecycle`]), and of the
//! system calls by which the address space changes ([`mapping`]).
//! Everything that user space could decide is decided there.
#![no_std]
#![no_main]
#![feature(core_intrinsics, asm_experimental_arch)]
#![expect(
    internal_features,
    reason = "the BPF target declares no atomic read-modify-write in core::sync, though the kernel has it since 5.12"
)]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "every access here is checked by the kernel's verifier; the contract is the helper's"
)]

mod area;
mod atomic;
mod blocks;
mod call;
mod emit;
mod entry;
mod floor;
mod lifecycle;
mod mapping;
mod maps;
mod mark;
mod preflight;
mod remap;
mod ret;
mod sampling;
mod scan;
mod selftest;
mod session;
mod stranger;
mod thread;
mod update;
mod walk;

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_get_attach_cookie,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

/// Entry and return in one program: the session link (kernel 6.13 on). Answering 1 at entry spares the return trap.
///
/// Without aya's macro, whose wrapper answers 0 whatever the function says.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
pub extern "C" fn hw_session(ctx: *mut c_void) -> u32 {
    let ctx = ProbeContext::new(ctx);
    if session::is_return() {
        ret::leave(ctx.regs, ret::ANY_PROCESS);
        return 0;
    }
    match entry::enter(&ctx, true) {
        entry::Verdict::AwaitReturn => 0,
        entry::Verdict::NoReturn => 1,
    }
}

/// Entry, where entry and return are two links.
#[uprobe]
pub fn hw_entry(ctx: ProbeContext) -> u32 {
    entry::enter(&ctx, false);
    0
}

/// Return, where entry and return are two links.
#[uretprobe]
pub fn hw_return(ctx: RetProbeContext) -> u32 {
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    ret::leave(ctx.regs, cookie);
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
