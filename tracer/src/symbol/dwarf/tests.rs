use std::fs;

use super::super::fixture::{
    Fixture, INLINED, INLINED_C, MODULE, names_at, returns_in, with_module,
};
use super::super::module::ModuleSource;
use super::super::resolver::{Budget, Failures, Resolver};
use super::*;

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
        let mut resolver = with_module(&file);
        assert_eq!(names_at(&mut resolver, call), INLINED, "{compression}");
    }
}

#[test]
fn a_library_made_by_hand_is_understood() {
    let fixture = Fixture::new();
    let (file, call) = fixture.assemble_dwarf(3, 1);
    let mut resolver = with_module(&file);
    assert_eq!(names_at(&mut resolver, call), ["from_dwarf:1"]);
    assert_eq!(resolver.failures(), Failures::default());
}

#[test]
fn functions_inlined_a_million_levels_deep_do_not_overflow_the_stack() {
    let fixture = Fixture::new();
    let (file, call) = fixture.assemble_dwarf(1_000_000, 1);
    let mut resolver = with_module(&file);
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
            let mut resolver = with_module(&file);
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
            names_at(&mut with_module(&fixture.path("b")), call),
            expected
        );
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

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
        resolver.add_module(MODULE, Path::new("damaged"), ModuleSource::Memory(bytes), None);
        let offsets: Vec<u64> = (0..40).map(|step| call + step).chain([0, u64::MAX]).collect();
        let names = resolver.resolve(MODULE, &offsets);
        proptest::prop_assert_eq!(names.len(), offsets.len());
    }
}
