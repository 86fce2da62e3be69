//! Programs that do nothing: what a probe costs by itself, for `cargo xtask bench` to hold ours against.

use core::ffi::c_void;

use aya_ebpf::{macros::uprobe, programs::ProbeContext};

/// Answers 0 at entry, so that the return is trapped too. Without aya's macro, as [`crate::hw_session`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
pub extern "C" fn hw_floor_session(_ctx: *mut c_void) -> u32 {
    0
}

#[uprobe]
pub fn hw_floor(_ctx: ProbeContext) -> u32 {
    0
}
