use std::fs::{self, File};

use super::super::fixture::{
    Fixture, INLINED, INLINED_C, MODULE, file_offset, function, names_at, returns_in, text,
    with_module,
};
use super::*;

#[test]
fn inlined_functions_come_innermost_first_with_the_real_one_last() {
    let fixture = Fixture::new();
    let file = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"]);
    let [call] = returns_in(&file, "outer")[..] else {
        panic!()
    };
    let mut resolver = with_module(&file);
    let functions = &resolver.resolve(MODULE, &[call])[0];
    assert_eq!(text(functions), INLINED);
    for function in functions {
        let expected = fixture.path("a.c");
        assert_eq!(function.file.as_deref(), expected.to_str());
    }
    assert_eq!(resolver.failures(), Failures::default());
}

#[test]
fn what_was_let_go_is_parsed_anew_when_it_is_asked_for() {
    let fixture = Fixture::new();
    let file = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"]);
    let call = returns_in(&file, "outer")[0];
    let mut resolver = with_module(&file);
    assert!(!resolver.holds_any());
    for _ in 0..2 {
        assert_eq!(names_at(&mut resolver, call), INLINED);
        assert!(resolver.holds_any());
        resolver.let_go();
        assert!(!resolver.holds_any());
    }
}

#[test]
fn a_file_that_was_deleted_after_it_was_opened_still_resolves() {
    let fixture = Fixture::new();
    let file = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"]);
    let call = returns_in(&file, "outer")[0];
    let mut resolver = with_module(&file);
    fs::remove_file(&file).unwrap();
    assert_eq!(names_at(&mut resolver, call), INLINED);
}

#[test]
fn without_debug_information_names_come_from_the_symbol_table() {
    let fixture = Fixture::new();
    let file = fixture.compile(("a.c", INLINED_C), "a", &["-O2"]);
    let call = returns_in(&file, "outer")[0];
    assert_eq!(names_at(&mut with_module(&file), call), ["outer"]);
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
    let mut resolver = with_module(&file);
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
    let mut resolver = with_module(&file);
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
    assert_eq!(names_at(&mut with_module(&file), call), ["gives_up:2"]);
}

#[test]
fn a_return_address_that_nothing_precedes_is_named_by_the_function_that_begins_there() {
    let fixture = Fixture::new();
    let source = "__asm__(\".text\\n.balign 64\\n.skip 64, 0xcc\\n.globl restore\\n\
        .type restore, @function\\nrestore: ud2\\n.size restore, .-restore\\n\");\n\
        int main(void) { return 0; }\n";
    let file = fixture.compile(("r.c", source), "r", &["-nostdlib", "-shared"]);
    let (start, _) = function(&file, "restore");
    let mut resolver = with_module(&file);
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
    let mut resolver = with_module(&file);
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
    assert_eq!(names_at(&mut with_module(&file), call), ["work:4"]);
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
    let mut resolver = with_module(&file);
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
    let mut resolver = with_module(&file);
    let names = resolver.resolve(MODULE, &returns_in(&file, "4open"));
    let names: Vec<_> = names.iter().flat_map(|names| text(names)).collect();
    assert!(names.contains(&"<c::Shop>::open:8".to_owned()), "{names:?}");
}

