//! Names from files, by blazesym.
//!
//! A module is asked in up to three ways, best first, each only for what the ones before it could not name:
//!
//! 1. its separate file of debug information, if there is one ([`debug_file`]);
//! 2. its own DWARF;
//! 3. its symbol tables alone, `.symtab` and `.dynsym`.
//!
//! blazesym keeps what it has parsed and an open file for each; [`Budget`] bounds both. All lookups are by address
//! before relocation, which is the same in a module and its file of debug information, where file offsets are not.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf as ElfSource, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer, evict};
use hashbrown::HashMap;
use rustix::fs::MemfdFlags;

use super::demangle::demangle;
use super::elf::Elf;
use super::{debug_file, dwarf};
use crate::record::{FunctionName, ModuleIndex};

/// Longest path of a source file kept, bytes.
const MOST_PATH_BYTES: usize = 4096;

/// Where a module's bytes are.
#[derive(Debug)]
pub enum ModuleSource {
    /// A file, held open.
    File(File),
    /// An image of it, such as the vdso, which no file system has.
    Memory(Vec<u8>),
}

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

struct Module {
    path: PathBuf,
    elf: Elf,
    /// Best first; those that failed are taken out.
    ways: Vec<Way>,
    /// Bytes that blazesym reads of it.
    bytes: u64,
    /// Holds open what `ways` name by descriptor.
    files: Vec<File>,
    /// Some of its debug information could not be used.
    debug_info_failed: bool,
}

/// One way to ask for a module's names.
struct Way {
    source: ElfSource,
    /// Index in `Module::files`.
    file: usize,
    /// How long the file was when it was found bearable.
    length: u64,
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

    /// A module. What can be said of its files without parsing them is found out now; they stay open.
    ///
    /// `path` is how the target names it. See [`debug_file::find`] for `debug_dirs`.
    pub fn add_module(
        &mut self,
        index: ModuleIndex,
        path: PathBuf,
        source: ModuleSource,
        debug_dirs: &[PathBuf],
    ) {
        let opened = match source {
            ModuleSource::File(file) => Ok(file),
            ModuleSource::Memory(image) => memory_file(&image),
        };
        let module = opened
            .map_err(|error| error.to_string())
            .and_then(|file| {
                let elf = Elf::read(&file).map_err(|error| error.to_string())?;
                Ok((file, elf))
            })
            .map(|(file, elf)| self.ways_of(path.clone(), file, elf, debug_dirs));
        match module {
            Ok(module) if !module.ways.is_empty() => {
                self.modules.insert(index, module);
            }
            Ok(_) => self.failures.modules += 1,
            Err(error) => {
                log::debug!("no names for {}: {error}", path.display());
                self.failures.modules += 1;
            }
        }
    }

