//! Names from files, by blazesym.
//!
//! A module is asked in up to three ways, best first, each only for what the ones before it could not name:
//!
//! 1. its separate file of debug information, if there is one ([`debug_file`](super::debug_file));
//! 2. its own DWARF;
//! 3. its symbol tables alone, `.symtab` and `.dynsym`.
//!
//! blazesym keeps what it has parsed and an open file for each; [`Budget`] bounds both. All lookups are by address
//! before relocation, which is the same in a module and its file of debug information, where file offsets are not.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use blazesym::symbolize::source::Source;
use blazesym::symbolize::{Input, Symbolized, Symbolizer, evict};
use hashbrown::HashMap;

use super::demangle::bounded;
use super::elf::Elf;
use super::module::{Module, ModuleSource, Way};
use super::named::{Covers, Named};
use crate::record::{FunctionName, ModuleIndex};
use crate::target::named_file::NamedFiles;

/// What blazesym may keep parsed at once. At least one module stays, however large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Modules. Each takes up to two open files of ours and two of blazesym's.
    pub modules: usize,
    /// Bytes of debug information and symbol tables of these modules.
    pub bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            modules: 64,
            bytes: 1 << 30,
        }
    }
}

/// What did not go well, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Modules whose frames all stay nameless: not an ELF file that we read, or refused by blazesym.
    pub modules: u64,
    /// Modules whose debug information could not be used, so that names come from symbol tables, without lines.
    pub debug_info: u64,
    /// Panics inside blazesym.
    pub panics: u64,
}

/// Finds names. Not `Send`: blazesym is not.
pub struct Resolver {
    symbolizer: Symbolizer,
    modules: HashMap<ModuleIndex, Module, foldhash::fast::RandomState>,
    /// Modules that blazesym has parsed, the one used last at the back.
    parsed: VecDeque<ModuleIndex>,
    budget: Budget,
    failures: Failures,
}

impl Resolver {
    /// Knows no module.
    pub fn new(budget: Budget) -> Self {
        Self {
            symbolizer: symbolizer(),
            modules: HashMap::default(),
            parsed: VecDeque::new(),
            budget,
            failures: Failures::default(),
        }
    }

    /// What did not go well so far.
    pub fn failures(&self) -> Failures {
        self.failures
    }

    /// A module. Its files are found and opened now and stay open; they are looked into when they are first asked.
    ///
    /// `path` is how the target names it. See [`debug_file::find`](super::debug_file::find) for `named`.
    pub fn add_module(
        &mut self,
        index: ModuleIndex,
        path: &Path,
        source: ModuleSource,
        named: Option<&NamedFiles>,
    ) {
        match Module::open(path, source, named) {
            Ok(module) => {
                if let Some(former) = self.modules.insert(index, module) {
                    self.evict(&former);
                }
            }
            Err(error) => {
                log::debug!("no names for {}: {error}", path.display());
                self.failures.modules += 1;
            }
        }
    }

    /// The build id of a module that has no debug information here, and may have some elsewhere.
    pub fn lacks_debug_info(&self, index: ModuleIndex) -> Option<&[u8]> {
        self.modules.get(&index)?.lacks_debug_info()
    }

    /// A module's debug information that was found elsewhere. Comes before the first [`Resolver::resolve`] of the
    /// module. Says whether it is of the same build; otherwise it is not used.
    pub fn add_debug_file(&mut self, index: ModuleIndex, file: File) -> bool {
        let module = self.modules.get_mut(&index);
        module.is_some_and(|module| module.add_debug_file(file))
    }

