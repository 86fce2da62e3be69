use std::{os::unix::fs::MetadataExt, process::Command};

use super::*;
use crate::target::process::tests::{Running, compile, leaderless};

const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

fn functions(allocator: &Allocator) -> Vec<Function> {
    allocator
        .probes
        .iter()
        .map(|probe| probe.function)
        .collect()
}

#[test]
fn the_libc_of_a_process_is_found_and_open() {
    let cat = Running::cat();
    let target = cat.target();
    let allocator = find(&target).unwrap();
    assert!(allocator.name.ends_with("libc.so.6"));
    assert_eq!(
        allocator.file.metadata().unwrap().ino(),
        std::fs::metadata(LIBC).unwrap().ino()
    );
    assert!(allocator.build_id.is_some());
    assert_eq!(allocator.interposed_by, None);
    assert_eq!(allocator.unexamined, Vec::<PathBuf>::new());
    for map in maps::read(&target.proc_dir()).unwrap() {
        let is_its_code = map.executable
            && matches!(&map.path, MappingName::File(path, _) if *path == allocator.name);
        assert_eq!(
            is_its_code,
            allocator.text.start <= map.start && map.end <= allocator.text.end
        );
    }
}

#[test]
fn a_process_without_its_leader_has_an_allocator_too() {
    let (_dir, running) = leaderless();
    assert!(!find(&running.target()).unwrap().text.is_empty());
}

#[test]
fn aliases_are_probed_once() {
    let allocator = in_library(Path::new(LIBC)).unwrap();
    assert!(allocator.text.is_empty());
    let functions = functions(&allocator);
    for function in [
        Function::Malloc,
        Function::Calloc,
        Function::Realloc,
        Function::Free,
    ] {
        assert!(functions.contains(&function));
    }
    assert!(!functions.contains(&Function::Cfree), "cfree is free");
    assert!(
        !functions.contains(&Function::Memalign),
        "memalign is aligned_alloc"
    );
    let offsets: HashSet<_> = allocator.probes.iter().map(|probe| probe.offset).collect();
    assert_eq!(offsets.len(), functions.len());
}

const SIZED: &str = r#"
    #include <stdlib.h>
    void *malloc(size_t size) { (void)size; return 0; }
    void free(void *block) { static void *volatile last; last = block; }
    void free_sized(void *block, size_t size) { (void)size; free(block); }
    void free_aligned_sized(void *block, size_t alignment, size_t size) {
        static void *volatile last; (void)alignment; (void)size; last = block;
    }"#;

#[test]
fn a_sized_free_that_only_calls_free_is_not_probed() {
    let (_dir, library) = compile(SIZED, &["-shared", "-fPIC", "-O2"]);
    let allocator = in_library(&library).unwrap();
    assert_eq!(
        functions(&allocator),
        [Function::Malloc, Function::Free, Function::FreeAlignedSized]
    );
}

#[test]
fn an_offset_leads_to_the_instruction_that_was_chosen() {
    let content = std::fs::read(LIBC).unwrap();
    for probe in in_library(Path::new(LIBC)).unwrap().probes {
        let at = usize::try_from(probe.offset).unwrap();
        let place = placement::place(&content[at..at + 16], 0, probe.function);
        if probe.emulated {
            assert_eq!((place.offset, place.emulated), (0, true), "{probe:?}");
        }
    }
}

#[test]
fn a_preloaded_allocator_is_told() {
    let (_dir, library) = compile(
        r#"
        #include <stddef.h>
        static char pool[1 << 20] __attribute__((aligned(16)));
        static size_t used;
        void *malloc(size_t size) { void *block = pool + used; used += (size + 31) & ~(size_t)15; return block; }
        void free(void *block) { (void)block; }
        void *calloc(size_t count, size_t size) { return malloc(count * size); }
        void *realloc(void *block, size_t size) {
            char *moved = malloc(size);
            for (size_t i = 0; block && i < size; i++) moved[i] = ((char *)block)[i];
            return moved;
        }"#,
        &["-shared", "-fPIC", "-O1", "-fno-builtin"],
    );
    let mut cat = Running::start(Command::new("cat").env("LD_PRELOAD", &library));
    cat.say("ready");
    assert_eq!(cat.line(), "ready");
    let allocator = find(&cat.target()).unwrap();
    assert_eq!(
        allocator.interposed_by,
        Some(library.canonicalize().unwrap())
    );
    assert!(allocator.name.ends_with("libc.so.6"));
}

#[test]
fn a_program_that_exports_its_own_malloc_is_told() {
    let source = r#"
        #include <stdio.h>
        #include <unistd.h>
        void *malloc(unsigned long size) { (void)size; return 0; }
        void free(void *block) { (void)block; }
        int main(void) { char c; write(1, "ready\n", 6); return read(0, &c, 1); }"#;
    let (_dir, program) = compile(source, &["-rdynamic", "-fno-builtin"]);
    let mut running = Running::start(&mut Command::new(&program));
    assert_eq!(running.line(), "ready");
    let allocator = find(&running.target()).unwrap();
    assert_eq!(
        allocator.interposed_by,
        Some(program.canonicalize().unwrap())
    );
}

#[test]
fn a_library_that_is_no_allocator_is_an_error() {
    let program = Path::new("/bin/cat");
    let error = in_library(program).unwrap_err();
    assert!(
        error.to_string().contains("no allocator function"),
        "{error}"
    );
    assert!(in_library(Path::new("/none")).is_err());
    assert!(in_library(Path::new("/etc/passwd")).is_err());
}
