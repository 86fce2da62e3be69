//! Real files for the tests: tiny programs, compiled on the spot, and where their calls return to.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use object::{Object, ObjectSegment, ObjectSymbol};

use super::module::ModuleSource;
use super::resolver::{Budget, Resolver};
use crate::record::{FunctionName, ModuleIndex};
use crate::target::named_file::NamedFiles;

/// A C program with functions inlined into `outer`, which line 7 ends up in.
pub(super) const INLINED_C: &str = "\
__attribute__((noinline)) int leaf(int x) { __asm__ volatile(\"\"); return x + 1; }
#define INLINE static inline __attribute__((always_inline))
INLINE int inner(int x) {
  return leaf(x) * 3;
}
INLINE int middle(int x) {
  return inner(x) + 5;
}
int outer(int x) {
  return middle(x) ^ 7;
}
int main(int argc, char **argv) { (void)argv; return outer(argc); }
";

/// A directory that is gone after the test.
pub(super) struct Fixture(tempfile::TempDir);

impl Fixture {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        // Some systems link /tmp to elsewhere.
        self.0.path().canonicalize().unwrap().join(name)
    }

    /// Writes `source` to a file and compiles it to `name`, which it returns. Compilers go by the file's extension.
    pub(super) fn compile(&self, source: (&str, &str), name: &str, arguments: &[&str]) -> PathBuf {
        let (file_name, text) = source;
        fs::write(self.path(file_name), text).unwrap();
        let compiler = match Path::new(file_name).extension().unwrap().to_str() {
            Some("c") => "cc",
            Some("cpp") => "c++",
            Some("rs") => "rustc",
            Some("s") => "cc",
            other => panic!("no compiler for {other:?}"),
        };
        self.run(compiler, &[arguments, &["-o", name, file_name]].concat());
        self.path(name)
    }

    /// A library with DWARF as `fixture.s` says, and a return address in its function `work`.
    pub(super) fn assemble_dwarf(&self, depth: u32, file_number: u32) -> (PathBuf, u64) {
        let name = format!("hand-{depth}-{file_number}.so");
        let symbols = format!("-Wa,--defsym,DEPTH={depth},--defsym,FILE={file_number}");
        let source = ("hand.s", include_str!("fixture.s"));
        let file = self.compile(source, &name, &["-nostdlib", "-shared", &symbols]);
        let (start, _) = function(&file, "work");
        let call = file_offset(&file, start) + 2;
        (file, call)
    }

    /// Runs a tool in the directory.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.path(""))
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// The address range of the function whose symbol contains `part`; of the shortest such symbol.
pub(super) fn function(file: &Path, part: &str) -> (u64, u64) {
    let bytes = fs::read(file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let symbol = elf
        .symbols()
        .chain(elf.dynamic_symbols())
        .filter(|symbol| symbol.is_definition() && symbol.name().unwrap().contains(part))
        .min_by_key(|symbol| symbol.name().unwrap().len())
        .unwrap_or_else(|| panic!("no symbol like {part} in {}", file.display()));
    (symbol.address(), symbol.address() + symbol.size())
}

/// Where an address before relocation is in the file.
pub(super) fn file_offset(file: &Path, address: u64) -> u64 {
    let bytes = fs::read(file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let segment = elf
        .segments()
        .find(|segment| (segment.address()..segment.address() + segment.size()).contains(&address))
        .unwrap();
    address - segment.address() + segment.file_range().0
}

/// Where the calls in a function return to, as offsets in the file.
pub(super) fn returns_in(file: &Path, part: &str) -> Vec<u64> {
    let (start, end) = function(file, part);
    let offset = file_offset(file, start) as usize;
    let bytes = fs::read(file).unwrap();
    let code = &bytes[offset..offset + (end - start) as usize];
    Decoder::with_ip(64, code, offset as u64, DecoderOptions::NONE)
        .iter()
        .filter(|instruction| {
            matches!(
                instruction.flow_control(),
                FlowControl::Call | FlowControl::IndirectCall
            )
        })
        .map(|instruction| instruction.next_ip())
        .collect()
}

/// The one module of most tests.
pub(super) const MODULE: ModuleIndex = ModuleIndex(1);

/// Resolves one file.
pub(super) fn with_module(file: &Path) -> Resolver {
    with_module_in(file, Path::new("/"))
}

/// Resolves one file of a target that has this root, and for which the file has the same name as for us.
pub(super) fn with_module_in(file: &Path, root: &Path) -> Resolver {
    let mut resolver = Resolver::new(Budget::default());
    let source = ModuleSource::File(File::open(file).unwrap());
    let named = NamedFiles::below(root, SystemTime::now());
    resolver.add_module(MODULE, file, source, Some(&named));
    resolver
}

/// Names as text: innermost first, each with its line where it has one.
pub(super) fn text(functions: &[FunctionName]) -> Vec<String> {
    let text = |f: &FunctionName| match f.line {
        Some(line) => format!("{}:{line}", f.function),
        None => f.function.clone(),
    };
    functions.iter().map(text).collect()
}

/// The names at one return address, as text.
pub(super) fn names_at(resolver: &mut Resolver, offset: u64) -> Vec<String> {
    text(&resolver.resolve(MODULE, &[offset])[0])
}

/// The names in `outer` of `INLINED_C`.
pub(super) const INLINED: [&str; 3] = ["inner:4", "middle:7", "outer:10"];