    /// The names at return addresses, given as offsets in the module's file, in the same order; innermost function
    /// first, empty where there is no name.
    pub fn resolve(&mut self, index: ModuleIndex, offsets: &[u64]) -> Vec<Vec<FunctionName>> {
        let Some(mut module) = self.modules.remove(&index) else {
            return vec![Vec::new(); offsets.len()];
        };
        let at_return = |elf: &Elf| -> Vec<Option<u64>> {
            let addresses = offsets.iter().map(|&offset| elf.address_of(offset));
            addresses.collect()
        };
        // The call is before the return address, and may be the last instruction of its function.
        let at_call = |elf: &Elf| -> Vec<Option<u64>> {
            let offsets = offsets.iter().map(|&offset| offset.checked_sub(1));
            offsets.map(|offset| elf.address_of(offset?)).collect()
        };
        let (at_return, at_call) = (at_return(&module.elf), at_call(&module.elf));

        let debug_info_had_failed = module.debug_info_failed;
        module.find_ways();
        let mut names = vec![Named::default(); offsets.len()];
        self.fill(&mut module, &mut names, &at_call, Covers::Surely);
        self.replace_plain_names(&mut module, &mut names, &at_call);
        qualify_inlined(&mut module, &mut names, &at_call);
        // The kernel makes signal handlers return to the first byte of a function, with nothing before it.
        self.fill(&mut module, &mut names, &at_return, Covers::Start);
        self.fill(&mut module, &mut names, &at_call, Covers::Perhaps);

        self.failures.debug_info += u64::from(module.debug_info_failed && !debug_info_had_failed);
        if module.find_ways().is_empty() {
            self.failures.modules += 1;
            self.parsed.retain(|&parsed| parsed != index);
            self.evict(&module);
        } else {
            self.modules.insert(index, module);
            self.used(index);
        }
        names.into_iter().map(|named| named.functions).collect()
    }

    /// Asks each way in turn for what has no name yet.
    fn fill(
        &mut self,
        module: &mut Module,
        names: &mut [Named],
        addresses: &[Option<u64>],
        covers: Covers,
    ) {
        let mut way = 0;
        while way < module.find_ways().len() {
            let (at, addresses): (Vec<usize>, Vec<u64>) = (0..names.len())
                .filter(|&at| names[at].functions.is_empty())
                .filter_map(|at| Some((at, addresses[at]?)))
                .unzip();
            if addresses.is_empty() {
                return;
            }
            if let Some(found) = self.ask(module, way, &addresses, covers) {
                for (at, found) in at.into_iter().zip(found) {
                    names[at] = found;
                }
                way += 1;
            }
        }
    }

    /// The linker's name of a function says more than its plain one: compilers leave the former out of the debug
    /// information of functions that other files cannot see, and `add` may be `shop::Basket<int>::add(int)`.
    fn replace_plain_names(
        &mut self,
        module: &mut Module,
        names: &mut [Named],
        addresses: &[Option<u64>],
    ) {
        let mut way = 0;
        while way < module.find_ways().len() {
            if module.find_ways()[way].source.debug_syms {
                way += 1;
                continue;
            }
            let (at, addresses): (Vec<usize>, Vec<u64>) = (0..names.len())
                .filter(|&at| names[at].plain.is_some())
                .filter_map(|at| Some((at, addresses[at]?)))
                .unzip();
            if addresses.is_empty() {
                return;
            }
            if let Some(found) = self.ask(module, way, &addresses, Covers::Surely) {
                for (at, mut found) in at.into_iter().zip(found) {
                    if let (None, Some(linkers)) = (found.plain, found.functions.pop()) {
                        names[at].qualify(linkers.function);
                    }
                }
                way += 1;
            }
        }
    }

    /// One way, one answer per address. A way that fails is taken out of the module.
    fn ask(
        &mut self,
        module: &mut Module,
        way: usize,
        addresses: &[u64],
        covers: Covers,
    ) -> Option<Vec<Named>> {
        let asked = module.find_ways().remove(way);
        match self.try_ask(module, &asked, addresses, covers) {
            Ok(found) => {
                module.find_ways().insert(way, asked);
                Some(found)
            }
            Err(error) => {
                log::debug!("names of {}: {error}", module.path.display());
                module.debug_info_failed |= asked.source.debug_syms;
                None
            }
        }
    }

