//! A libc with names for the places that highwater probes. Debian's bpftrace probes no place but where a symbol begins, so
//! the program runs on a copy of its libc, the same code with two symbols more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol};

use super::tracer::Placement;
use crate::command;

/// The symbols in it.
pub(super) const MALLOC: &str = "placed_malloc";
pub(super) const FREE: &str = "placed_free";

/// `sizeof(Elf64_Sym)`, and where `st_size` is in it.
const SYMBOL_SIZE: usize = 24;
const SIZE_FIELD: usize = 16;
/// Longer than any instruction.
const PLACE_BYTES: u64 = 16;

/// Makes the copy; the folder it lies in, which is for the program's `LD_LIBRARY_PATH`.
pub(super) fn make(libc: &Path, directory: &Path, placement: Placement) -> Result<PathBuf> {
    let bytes = fs::read(libc)?;
    let file = object::File::parse(&*bytes)?;
    let text = file
        .section_by_name(".text")
        .context("libc has no .text")?
        .address();
    let symbol = |name: &str, place: &str, offset: u64| {
        let function = file
            .dynamic_symbols()
            .find(|symbol| symbol.name() == Ok(name) && symbol.is_definition())
            .with_context(|| format!("libc has no {name}"))?;
        let value = function.address() + offset - text;
        Ok::<_, anyhow::Error>(format!(
            "--add-symbol={place}=.text:{value:#x},function,global"
        ))
    };
    let folder = directory.join("placed");
    fs::create_dir_all(&folder)?;
    let copy = folder.join("libc.so.6");
    command::run(
        Command::new("objcopy")
            .arg(symbol("malloc", MALLOC, placement.malloc)?)
            .arg(symbol("free", FREE, placement.free)?)
            .arg(libc)
            .arg(&copy),
    )?;
    give_size(&copy, &[MALLOC, FREE])?;
    Ok(folder)
}

/// Gives symbols a size, which objcopy leaves at 0: bpftrace takes no place outside a symbol's bounds.
fn give_size(path: &Path, names: &[&str]) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let mut fields = Vec::new();
    {
        let file = object::File::parse(&*bytes)?;
        let table = file
            .section_by_name(".symtab")
            .and_then(|section| section.file_range())
            .context("the copy of libc has no .symtab")?;
        for name in names {
            let symbol = file
                .symbol_by_name(name)
                .with_context(|| format!("the copy of libc has no {name}"))?;
            fields.push(table.0 as usize + symbol.index().0 * SYMBOL_SIZE + SIZE_FIELD);
        }
    }
    for at in fields {
        let field = bytes
            .get_mut(at..at + 8)
            .context("the copy of libc is cut off")?;
        field.copy_from_slice(&PLACE_BYTES.to_le_bytes());
    }
    fs::write(path, bytes)?;
    Ok(())
}