    fn ways_of(&mut self, path: PathBuf, file: File, elf: Elf, debug_dirs: &[PathBuf]) -> Module {
        let mut module = Module {
            path,
            elf,
            ways: Vec::new(),
            bytes: 0,
            files: Vec::new(),
            debug_info_failed: false,
        };
        if module.elf.content(".debug_info").is_none()
            && let Some((debug_file, debug_elf)) =
                debug_file::find(&file, &module.elf, &module.path, debug_dirs)
        {
            module.add_ways(debug_file, &debug_elf);
        }
        let elf = module.elf.clone();
        module.add_ways(file, &elf);
        self.failures.debug_info += u64::from(module.debug_info_failed);
        module
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

        let mut names = vec![Named::default(); offsets.len()];
        self.fill(&mut module, &mut names, &at_call, Covers::Surely);
        self.replace_plain_names(&mut module, &mut names, &at_call);
        // The kernel makes signal handlers return to the first byte of a function, with nothing before it.
        self.fill(&mut module, &mut names, &at_return, Covers::Start);
        self.fill(&mut module, &mut names, &at_call, Covers::Perhaps);

        if module.ways.is_empty() {
            self.failures.modules += 1;
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
        while way < module.ways.len() {
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
        while way < module.ways.len() {
            if module.ways[way].source.debug_syms {
                way += 1;
                continue;
            }
            let (at, addresses): (Vec<usize>, Vec<u64>) = (0..names.len())
                .filter(|&at| names[at].plain)
                .filter_map(|at| Some((at, addresses[at]?)))
                .unzip();
            if addresses.is_empty() {
                return;
            }
            if let Some(found) = self.ask(module, way, &addresses, Covers::Surely) {
                for (at, mut found) in at.into_iter().zip(found) {
                    if let (false, Some(better), Some(real)) = (
                        found.plain,
                        found.functions.pop(),
                        names[at].functions.last_mut(),
                    ) {
                        real.function = better.function;
                        names[at].plain = false;
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
        match self.try_ask(module, way, addresses, covers) {
            Ok(found) => Some(found),
            Err(error) => {
                log::debug!("names of {}: {error}", module.path.display());
                if module.ways.remove(way).source.debug_syms && !module.debug_info_failed {
                    module.debug_info_failed = true;
                    self.failures.debug_info += 1;
                }
                None
            }
        }
    }

    fn try_ask(
        &mut self,
        module: &Module,
        way: usize,
        addresses: &[u64],
        covers: Covers,
    ) -> Result<Vec<Named>, AskError> {
        let way = &module.ways[way];
        // blazesym maps the file, and touching a page that is gone would be a SIGBUS.
        if module.files[way.file].metadata()?.len() < way.length {
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
        let bytes = |parsed: &VecDeque<ModuleIndex>| {
            parsed
                .iter()
                .filter_map(|index| self.modules.get(index))
                .fold(0_u64, |sum, module| sum.saturating_add(module.bytes))
        };
        let mut evicted = Vec::new();
        while self.parsed.len() > 1
            && (self.parsed.len() > self.budget.modules || bytes(&self.parsed) > self.budget.bytes)
        {
            evicted.extend(self.parsed.pop_front());
        }
        for module in evicted.iter().filter_map(|index| self.modules.get(index)) {
            for file in &module.files {
                // Evicting has no way to fail.
                let _ = self
                    .symbolizer
                    .evict(&evict::Elf::new(descriptor_path(file)).into());
            }
        }
    }
}

impl Module {
    /// Adds the ways in which `file`, which is the module or its file of debug information, can be asked.
    fn add_ways(&mut self, file: File, elf: &Elf) {
        let has_debug_info = elf.content(".debug_info").is_some();
        let length = file.metadata().map(|meta| meta.len());
        let (Ok(length), Ok(symbols)) = (length, self.bearable(dwarf::check_symbols(&file, elf)))
        else {
            self.debug_info_failed |= has_debug_info;
            return;
        };
        let debug_info = self.bearable(dwarf::check_debug_info(&file, elf));
        self.debug_info_failed |= debug_info.is_err();
        let with_debug_info = (has_debug_info && debug_info.is_ok()).then_some(true);
        for debug_syms in with_debug_info.into_iter().chain([false]) {
            let mut source = ElfSource::new(descriptor_path(&file));
            source.debug_syms = debug_syms;
            self.ways.push(Way {
                source,
                file: self.files.len(),
                length,
            });
        }
        self.files.push(file);
        self.bytes = self
            .bytes
            .saturating_add(symbols)
            .saturating_add(debug_info.unwrap_or(0));
    }

    /// Says why something is left alone.
    fn bearable(&self, checked: Result<u64, dwarf::Refused>) -> Result<u64, dwarf::Refused> {
        checked.inspect_err(|refused| log::debug!("{}: {refused}", self.path.display()))
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

/// Which symbols count as the one at an address.
#[derive(Clone, Copy)]
enum Covers {
    /// The one whose range holds it.
    Surely,
    /// The one that begins there.
    Start,
    /// The one before it, if it may reach that far.
    Perhaps,
}

impl Covers {
    fn holds(self, elf: &Elf, sym: &Sym<'_>, address: u64) -> bool {
        match (self, sym.size) {
            (Self::Start, _) => sym.addr == address,
            (Self::Surely | Self::Perhaps, Some(size)) => address
                .checked_sub(sym.addr)
                .is_some_and(|into| into < size as u64),
            // A function in several pieces: blazesym found the piece that holds the address, and says no start.
            (Self::Surely, None) => sym.addr == 0,
            // A symbol of unknown size, such as assembly has: blazesym extends it up to the next symbol, however far
            // that is. It cannot reach beyond its section.
            (Self::Perhaps, None) => elf.in_one_code_section(sym.addr, address),
        }
    }
}

/// What is at an address.
#[derive(Clone, Default)]
struct Named {
    /// Innermost first, the real function last; empty without a name.
    functions: Vec<FunctionName>,
    /// The name of the real function is not a linker's name.
    plain: bool,
}

impl Named {
    fn from_sym(sym: &Sym<'_>) -> Self {
        if sym.name.is_empty() {
            return Self::default();
        }
        // blazesym has the outermost of the inlined functions first.
        let inlined = sym.inlined.iter().rev();
        let functions: Vec<_> = inlined
            .map(|function| (&function.name, function.code_info.as_ref()))
            .chain([(&sym.name, sym.code_info.as_deref())])
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, place)| FunctionName {
                function: demangle(name),
                file: place.and_then(source_file),
                line: place.and_then(|place| place.line).filter(|&line| line > 0),
            })
            .collect();
        Self {
            plain: functions
                .last()
                .is_some_and(|real| real.function == sym.name),
            functions,
        }
    }
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

/// The path of a source file: absolute where the compiler noted its directory, without `.` parts.
fn source_file(place: &CodeInfo<'_>) -> Option<String> {
    let path: PathBuf = place.to_path().components().collect();
    let mut path = path.to_string_lossy().into_owned();
    path.truncate(path.floor_char_boundary(MOST_PATH_BYTES));
    (!path.is_empty()).then_some(path)
}

/// A path that names this very file, whatever happened to the name it had.
fn descriptor_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn memory_file(image: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("module", MemfdFlags::CLOEXEC)?);
    file.write_all(image)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::fixture::{Fixture, INLINED_C, file_offset, function, returns_in};
    use super::*;

    const MODULE: ModuleIndex = ModuleIndex(1);

    fn with_module(file: &Path, debug_dirs: &[PathBuf]) -> Resolver {
        let mut resolver = Resolver::new(Budget::default());
        let source = ModuleSource::File(File::open(file).unwrap());
        resolver.add_module(MODULE, file.to_owned(), source, debug_dirs);
        resolver
    }

    /// Names as text: innermost first, each with its line where it has one.
    fn text(functions: &[FunctionName]) -> Vec<String> {
        let text = |f: &FunctionName| match f.line {
            Some(line) => format!("{}:{line}", f.function),
            None => f.function.clone(),
        };
        functions.iter().map(text).collect()
    }

    fn names_at(resolver: &mut Resolver, offset: u64) -> Vec<String> {
        text(&resolver.resolve(MODULE, &[offset])[0])
    }

    const INLINED: [&str; 3] = ["inner:4", "middle:7", "outer:10"];

    #[test]
    fn inlined_functions_come_innermost_first_with_the_real_one_last() {
        let fixture = Fixture::new();
        let file = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"]);
        let [call] = returns_in(&file, "outer")[..] else {
            panic!()
        };
        let mut resolver = with_module(&file, &[]);
        let functions = &resolver.resolve(MODULE, &[call])[0];
        assert_eq!(text(functions), INLINED);
        for function in functions {
            let expected = fixture.path("a.c");
            assert_eq!(function.file.as_deref(), expected.to_str());
        }
        assert_eq!(resolver.failures(), Failures::default());
    }

    #[test]
    fn a_file_that_was_deleted_after_it_was_opened_still_resolves() {
        let fixture = Fixture::new();
        let file = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"]);
        let call = returns_in(&file, "outer")[0];
        let mut resolver = with_module(&file, &[]);
        fs::remove_file(&file).unwrap();
        assert_eq!(names_at(&mut resolver, call), INLINED);
    }

    #[test]
    fn without_debug_information_names_come_from_the_symbol_table() {
        let fixture = Fixture::new();
        let file = fixture.compile(("a.c", INLINED_C), "a", &["-O2"]);
        let call = returns_in(&file, "outer")[0];
        assert_eq!(names_at(&mut with_module(&file, &[]), call), ["outer"]);
    }

    #[test]
    fn a_stripped_library_names_what_it_exports_and_nothing_else() {
        let fixture = Fixture::new();
        let source = "\
            #include <stdlib.h>\n\
            __attribute__((noinline)) static void *hidden(int n) { void *p = malloc(n); __asm__ volatile(\"\"); return p; }\n\
            void *exported(int n) { void *p = hidden(n); __asm__ volatile(\"\"); return p; }\n\
            __attribute__((noinline)) static void *after(int n) { void *p = calloc(n, 1); __asm__ volatile(\"\"); return p; }\n\
            void *last(int n) { void *p = after(n); __asm__ volatile(\"\"); return p; }\n";
        let file = fixture.compile(("l.c", source), "l.so", &["-O1", "-shared", "-fPIC"]);
        let offsets: Vec<u64> = ["hidden", "exported", "after", "last"]
            .map(|name| returns_in(&file, name)[0])
            .to_vec();
        fixture.run("strip", &["l.so"]);
        let mut resolver = with_module(&file, &[]);
        let names = resolver.resolve(MODULE, &offsets);
        let names: Vec<_> = names.iter().map(|names| text(names)).collect();
        assert_eq!(
            names,
            [
                vec![],
                vec!["exported".to_owned()],
                vec![],
                vec!["last".to_owned()]
            ]
        );
    }

    #[test]
    fn code_after_the_last_symbol_has_no_name() {
        let fixture = Fixture::new();
        let file = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"]);
        let (_, end) = function(&file, "main");
        let (_, end) = [
            function(&file, "outer"),
            function(&file, "leaf"),
            ((0), end),
        ]
        .into_iter()
        .max_by_key(|&(_, end)| end)
        .unwrap();
        let mut resolver = with_module(&file, &[]);
        assert_eq!(
            names_at(&mut resolver, file_offset(&file, end) + 2),
            Vec::<String>::new()
        );
        assert_eq!(names_at(&mut resolver, 0), Vec::<String>::new());
        assert_eq!(names_at(&mut resolver, u64::MAX), Vec::<String>::new());
    }

    #[test]
    fn a_return_to_right_behind_a_function_is_a_return_into_that_function() {
        let fixture = Fixture::new();
        let source = "#include <stdlib.h>\n\
            __attribute__((noinline)) void gives_up(void) { abort(); }\n\
            int main(int argc, char **argv) { (void)argv; if (argc > 1) gives_up(); return 0; }\n";
        let file = fixture.compile(("n.c", source), "n", &["-g", "-O2", "-fcf-protection=none"]);
        let (_, end) = function(&file, "gives_up");
        let call = *returns_in(&file, "gives_up").last().unwrap();
        assert_eq!(call, file_offset(&file, end));
        assert_eq!(names_at(&mut with_module(&file, &[]), call), ["gives_up:2"]);
    }

    #[test]
    fn a_return_address_that_nothing_precedes_is_named_by_the_function_that_begins_there() {
        let fixture = Fixture::new();
        let source = "__asm__(\".text\\n.balign 64\\n.skip 64, 0xcc\\n.globl restore\\n\
            .type restore, @function\\nrestore: ud2\\n.size restore, .-restore\\n\");\n\
            int main(void) { return 0; }\n";
        let file = fixture.compile(("r.c", source), "r", &["-nostdlib", "-shared"]);
        let (start, _) = function(&file, "restore");
        let mut resolver = with_module(&file, &[]);
        let start = file_offset(&file, start);
        assert_eq!(names_at(&mut resolver, start), ["restore"]);
        assert_eq!(names_at(&mut resolver, start - 8), Vec::<String>::new());
    }

    #[test]
    fn a_symbol_without_a_size_does_not_reach_beyond_its_section() {
        let fixture = Fixture::new();
        let source = "__asm__(\".section .early, \\\"ax\\\"\\nsizeless: nop\\nnop\\n\
            .section .later, \\\"ax\\\"\\n.skip 64, 0x90\\n.text\\n\");\n\
            int main(void) { return 0; }\n";
        let file = fixture.compile(("s.c", source), "s", &[]);
        let bytes = fs::read(&file).unwrap();
        let elf = object::File::parse(&*bytes).unwrap();
        let offset = |name| {
            use object::{Object, ObjectSection};
            let section = elf.section_by_name(name).unwrap();
            section.file_range().unwrap().0
        };
        let mut resolver = with_module(&file, &[]);
        assert_eq!(names_at(&mut resolver, offset(".early") + 2), ["sizeless"]);
        assert_eq!(
            names_at(&mut resolver, offset(".later") + 20),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_cold_part_of_a_function_has_the_name_of_the_function() {
        let fixture = Fixture::new();
        let source = "#include <stdlib.h>\n\
            __attribute__((cold, noinline)) void rare(int x) { exit(x); }\n\
            int work(int x) {\n\
              if (__builtin_expect(x > 100, 0)) { rare(x); }\n\
              return x * 3;\n\
            }\n\
            int main(int argc, char **argv) { (void)argv; return work(argc); }\n";
        let arguments = ["-g", "-O2", "-freorder-blocks-and-partition"];
        let file = fixture.compile(("c.c", source), "c", &arguments);
        let call = returns_in(&file, "work.cold")[0];
        assert_eq!(names_at(&mut with_module(&file, &[]), call), ["work:4"]);
    }

    const CXX: &str = "\
#include <cstdlib>
#include <vector>
namespace shop { namespace {
template <typename T> struct Basket {
  __attribute__((noinline)) T *add(int n) { T *p = static_cast<T *>(malloc(n * sizeof(T))); asm volatile(\"\"); return p; }
};
} // namespace
__attribute__((noinline)) int *fill(int n) { Basket<int> b; int *p = b.add(n); asm volatile(\"\"); return p; }
} // namespace shop
int main(int argc, char **) {
  auto twice = [](int n) __attribute__((noinline)) { int *p = shop::fill(2 * n); asm volatile(\"\"); return p; };
  int *p = twice(argc); asm volatile(\"\"); return *p;
}
";

    #[test]
    fn cxx_names_read_as_written() {
        let fixture = Fixture::new();
        let file = fixture.compile(("b.cpp", CXX), "b", &["-g", "-O1"]);
        let mut resolver = with_module(&file, &[]);
        let mut at = |part| names_at(&mut resolver, returns_in(&file, part)[0]);
        assert_eq!(
            at("Basket"),
            ["shop::(anonymous namespace)::Basket<int>::add(int):5"]
        );
        assert_eq!(at("fill"), ["shop::fill(int):8"]);
        assert_eq!(at("main"), ["main:12"]);
        let lambda = at("ENKUl");
        assert!(
            lambda[0].starts_with("main::{lambda(int)#1}::operator()(int) const"),
            "{lambda:?}"
        );
    }

    #[test]
    fn rust_names_read_as_written() {
        let source = "\
#[inline(never)]
pub fn grow<T: Clone>(value: T) -> Vec<T> {
    vec![value; 1000]
}
struct Shop;
impl Shop {
    #[inline(never)]
    fn open(&self) -> usize { std::hint::black_box(grow(7u64)).len() }
}
fn main() { std::process::exit(Shop.open() as i32 & 1); }
";
        let fixture = Fixture::new();
        let arguments = ["-g", "-O", "-Csymbol-mangling-version=v0"];
        let file = fixture.compile(("c.rs", source), "c", &arguments);
        let mut resolver = with_module(&file, &[]);
        let names = resolver.resolve(MODULE, &returns_in(&file, "4open"));
        let names: Vec<_> = names.iter().flat_map(|names| text(names)).collect();
        assert!(names.contains(&"<c::Shop>::open:8".to_owned()), "{names:?}");
    }

    /// Compiles with debug information and moves it to `a.debug`; `link`: and says so in the program.
    fn split(fixture: &Fixture, arguments: &[&str], link: bool) -> (PathBuf, u64) {
        let file = fixture.compile(("a.c", INLINED_C), "a", arguments);
        let call = returns_in(&file, "outer")[0];
        fixture.run("objcopy", &["--only-keep-debug", "a", "a.debug"]);
        fixture.run("strip", &["a"]);
        if link {
            fixture.run("objcopy", &["--add-gnu-debuglink=a.debug", "a"]);
        }
        (file, call)
    }

    #[test]
    fn debug_information_is_found_by_build_id() {
        let fixture = Fixture::new();
        let (file, call) = split(
            &fixture,
            &["-g", "-O2", "-Wl,--build-id=0xabcdef0123456789"],
            false,
        );
        let dir = fixture.path("debug/.build-id/ab");
        fs::create_dir_all(&dir).unwrap();
        fs::rename(fixture.path("a.debug"), dir.join("cdef0123456789.debug")).unwrap();
        assert_eq!(
            names_at(&mut with_module(&file, &[]), call),
            Vec::<String>::new()
        );
        let dirs = [fixture.path("nowhere"), fixture.path("debug")];
        let mut resolver = with_module(&file, &dirs);
        // Held open: what the target's root had is used after it is gone.
        fs::remove_dir_all(fixture.path("debug")).unwrap();
        assert_eq!(names_at(&mut resolver, call), INLINED);
    }

    #[test]
    fn debug_information_is_found_by_debug_link() {
        for place in ["a.debug", ".debug/a.debug", "root/a.debug", "mirror"] {
            let fixture = Fixture::new();
            let (file, call) = split(&fixture, &["-g", "-O2", "-Wl,--build-id=none"], true);
            let to = if place == "mirror" {
                let below = file.parent().unwrap().strip_prefix("/").unwrap();
                fixture.path("root").join(below).join("a.debug")
            } else {
                fixture.path(place)
            };
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::rename(fixture.path("a.debug"), &to).unwrap();
            let mut resolver = with_module(&file, &[fixture.path("root")]);
            assert_eq!(names_at(&mut resolver, call), INLINED, "{place}");
        }
    }

    #[test]
    fn debug_information_of_another_build_is_not_used() {
        let fixture = Fixture::new();
        for build_id in ["none", "0x0123456789abcdef"] {
            let id = format!("-Wl,--build-id={build_id}");
            fixture.compile(("o.c", "int main(void) { return 9; }"), "o", &["-g"]);
            fixture.run("objcopy", &["--only-keep-debug", "o", "other.debug"]);
            let (file, call) = split(&fixture, &["-g", "-O2", &id, "-rdynamic"], true);
            fs::rename(fixture.path("other.debug"), fixture.path("a.debug")).unwrap();
            let mut resolver = with_module(&file, &[]);
            assert_eq!(names_at(&mut resolver, call), ["outer"]);
            assert_eq!(resolver.failures(), Failures::default());
        }
    }

    #[test]
    fn a_debug_link_to_a_fifo_does_not_block() {
        let fixture = Fixture::new();
        let (file, call) = split(&fixture, &["-g", "-O2", "-rdynamic"], true);
        fs::remove_file(fixture.path("a.debug")).unwrap();
        fixture.run("mkfifo", &["a.debug"]);
        assert_eq!(names_at(&mut with_module(&file, &[]), call), ["outer"]);

        // blazesym would follow the link of a file that has its own debug information.
        let file = fixture.compile(("a.c", INLINED_C), "b", &["-g", "-O2"]);
        fs::write(fixture.path("empty"), "").unwrap();
        fixture.run("objcopy", &["--add-gnu-debuglink=empty", "b"]);
        fs::remove_file(fixture.path("empty")).unwrap();
        fixture.run("mkfifo", &["empty"]);
        let mut resolver = with_module(&file, &[]);
        assert_eq!(names_at(&mut resolver, call), ["outer"]);
        assert_eq!(resolver.failures().debug_info, 1);
    }

    #[test]
    fn compressed_debug_information_is_read() {
        for compression in ["zlib", "zstd"] {
            let fixture = Fixture::new();
            let file = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"]);
            let call = returns_in(&file, "outer")[0];
            fixture.run(
                "objcopy",
                &[&format!("--compress-debug-sections={compression}"), "a"],
            );
            let mut resolver = with_module(&file, &[]);
            assert_eq!(names_at(&mut resolver, call), INLINED, "{compression}");
        }
    }

    #[test]
    fn the_vdso_is_named_from_memory() {
        use std::os::unix::fs::FileExt;
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
        let range = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [range.0, range.1].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut image = vec![0; (end - start) as usize];
        File::open("/proc/self/mem")
            .unwrap()
            .read_exact_at(&mut image, start)
            .unwrap();
        let fixture = Fixture::new();
        fs::write(fixture.path("vdso"), &image).unwrap();
        let (address, end) = function(&fixture.path("vdso"), "__vdso_clock_gettime");

        let mut resolver = Resolver::new(Budget::default());
        resolver.add_module(MODULE, "[vdso]".into(), ModuleSource::Memory(image), &[]);
        let names = names_at(&mut resolver, address + 1);
        assert!(names[0].ends_with("clock_gettime"), "{names:?}");
        assert!(end > address);
    }

    #[test]
    fn files_that_are_no_elf_files_leave_frames_nameless() {
        let fixture = Fixture::new();
        let elf = fs::read(fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"])).unwrap();
        let garbage: [&[u8]; 5] = [b"", b"\x7fELF", &[0x5a; 100_000], &elf[..64], &elf[..4000]];
        let mut resolver = Resolver::new(Budget::default());
        for (index, bytes) in garbage.into_iter().enumerate() {
            let index = ModuleIndex(index as u32);
            resolver.add_module(
                index,
                "garbage".into(),
                ModuleSource::Memory(bytes.to_vec()),
                &[],
            );
            assert_eq!(
                resolver.resolve(index, &[0, 1, 0x1000, u64::MAX]),
                vec![Vec::new(); 4]
            );
        }
        assert_eq!(resolver.failures().modules, 5);
        assert_eq!(resolver.failures().panics, 0);
    }

    #[test]
    fn a_library_made_by_hand_is_understood() {
        let fixture = Fixture::new();
        let (file, call) = fixture.assemble_dwarf(3, 1);
        let mut resolver = with_module(&file, &[]);
        assert_eq!(names_at(&mut resolver, call), ["from_dwarf:1"]);
        assert_eq!(resolver.failures(), Failures::default());
    }

    #[test]
    fn a_panic_in_blazesym_costs_the_debug_information_of_that_file_only() {
        let fixture = Fixture::new();
        let (good, _) = fixture.assemble_dwarf(3, 1);
        let mut resolver = with_module(&good, &[]);
        let (bad, call) = fixture.assemble_dwarf(3, 99);
        let source = ModuleSource::File(File::open(&bad).unwrap());
        resolver.add_module(ModuleIndex(2), bad, source, &[]);
        assert_eq!(
            text(&resolver.resolve(ModuleIndex(2), &[call])[0]),
            ["work"]
        );
        assert_eq!(names_at(&mut resolver, call), ["from_dwarf:1"]);
        let expected = Failures {
            modules: 0,
            debug_info: 1,
            panics: 1,
        };
        assert_eq!(resolver.failures(), expected);
    }

    #[test]
    fn functions_inlined_a_million_levels_deep_do_not_overflow_the_stack() {
        let fixture = Fixture::new();
        let (file, call) = fixture.assemble_dwarf(1_000_000, 1);
        let mut resolver = with_module(&file, &[]);
        assert_eq!(names_at(&mut resolver, call), ["work"]);
        let expected = Failures {
            modules: 0,
            debug_info: 1,
            panics: 0,
        };
        assert_eq!(resolver.failures(), expected);
    }

    #[test]
    fn a_compressed_section_that_is_not_as_large_as_it_says_is_left_alone() {
        for compression in ["zlib", "zstd"] {
            for declared in [10, 1 << 20, 1 << 40, u64::MAX] {
                let fixture = Fixture::new();
                let file = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"]);
                let call = returns_in(&file, "outer")[0];
                fixture.run(
                    "objcopy",
                    &[&format!("--compress-debug-sections={compression}"), "a"],
                );
                let elf = Elf::read(&File::open(&file).unwrap()).unwrap();
                let section = elf
                    .sections
                    .iter()
                    .find(|section| section.compressed)
                    .unwrap();
                let mut bytes = fs::read(&file).unwrap();
                let at = section.file_offset as usize + 8;
                bytes[at..at + 8].copy_from_slice(&declared.to_le_bytes());
                fs::write(&file, bytes).unwrap();
                let mut resolver = with_module(&file, &[]);
                assert_eq!(names_at(&mut resolver, call), ["outer"]);
                assert_eq!(resolver.failures().debug_info, 1);
            }
        }
    }

    #[test]
    fn a_compressed_symbol_table_such_as_fedora_has_is_read() {
        use std::io::Read;
        let fixture = Fixture::new();
        let file = fixture.compile(("a.c", INLINED_C), "a", &["-O2"]);
        let call = returns_in(&file, "outer")[0];
        fixture.run("objcopy", &["--only-keep-debug", "a", "mini"]);
        let mini = fs::read(fixture.path("mini")).unwrap();
        let mut compressed = Vec::new();
        xz2::read::XzEncoder::new(&*mini, 6)
            .read_to_end(&mut compressed)
            .unwrap();
        for (content, expected) in [(&*compressed, &["outer"][..]), (b"not xz", &[])] {
            fs::write(fixture.path("mini.xz"), content).unwrap();
            fixture.run("cp", &["a", "b"]);
            fixture.run("strip", &["b"]);
            fixture.run("objcopy", &["--add-section=.gnu_debugdata=mini.xz", "b"]);
            assert_eq!(
                names_at(&mut with_module(&fixture.path("b"), &[]), call),
                expected
            );
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// The file is small, so most changes hit headers, symbol tables and DWARF.
        #[test]
        fn a_damaged_file_never_ends_the_resolver(
            changes in proptest::collection::vec((proptest::num::usize::ANY, proptest::num::u8::ANY), 1..40),
        ) {
            static ORIGINAL: std::sync::LazyLock<(Vec<u8>, u64)> = std::sync::LazyLock::new(|| {
                let fixture = Fixture::new();
                let arguments = ["-g", "-O2", "-nostdlib", "-shared", "-Wl,-z,noseparate-code"];
                let file = fixture.compile(("a.c", INLINED_C), "a", &arguments);
                (fs::read(&file).unwrap(), returns_in(&file, "outer")[0])
            });
            let (mut bytes, call) = ORIGINAL.clone();
            for (at, value) in changes {
                let length = bytes.len();
                bytes[at % length] = value;
            }
            let mut resolver = Resolver::new(Budget::default());
            resolver.add_module(MODULE, "damaged".into(), ModuleSource::Memory(bytes), &[]);
            let offsets: Vec<u64> = (0..40).map(|step| call + step).chain([0, u64::MAX]).collect();
            let names = resolver.resolve(MODULE, &offsets);
            proptest::prop_assert_eq!(names.len(), offsets.len());
        }
    }

    #[test]
    fn a_file_that_shrank_is_not_touched() {
        let fixture = Fixture::new();
        let file = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"]);
        let call = returns_in(&file, "outer")[0];
        let mut resolver = with_module(&file, &[]);
        assert_eq!(names_at(&mut resolver, call), INLINED);
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(100)
            .unwrap();
        assert_eq!(names_at(&mut resolver, call), Vec::<String>::new());
        assert_eq!(resolver.failures().modules, 1);
    }

    #[test]
    fn more_modules_than_the_budget_allows_all_resolve() {
        let fixture = Fixture::new();
        let mut resolver = Resolver::new(Budget {
            modules: 2,
            bytes: u64::MAX,
        });
        let mut calls = Vec::new();
        for index in 0..6 {
            let name = format!("m{index}");
            let file = fixture.compile(
                ("a.c", &INLINED_C.replace("outer", &name)),
                &name,
                &["-g", "-O2"],
            );
            let source = ModuleSource::File(File::open(&file).unwrap());
            resolver.add_module(ModuleIndex(index), file.clone(), source, &[]);
            calls.push(returns_in(&file, &name)[0]);
        }
        for _ in 0..2 {
            for (index, &call) in calls.iter().enumerate() {
                let names = resolver.resolve(ModuleIndex(index as u32), &[call]);
                assert_eq!(text(&names[0])[2], format!("m{index}:10"));
                assert!(resolver.parsed.len() <= 2);
            }
        }
    }
}
