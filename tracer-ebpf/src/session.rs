//! The kernel function that tells a session program whether it runs at entry or at return.
//!
//! aya has no kernel functions yet, so the call is compiled as a call of a helper that does not exist, and the loader
//! replaces it by `bpf_session_is_return` before the program meets the verifier.

/// Stands for `bpf_session_is_return`; the loader knows the same number.
const SESSION_IS_RETURN: usize = 0x7fff_0001;

/// Whether this run of a session program is the function's return.
#[inline(always)]
pub fn is_return() -> bool {
    let kernel_function: extern "C" fn() -> u64 =
        unsafe { core::mem::transmute::<usize, extern "C" fn() -> u64>(SESSION_IS_RETURN) };
    // A kernel `bool` leaves the upper bits of the register undefined.
    kernel_function() & 0xff != 0
}