    fn try_ask(
        &mut self,
        module: &Module,
        way: &Way,
        addresses: &[u64],
        covers: Covers,
    ) -> Result<Vec<Named>, AskError> {
        if module.has_shrunk(way)? {
            return Err(AskError::Shrunk);
        }
        let source = Source::from(way.source.clone());
        let blazesym = &self.symbolizer;
        let answer = catch_unwind(AssertUnwindSafe(|| -> Result<Vec<Named>, AskError> {
            let found = blazesym.symbolize(&source, Input::VirtOffset(addresses))?;
            Ok(addresses
                .iter()
                .zip(found)
                .map(|(&address, symbolized)| match symbolized {
                    Symbolized::Sym(sym) if covers.holds(&module.elf, &sym, address) => {
                        Named::from_sym(&sym)
                    }
                    Symbolized::Sym(_) | Symbolized::Unknown(_) => Named::default(),
                })
                .collect())
        }));
        answer.unwrap_or_else(|_| {
            // What it was doing is half done; nothing of it is used again.
            self.symbolizer = symbolizer();
            self.parsed.clear();
            self.failures.panics += 1;
            Err(AskError::Panic)
        })
    }

    /// Notes that blazesym has the module parsed, and lets go of others if that is too much.
    fn used(&mut self, index: ModuleIndex) {
        self.parsed.retain(|&parsed| parsed != index);
        self.parsed.push_back(index);
        while self.parsed.len() > 1
            && self.over_budget()
            && let Some(oldest) = self.parsed.pop_front()
        {
            if let Some(module) = self.modules.remove(&oldest) {
                self.evict(&module);
                self.modules.insert(oldest, module);
            }
        }
    }

    /// Whether anything is parsed.
    pub fn holds_any(&self) -> bool {
        !self.parsed.is_empty()
    }

    /// Lets go of all that is parsed. It is parsed anew when it is asked for again.
    pub fn let_go(&mut self) {
        for index in std::mem::take(&mut self.parsed) {
            if let Some(module) = self.modules.remove(&index) {
                self.evict(&module);
                self.modules.insert(index, module);
            }
        }
    }

    fn over_budget(&self) -> bool {
        let parsed = self
            .parsed
            .iter()
            .filter_map(|index| self.modules.get(index));
        let bytes = parsed.fold(0_u64, |sum, module| sum.saturating_add(module.bytes));
        self.parsed.len() > self.budget.modules || bytes > self.budget.bytes
    }

    /// Makes blazesym forget a module's files. It knows them by descriptor, so this must come before one is closed:
    /// the next file to have the same descriptor would be taken for this one.
    fn evict(&mut self, module: &Module) {
        for file in &module.files {
            // Forgetting what it does not know is no error, and there is no other.
            let _ = self.symbolizer.evict(&evict::Elf::new(file.path()).into());
        }
    }
}

/// Inlined functions without a linker's name have no symbol either.
fn qualify_inlined(module: &mut Module, names: &mut [Named], addresses: &[Option<u64>]) {
    let (at, addresses): (Vec<usize>, Vec<u64>) = (0..names.len())
        .filter(|&at| names[at].has_plain_inlined)
        .filter_map(|at| Some((at, addresses[at]?)))
        .unzip();
    if addresses.is_empty() {
        return;
    }
    let parents = module.parents_of(&addresses);
    for (at, parents) in at.into_iter().zip(parents) {
        let functions = &mut names[at].functions;
        if functions.len() != parents.len() {
            continue;
        }
        for (function, qualified) in functions.iter_mut().zip(parents) {
            if let Some(qualified) = qualified.filter(|name| name.ends_with(&function.function)) {
                function.function = bounded(qualified);
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Blazesym(#[from] blazesym::Error),
    #[error("the file has shrunk since it was opened")]
    Shrunk,
    #[error("blazesym panicked")]
    Panic,
}

fn symbolizer() -> Symbolizer {
    Symbolizer::builder()
        // A descriptor is one file forever, and is evicted before it is closed.
        .enable_auto_reload(false)
        .enable_code_info(true)
        .enable_inlined_fns(true)
        .enable_demangling(false)
        // Separate files are our own search.
        .set_debug_dirs(Some([] as [&Path; 0]))
        .build()
}

#[cfg(test)]
mod tests;
