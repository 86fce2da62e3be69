//! Values the user side patches into the object before it is loaded.

/// Offsets of kernel structure members, read from the running kernel's BTF. `u32::MAX`: the kernel has no such member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct KernelOffsets {
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `task_struct.signal`
    pub task_signal: u32,
    /// `task_struct.exit_code`
    pub task_exit_code: u32,
    /// `signal_struct.live`: threads that have not ended.
    pub signal_live: u32,
    /// `signal_struct.group_exit_code`: how the whole process was told to end.
    pub signal_group_exit_code: u32,
    /// `task_struct.sas_ss_sp`, with `sas_ss_size` and `sas_ss_flags` right behind it: the alternate signal stack.
    pub task_alternate_stack: u32,
    /// `vm_unmapped_area_info.length`
    pub unmapped_area_length: u32,
    /// `task_struct.utask`
    pub task_utask: u32,
    /// `uprobe_task.return_instances`: the returns that are probed, innermost first.
    pub utask_return_instances: u32,
    /// `return_instance.stack`: where the return address lay.
    pub return_instance_stack: u32,
    /// `return_instance.orig_ret_vaddr`: what it was.
    pub return_instance_address: u32,
    /// `return_instance.next`
    pub return_instance_next: u32,
    /// `task_struct.thread_info.status`: whether a system call is one of the 32-bit interface.
    pub task_status: u32,
    /// `mm_struct.brk`: the program break.
    pub mm_break: u32,
    /// `task_struct.thread.fsbase`: a thread's descriptor in user memory.
    pub task_fsbase: u32,
    /// `vm_area_struct.vm_start`
    pub area_start: u32,
    /// `vm_area_struct.vm_end`
    pub area_end: u32,
    /// `vm_area_struct.vm_flags`
    pub area_flags: u32,
    /// `vm_area_struct.vm_file`: what it is a mapping of.
    pub area_file: u32,
    /// `vm_area_struct.vm_pgoff`: where in that it begins, pages.
    pub area_place: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `inode.i_sb`
    pub inode_super: u32,
    /// `super_block.s_magic`: which kind of file system it is.
    pub super_magic: u32,
    /// Keeps the size a multiple of 8.
    pub unused: u32,
}

const _: () = assert!(size_of::<KernelOffsets>() == 104);

/// How large the tables are whose places the kernel side computes, as binary logarithms of their entries. The user side makes
/// the maps to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct TableSizes {
    /// Threads that can be kept.
    pub threads: u32,
    /// Lines of blocks that can be kept.
    pub block_lines: u32,
    /// Last walks of threads that can be kept.
    pub walks: u32,
}

const _: () = assert!(size_of::<TableSizes>() == 12);

impl TableSizes {
    /// The largest that are of use, and those that the object has unless it is told otherwise.
    pub const MOST: Self = Self {
        threads: 15,
        block_lines: 17,
        walks: 7,
    };
}

/// Offsets that stand for members of `task_struct` in loads that the loader patches: no program has such a load of its
/// own. `sas_ss_sp`, and behind it `sas_ss_size` and `sas_ss_flags`.
pub const PATCHED_ALTERNATE_STACK: i16 = -32512;

// SAFETY: repr(C), only integers, no padding, so every bit pattern is valid and every byte is initialised.
#[cfg(feature = "user")]
unsafe impl aya::Pod for KernelOffsets {}

// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for TableSizes {}
