//! Dynamic symbols, found as the dynamic linker finds them: by hash.

use object::{
    LittleEndian as LE,
    elf::{self, GnuHashHeader, HashHeader, Rela64, Sym64},
    endian::U32,
};

use super::{
    Elf, ElfError, NAME_LIMIT, bounded,
    bytes::{Records, read_one, read_string},
};

/// Longest hash chain that we follow. A chain of libc's has some five symbols.
const CHAIN_LIMIT: u32 = 1 << 16;
/// Most relocations that we search. Large programs have some hundred thousand.
const RELOCATION_LIMIT: u64 = 1 << 22;
/// Longest function that we read, bytes; an allocator's are below 4 KiB.
const CODE_LIMIT: usize = 64 << 10;

/// A function or an object that a file exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Where it begins, as the file counts addresses.
    pub address: u64,
    /// How long it is, bytes; 0 where the file does not say.
    pub size: u64,
}

impl Elf<'_> {
    /// The functions exported under a name: none, one, or one for each version of the symbol.
    ///
    /// Indirect functions (`STT_GNU_IFUNC`) are left out: what they lead to is known only at run time.
    ///
    /// # Errors
    ///
    /// The file is damaged or cannot be read.
    pub fn functions(&self, name: &str) -> Result<Vec<Symbol>, ElfError> {
        self.exported(name, elf::STT_FUNC)
    }

    /// The object (a variable) exported under a name.
    ///
    /// # Errors
    ///
    /// The file is damaged or cannot be read.
    pub fn object(&self, name: &str) -> Result<Option<Symbol>, ElfError> {
        Ok(self.exported(name, elf::STT_OBJECT)?.first().copied())
    }

    fn exported(&self, name: &str, kind: elf::SymbolType) -> Result<Vec<Symbol>, ElfError> {
        let indices = if let Some(table) = self.dynamic_value(elf::DT_GNU_HASH) {
            self.gnu_hash_chain(table, name)?
        } else if let Some(table) = self.dynamic_value(elf::DT_HASH) {
            self.sysv_hash_chain(table, name)?
        } else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for index in indices {
            let symbol = self.symbol(index)?;
            if symbol.st_shndx.get(LE) != elf::SHN_UNDEF
                && symbol.st_info.st_type() == kind
                && self.symbol_name(&symbol).as_deref() == Some(name.as_bytes())
            {
                found.push(Symbol {
                    address: symbol.st_value.get(LE),
                    size: symbol.st_size.get(LE),
                });
            }
        }
        Ok(found)
    }

    /// Whether a function is exported under that name.
    ///
    /// # Errors
    ///
    /// The file is damaged or cannot be read.
    pub fn exports(&self, name: &str) -> Result<bool, ElfError> {
        Ok(!self.functions(name)?.is_empty())
    }

    /// A function's code; empty where the file does not say how long it is. Cut at 64 KiB.
    ///
    /// # Errors
    ///
    /// The file does not hold it, or cannot be read.
    pub fn code(&self, symbol: &Symbol) -> Result<Vec<u8>, ElfError> {
        self.bytes_at(symbol.address, bounded(symbol.size).min(CODE_LIMIT))
    }

    /// The name of the symbol whose address the dynamic linker writes to a slot (of the global offset table).
    pub(in crate::target) fn relocated_symbol(&self, slot: u64) -> Option<Vec<u8>> {
        let tables = [
            (elf::DT_JMPREL, elf::DT_PLTRELSZ),
            (elf::DT_RELA, elf::DT_RELASZ),
        ];
        tables.into_iter().find_map(|(start, size)| {
            let start = self.file_offset(self.dynamic_value(start)?)?;
            let count = self.dynamic_value(size)? / size_of::<Rela64<LE>>() as u64;
            self.search_relocations(start, count.min(RELOCATION_LIMIT), slot)
        })
    }

    fn search_relocations(&self, start: u64, count: u64, slot: u64) -> Option<Vec<u8>> {
        const STEP: u64 = 1024;
        for first in (0..count).step_by(STEP as usize) {
            let offset = start.checked_add(first * size_of::<Rela64<LE>>() as u64)?;
            let length = bounded(STEP.min(count - first));
            let records = Records::read::<Rela64<LE>>(self.file, offset, length).ok()?;
            let mut entries = records.get::<Rela64<LE>>(length).iter();
            if let Some(entry) = entries.find(|entry| entry.r_offset.get(LE) == slot) {
                let symbol = self.symbol(entry.r_sym(LE, false)).ok()?;
                return self.symbol_name(&symbol);
            }
        }
        None
    }

    pub(super) fn dynamic_string(&self, offset: u64) -> Option<Vec<u8>> {
        let table = self.file_offset(self.dynamic_value(elf::DT_STRTAB)?)?;
        read_string(self.file, table.checked_add(offset)?, NAME_LIMIT).ok()
    }

    fn symbol_name(&self, symbol: &Sym64<LE>) -> Option<Vec<u8>> {
        self.dynamic_string(symbol.st_name.get(LE).into())
    }

    fn symbol(&self, index: u32) -> Result<Sym64<LE>, ElfError> {
        let table = self
            .dynamic_value(elf::DT_SYMTAB)
            .ok_or(ElfError::Damaged("symbol hashes without symbols"))?;
        self.record(table, index.into())
    }

    /// The `index`th record of a table at an address.
    fn record<T: object::pod::Pod>(&self, table: u64, index: u64) -> Result<T, ElfError> {
        let outside = ElfError::Damaged("a symbol table that lies outside of it");
        let offset = index
            .checked_mul(size_of::<T>() as u64)
            .and_then(|within| table.checked_add(within))
            .and_then(|address| self.file_offset(address))
            .ok_or(outside)?;
        Ok(read_one(self.file, offset)?)
    }

    /// Symbols whose GNU hash is that of `name` (<https://flapenguin.me/elf-dt-gnu-hash>). The Bloom filter, there to
    /// reject quickly, is skipped.
    fn gnu_hash_chain(&self, table: u64, name: &str) -> Result<Vec<u32>, ElfError> {
        let damaged = || ElfError::Damaged("a symbol hash table that contradicts itself");
        let header: GnuHashHeader<LE> = self.record(table, 0)?;
        let bucket_count = header.bucket_count.get(LE);
        let base = header.symbol_base.get(LE);
        let hash = elf::gnu_hash(name.as_bytes());
        let buckets = table
            .checked_add(size_of_val(&header) as u64 + u64::from(header.bloom_count.get(LE)) * 8)
            .ok_or_else(damaged)?;
        let chains = buckets
            .checked_add(u64::from(bucket_count) * 4)
            .ok_or_else(damaged)?;
        let bucket = hash.checked_rem(bucket_count).ok_or_else(damaged)?;
        let first = self.record::<U32<LE>>(buckets, bucket.into())?.get(LE);
        if first == 0 {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for step in 0..CHAIN_LIMIT {
            let index = first.checked_add(step).ok_or_else(damaged)?;
            let place = index.checked_sub(base).ok_or_else(damaged)?;
            let value = self.record::<U32<LE>>(chains, place.into())?.get(LE);
            // The lowest bit marks the end of a chain.
            if value | 1 == hash | 1 {
                found.push(index);
            }
            if value & 1 == 1 {
                return Ok(found);
            }
        }
        Err(damaged())
    }

    /// Symbols in the chain of `name` in the older table that every ELF file once had
    /// (<https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.dynamic.html#hash>).
    fn sysv_hash_chain(&self, table: u64, name: &str) -> Result<Vec<u32>, ElfError> {
        let damaged = || ElfError::Damaged("a symbol hash table that contradicts itself");
        let header: HashHeader<LE> = self.record(table, 0)?;
        let bucket_count = header.bucket_count.get(LE);
        let buckets = table
            .checked_add(size_of_val(&header) as u64)
            .ok_or_else(damaged)?;
        let chains = buckets
            .checked_add(u64::from(bucket_count) * 4)
            .ok_or_else(damaged)?;
        let bucket = elf::hash(name.as_bytes())
            .checked_rem(bucket_count)
            .ok_or_else(damaged)?;
        let mut index = self.record::<U32<LE>>(buckets, bucket.into())?.get(LE);
        let mut found = Vec::new();
        for _ in 0..CHAIN_LIMIT {
            if index == 0 {
                return Ok(found);
            }
            found.push(index);
            index = self.record::<U32<LE>>(chains, index.into())?.get(LE);
        }
        Err(damaged())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs::File, process::Command};

    use super::*;
    use crate::target::process::tests::compile;

    const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

    /// Name (with its version) → address and size of every function that `readelf` lists.
    fn listed_by_readelf(library: &str) -> BTreeMap<String, (u64, u64)> {
        let output = Command::new("readelf")
            .args(["-W", "--dyn-syms", library])
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let [_, address, size, "FUNC", _, _, section, name, ..] = fields[..] else {
                    return None;
                };
                let size = size
                    .strip_prefix("0x")
                    .map_or_else(|| size.parse(), |hex| u64::from_str_radix(hex, 16));
                let address = u64::from_str_radix(address, 16).ok()?;
                (section != "UND").then(|| (name.to_owned(), (address, size.unwrap())))
            })
            .collect()
    }

    #[test]
    fn every_function_of_libc_is_found_where_readelf_finds_it() {
        let file = File::open(LIBC).unwrap();
        let elf = Elf::open(&file).unwrap();
        let listed = listed_by_readelf(LIBC);
        assert!(listed.len() > 2000);
        for (versioned, &(address, size)) in &listed {
            let name = versioned.split('@').next().unwrap();
            let found = elf.functions(name).unwrap();
            assert!(
                found.contains(&Symbol { address, size }),
                "{versioned}: {found:x?}"
            );
        }
        assert!(elf.functions("no_such_function").unwrap().is_empty());
    }

    #[test]
    fn both_kinds_of_hash_table_are_searched() {
        for style in ["gnu", "sysv"] {
            let (_dir, library) = compile(
                "int one(void) { return 1; } int two(void) { return 2; } extern int three(void); int four(void) { return three(); }",
                &["-shared", "-fPIC", &format!("-Wl,--hash-style={style}")],
            );
            let file = File::open(library).unwrap();
            let elf = Elf::open(&file).unwrap();
            assert!(
                elf.exports("one").unwrap() && elf.exports("two").unwrap(),
                "{style}"
            );
            assert!(!elf.exports("three").unwrap(), "imported, not exported");
            let two = elf.functions("two").unwrap()[0];
            assert!(elf.code(&two).unwrap().contains(&0xc3), "it returns");
        }
    }
}
