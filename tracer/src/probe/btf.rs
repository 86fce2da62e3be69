//! The running kernel's type information: where it keeps the few members we read, and which kernel functions it has.
//!
//! Only what is needed of the format: <https://docs.kernel.org/bpf/btf.html>.

use std::{collections::HashMap, io};

use highwater_common::config::KernelOffsets;
use thiserror::Error;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;

/// Why the type information could not be read.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what the format says.
    #[error("damaged at byte {0}")]
    Damaged(usize),
}

/// What we want to know of the running kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelTypes {
    /// Where members lie.
    pub offsets: KernelOffsets,
    /// Type ids of the kernel functions that our programs call or attach to, by name.
    pub functions: HashMap<&'static str, u32>,
}

/// Kernel functions our programs call or attach to.
const FUNCTIONS: [&str; 2] = ["bpf_session_is_return", "bpf_iter_task"];

/// Reads the running kernel's types.
pub fn running_kernel() -> Result<KernelTypes, BtfError> {
    parse(&std::fs::read(VMLINUX)?)
}

fn word(data: &[u8], at: usize) -> Result<u32, BtfError> {
    data.get(at..)
        .and_then(|rest| rest.first_chunk::<4>())
        .map(|bytes| u32::from_le_bytes(*bytes))
        .ok_or(BtfError::Damaged(at))
}