#[test]
fn the_vdso_is_named_from_memory() {
    let image = crate::target::vdso::image().unwrap();
    let fixture = Fixture::new();
    fs::write(fixture.path("vdso"), &image).unwrap();
    let (address, end) = function(&fixture.path("vdso"), "__vdso_clock_gettime");

    let mut resolver = Resolver::new(Budget::default());
    resolver.add_module(
        MODULE,
        Path::new("[vdso]"),
        ModuleSource::Memory(image),
        None,
    );
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
            Path::new("garbage"),
            ModuleSource::Memory(bytes.to_vec()),
            None,
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
fn a_panic_in_blazesym_costs_the_debug_information_of_that_file_only() {
    let fixture = Fixture::new();
    let (good, _) = fixture.assemble_dwarf(3, 1);
    let mut resolver = with_module(&good);
    let (bad, call) = fixture.assemble_dwarf(3, 99);
    let source = ModuleSource::File(File::open(&bad).unwrap());
    resolver.add_module(ModuleIndex(2), &bad, source, None);
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
fn a_file_that_shrank_is_not_touched() {
    let fixture = Fixture::new();
    let file = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"]);
    let call = returns_in(&file, "outer")[0];
    let mut resolver = with_module(&file);
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
        resolver.add_module(ModuleIndex(index), &file, source, None);
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

#[test]
fn a_descriptor_used_again_is_not_taken_for_the_file_it_was() {
    let fixture = Fixture::new();
    let mut resolver = Resolver::new(Budget::default());
    for name in ["first", "second", "third"] {
        let source = INLINED_C.replace("outer", name);
        let file = fixture.compile(("a.c", &source), name, &["-g", "-O2"]);
        let opened = ModuleSource::File(File::open(&file).unwrap());
        resolver.add_module(MODULE, &file, opened, None);
        let call = returns_in(&file, name)[0];
        assert_eq!(names_at(&mut resolver, call)[2], format!("{name}:10"));
        // Fails from here on, and is let go.
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(0)
            .unwrap();
        assert_eq!(names_at(&mut resolver, call), Vec::<String>::new());
    }
}

#[test]
fn debug_information_beats_a_symbol_of_another_name_for_the_same_code() {
    // As a linker leaves it that folds functions of equal code: the other one's symbol is at this one's address.
    let source = "#include <cstdlib>\n\
        extern \"C\" __attribute__((noinline)) void *rows(int n) { void *p = malloc(n); asm volatile(\"\"); return p; }\n\
        int main(int argc, char **) { return rows(argc) == nullptr; }\n";
    let fixture = Fixture::new();
    let file = fixture.compile(("f.cpp", source), "f", &["-g", "-O1"]);
    let call = returns_in(&file, "rows")[0];
    fixture.run(
        "objcopy",
        &["--redefine-sym", "rows=_ZN3app7columnsEi", "f"],
    );
    assert_eq!(names_at(&mut with_module(&file), call), ["rows:2"]);
}

#[test]
fn functions_of_rusts_library_are_qualified_where_there_are_only_line_tables() {
    let source = "\
#[inline(never)]
pub fn grow(n: usize) -> Vec<u8> { let mut v = Vec::with_capacity(n); v.push(1); v }
fn main() { std::process::exit(std::hint::black_box(grow(std::env::args().count())).len() as i32 & 1); }
";
    let fixture = Fixture::new();
    let arguments = [
        "-O",
        "-Cdebuginfo=line-tables-only",
        "-Csymbol-mangling-version=v0",
        "-Cstrip=none",
    ];
    let file = fixture.compile(("g.rs", source), "g", &arguments);
    let mut resolver = with_module(&file);
    let names = resolver.resolve(MODULE, &returns_in(&file, "4grow"));
    let names: Vec<_> = names
        .into_iter()
        .flatten()
        .map(|name| name.function)
        .collect();
    for wanted in ["alloc::raw_vec::", "alloc::vec::with_capacity", "g::grow"] {
        assert!(
            names.iter().any(|name| name.starts_with(wanted)),
            "{wanted}: {names:?}"
        );
    }
}

#[test]
fn inlined_functions_of_cxx_are_qualified_by_what_they_stand_in() {
    let source = "\
#include <cstdlib>
#define INLINE __attribute__((always_inline))
namespace app { namespace {
INLINE inline void *hidden(int n) { void *p = malloc(n); asm volatile(\"\"); return p; }
struct Index { INLINE void *insert(int n) { void *p = hidden(n); asm volatile(\"\"); return p; } };
} }
INLINE static inline void *outermost(int n) { app::Index index; void *p = index.insert(n); asm volatile(\"\"); return p; }
__attribute__((noinline)) void *work(int n) {
  auto twice = [](int n) INLINE { void *p = outermost(2 * n); asm volatile(\"\"); return p; };
  void *p = twice(n); asm volatile(\"\"); return p;
}
int main(int argc, char **) { return work(argc) == nullptr; }
";
    let fixture = Fixture::new();
    for (name, arguments) in [
        ("plain", &["-g", "-O2"][..]),
        ("packed", &["-g", "-O2", "-gz"]),
    ] {
        let file = fixture.compile(("q.cpp", source), name, arguments);
        let call = returns_in(&file, "work")[0];
        let names = &with_module(&file).resolve(MODULE, &[call])[0];
        let names: Vec<&str> = names.iter().map(|name| name.function.as_str()).collect();
        assert_eq!(
            names,
            [
                "app::(anonymous namespace)::hidden",
                "app::(anonymous namespace)::Index::insert",
                "outermost",
                "work(int)::{lambda}::operator()",
                "work(int)",
            ],
            "{name}"
        );
    }
}
