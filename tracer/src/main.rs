//! The `highwater` binary; all of it is in the library.

use std::process::ExitCode;

/// Our own allocator: highwater must never run through a libc that it has probed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    highwater::cli::run()
}
