//! Whether this process may trace others.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A user (and group) that may do nothing.
pub const NOBODY: u32 = 65534;

/// Why this process may not load BPF programs, or `None` if it may.
pub fn lack_of_privilege() -> Option<String> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    let user = unsafe { libc::geteuid() };
    if user != 0 {
        return Some(format!("it needs root, and runs as uid {user}"));
    }
    if !Path::new("/sys/bus/event_source/devices/uprobe").exists() {
        return Some("this kernel has no uprobes".to_owned());
    }
    make_a_map()
        .err()
        .map(|error| format!("bpf(BPF_MAP_CREATE) failed: {error}"))
}

/// Lets every user into a directory, or read and execute a file.
pub fn open_to_all(path: &Path) {
    let mode = if path.is_dir() { 0o777 } else { 0o755 };
    set_permissions(path, Permissions::from_mode(mode))
        .unwrap_or_else(|error| panic!("cannot chmod {}: {error}", path.display()));
}

/// Makes the smallest BPF map there is and lets go of it.
fn make_a_map() -> io::Result<()> {
    const BPF_MAP_CREATE: libc::c_long = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    // map_type, key_size, value_size, max_entries: the head of `union bpf_attr`.
    let attributes: [u32; 4] = [BPF_MAP_TYPE_ARRAY, 4, 8, 1];
    // SAFETY: the attributes are as long as is said, and the kernel only reads them.
    let map = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_CREATE,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if map < 0 {
        return Err(io::Error::last_os_error());
    }
    let map = i32::try_from(map).expect("a file descriptor fits an int");
    // SAFETY: the descriptor is ours and nobody else knows it.
    unsafe { libc::close(map) };
    Ok(())
}