fn parse(data: &[u8]) -> Result<KernelTypes, BtfError> {
    if data.get(..2) != Some(&[0x9f, 0xeb]) {
        return Err(BtfError::Damaged(0));
    }
    let section = |offset_at: usize| -> Result<&[u8], BtfError> {
        let header = word(data, 4)? as usize;
        let (offset, length) = (
            word(data, offset_at)? as usize,
            word(data, offset_at + 4)? as usize,
        );
        let start = header
            .checked_add(offset)
            .ok_or(BtfError::Damaged(offset_at))?;
        let end = start
            .checked_add(length)
            .ok_or(BtfError::Damaged(offset_at))?;
        data.get(start..end).ok_or(BtfError::Damaged(offset_at))
    };
    let (types, strings) = (section(8)?, section(16)?);
    let name = |offset: u32| -> &[u8] {
        let rest = strings.get(offset as usize..).unwrap_or_default();
        rest.split(|&byte| byte == 0).next().unwrap_or_default()
    };

    let none = u32::MAX;
    let mut offsets = KernelOffsets {
        task_pid: none,
        task_tgid: none,
        task_mm: none,
        task_signal: none,
        task_exit_code: none,
        signal_live: none,
        signal_group_exit_code: none,
        task_alternate_stack: none,
        unmapped_area_length: none,
        task_utask: none,
        utask_return_instances: none,
        return_instance_stack: none,
        return_instance_address: none,
        return_instance_next: none,
        task_status: none,
        mm_break: none,
        task_fsbase: none,
        area_start: none,
        area_end: none,
        area_flags: none,
        area_file: none,
        area_place: none,
        file_inode: none,
        inode_super: none,
        super_magic: none,
        unused: 0,
    };
    // Members of members: where the outer one lies, and where in it the inner one.
    let (mut thread_info, mut thread_status) = (None, None);
    let (mut thread, mut thread_fsbase) = (None, None);
    // Most of `mm_struct` is in a structure without a name, so that the kernel can be built with its members shuffled. Some
    // members of `vm_area_struct` are in unions and in structures in them.
    let (mut parts_of_mm, mut parts_of_area) = (Vec::new(), Vec::new());
    let mut unnamed = Unnamed::default();
    // sas_ss_sp, sas_ss_size, sas_ss_flags: read as one, so they must lie side by side.
    let mut alternate_stack = [none; 3];
    let mut functions = HashMap::new();
    let (mut at, mut id) = (0, 0u32);
    while at < types.len() {
        id += 1;
        let (name_at, info) = (word(types, at)?, word(types, at + 4)?);
        let (kind, count, flag) = (info >> 24 & 31, (info & 0xffff) as usize, info >> 31 == 1);
        let body = at + 12;
        let length = match kind {
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
            KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
            _ => 0,
        };
        match (kind, name(name_at)) {
            (
                KIND_STRUCT,
                structure @ (b"task_struct"
                | b"signal_struct"
                | b"vm_unmapped_area_info"
                | b"uprobe_task"
                | b"return_instance"
                | b"thread_info"
                | b"thread_struct"
                | b"mm_struct"
                | b"vm_area_struct"
                | b"file"
                | b"inode"
                | b"super_block"
                | b""),
            )
            | (KIND_UNION, structure @ b"") => {
                for member in 0..count {
                    let entry = body + 12 * member;
                    let bits = word(types, entry + 8)?;
                    let offset = if flag { bits & 0xff_ffff } else { bits } / 8;
                    let field = match (structure, name(word(types, entry)?)) {
                        (b"task_struct", b"thread_info") => {
                            thread_info = Some(offset);
                            continue;
                        }
                        (b"thread_info", b"status") => {
                            thread_status = Some(offset);
                            continue;
                        }
                        (b"task_struct", b"thread") => {
                            thread = Some(offset);
                            continue;
                        }
                        (b"thread_struct", b"fsbase") => {
                            thread_fsbase = Some(offset);
                            continue;
                        }
                        (b"mm_struct", b"") => {
                            parts_of_mm.push((word(types, entry + 4)?, offset));
                            continue;
                        }
                        (b"vm_area_struct", b"") => {
                            parts_of_area.push((word(types, entry + 4)?, offset));
                            continue;
                        }
                        (b"", b"") => {
                            let inner = word(types, entry + 4)?;
                            unnamed.parts.entry(id).or_default().push((inner, offset));
                            continue;
                        }
                        (b"", member) => {
                            let wanted = Unnamed::WANTED.into_iter();
                            for wanted in wanted.filter(|wanted| *wanted == member) {
                                unnamed.members.insert((id, wanted), offset);
                            }
                            continue;
                        }
                        (b"vm_area_struct", b"vm_start") => &mut offsets.area_start,
                        (b"vm_area_struct", b"vm_end") => &mut offsets.area_end,
                        (b"vm_area_struct", b"vm_flags") => &mut offsets.area_flags,
                        (b"vm_area_struct", b"vm_file") => &mut offsets.area_file,
                        (b"vm_area_struct", b"vm_pgoff") => &mut offsets.area_place,
                        (b"file", b"f_inode") => &mut offsets.file_inode,
                        (b"inode", b"i_sb") => &mut offsets.inode_super,
                        (b"super_block", b"s_magic") => &mut offsets.super_magic,
                        (b"mm_struct", b"brk") => &mut offsets.mm_break,
                        (b"task_struct", b"pid") => &mut offsets.task_pid,
                        (b"task_struct", b"tgid") => &mut offsets.task_tgid,
                        (b"task_struct", b"mm") => &mut offsets.task_mm,
                        (b"task_struct", b"signal") => &mut offsets.task_signal,
                        (b"task_struct", b"exit_code") => &mut offsets.task_exit_code,
                        (b"task_struct", b"sas_ss_sp") => &mut alternate_stack[0],
                        (b"task_struct", b"sas_ss_size") => &mut alternate_stack[1],
                        (b"task_struct", b"sas_ss_flags") => &mut alternate_stack[2],
                        (b"signal_struct", b"live") => &mut offsets.signal_live,
                        (b"signal_struct", b"group_exit_code") => {
                            &mut offsets.signal_group_exit_code
                        }
                        (b"vm_unmapped_area_info", b"length") => &mut offsets.unmapped_area_length,
                        (b"task_struct", b"utask") => &mut offsets.task_utask,
                        (b"uprobe_task", b"return_instances") => {
                            &mut offsets.utask_return_instances
                        }
                        (b"return_instance", b"stack") => &mut offsets.return_instance_stack,
                        (b"return_instance", b"orig_ret_vaddr") => {
                            &mut offsets.return_instance_address
                        }
                        (b"return_instance", b"next") => &mut offsets.return_instance_next,
                        _ => continue,
                    };
                    *field = offset;
                }
            }
            (KIND_FUNC, function) => {
                for wanted in FUNCTIONS {
                    if wanted.as_bytes() == function {
                        functions.insert(wanted, id);
                    }
                }
            }
            _ => {}
        }
        at = body.checked_add(length).ok_or(BtfError::Damaged(at))?;
    }
    let [sp, size, flags] = alternate_stack;
    if sp.checked_add(8) == Some(size) && sp.checked_add(16) == Some(flags) {
        offsets.task_alternate_stack = sp;
    }
    if let (Some(outer), Some(inner)) = (thread_info, thread_status) {
        offsets.task_status = outer.saturating_add(inner);
    }
    if let (Some(outer), Some(inner)) = (thread, thread_fsbase) {
        offsets.task_fsbase = outer.saturating_add(inner);
    }
    for (parts, member, field) in [
        (&parts_of_mm, b"brk" as &[u8], &mut offsets.mm_break),
        (&parts_of_area, b"vm_start", &mut offsets.area_start),
        (&parts_of_area, b"vm_end", &mut offsets.area_end),
        (&parts_of_area, b"vm_flags", &mut offsets.area_flags),
    ] {
        let inner = |&(part, outer): &(u32, u32)| {
            Some(outer.saturating_add(unnamed.offset(part, member, UNNAMED_DEPTH)?))
        };
        if let Some(offset) = parts.iter().find_map(inner) {
            *field = offset;
        }
    }
    Ok(KernelTypes { offsets, functions })
}

