//! Where a process has its code mapped, and in which module of the recording each part lies.

use crate::{
    record::ModuleIndex,
    symbol::CodeMapping,
    target::maps::{Mapping, MappingName},
};

/// Where code lies in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MappedCode {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) file_offset: u64,
    /// `None`: no file, so it was compiled at run time.
    pub(super) module: Option<ModuleIndex>,
}

impl MappedCode {
    /// The same as the names of its addresses are found by; only what has a module has any.
    pub(super) fn mapping(&self) -> Option<CodeMapping> {
        Some(CodeMapping {
            start: self.start,
            end: self.end,
            file_offset: self.file_offset,
            module: self.module?,
        })
    }
}

/// The stretches of a process's address space that hold code. `module` says which module a mapping belongs to.
pub(super) fn of(
    mappings: &[Mapping],
    mut module: impl FnMut(&Mapping) -> Option<ModuleIndex>,
) -> Vec<MappedCode> {
    let mut code: Vec<MappedCode> = mappings
        .iter()
        .filter(|mapping| mapping.executable && mapping.start < mapping.end)
        .filter(|mapping| {
            // Nothing that is called from lies in these.
            !matches!(&mapping.path, MappingName::Special(name) if matches!(name.as_str(), "[vsyscall]" | "[uprobes]"))
        })
        .map(|mapping| MappedCode {
            start: mapping.start,
            end: mapping.end,
            file_offset: mapping.offset,
            module: module(mapping),
        })
        .collect();
    code.sort_unstable_by_key(|code| code.start);
    for at in 1..code.len() {
        let next = code[at].start;
        code[at - 1].end = code[at - 1].end.min(next);
    }
    code
}