/// So deep lie members that we read in structures and unions without a name.
const UNNAMED_DEPTH: u32 = 3;

/// Structures and unions without a name.
#[derive(Default)]
struct Unnamed {
    /// Where the members lie that are wanted, by type and name.
    members: HashMap<(u32, &'static [u8]), u32>,
    /// Those in others, and where they lie there.
    parts: HashMap<u32, Vec<(u32, u32)>>,
}

impl Unnamed {
    const WANTED: [&'static [u8]; 4] = [b"brk", b"vm_start", b"vm_end", b"vm_flags"];

    /// Where a member lies in one of them, or in those in it, down to that depth.
    fn offset(&self, id: u32, member: &'static [u8], depth: u32) -> Option<u32> {
        if let Some(offset) = self.members.get(&(id, member)) {
            return Some(*offset);
        }
        let below = depth.checked_sub(1)?;
        let parts = self.parts.get(&id)?;
        let inner = |&(part, outer): &(u32, u32)| {
            Some(outer.saturating_add(self.offset(part, member, below)?))
        };
        parts.iter().find_map(inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_running_kernel_has_all_members_we_read() {
        let types = running_kernel().expect("this kernel has type information");
        let KernelOffsets {
            task_pid,
            task_tgid,
            task_mm,
            task_signal,
            task_exit_code,
            signal_live,
            signal_group_exit_code,
            task_alternate_stack,
            unmapped_area_length,
            task_utask,
            utask_return_instances,
            return_instance_stack,
            return_instance_address,
            return_instance_next,
            task_status,
            mm_break,
            task_fsbase,
            area_start,
            area_end,
            area_flags,
            area_file,
            area_place,
            file_inode,
            inode_super,
            super_magic,
            unused: _,
        } = types.offsets;
        for offset in [
            task_pid,
            task_tgid,
            task_mm,
            task_signal,
            task_exit_code,
            signal_live,
            signal_group_exit_code,
            task_alternate_stack,
            unmapped_area_length,
            task_utask,
            utask_return_instances,
            return_instance_stack,
            return_instance_address,
            return_instance_next,
            task_status,
            mm_break,
            task_fsbase,
            area_start,
            area_end,
            area_flags,
            area_file,
            area_place,
            file_inode,
            inode_super,
            super_magic,
        ] {
            assert!(offset < 64 << 10, "{types:?}");
        }
        assert_eq!(
            task_tgid,
            task_pid + 4,
            "pid and tgid lie side by side in every kernel so far"
        );
    }

    proptest! {
        #[test]
        fn damaged_type_information_is_an_error_or_nothing_but_never_a_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
            good_magic in any::<bool>(),
        ) {
            if good_magic && bytes.len() > 24 {
                bytes[..8].copy_from_slice(&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0]);
                bytes[8..24].copy_from_slice(&[0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0]);
            }
            let _ = parse(&bytes);
        }
    }
}
