use std::fs::{self, File};
use std::time::{Duration, Instant};

use super::super::fixture::{Fixture, INLINED_C, returns_in};
use super::*;

const MODULE: ModuleIndex = ModuleIndex(0);

/// The program of `INLINED_C`, as a module, and its return address in `outer`.
fn add_program(symbols: &Symbols, fixture: &Fixture, index: ModuleIndex) -> u64 {
    let path = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"]);
    let source = ModuleSource::File(File::open(&path).unwrap());
    let call = returns_in(&path, "outer")[0];
    symbols.add_module(index, path.clone(), source, Vec::new());
    fs::remove_file(path).unwrap();
    call
}

fn innermost(names: &FrameNames) -> (u32, &str) {
    (names.frame.0, &names.functions[0].function)
}

#[test]
fn names_of_a_deleted_file_arrive_while_the_thread_runs() {
    let symbols = Symbols::start().unwrap();
    let call = add_program(&symbols, &Fixture::new(), MODULE);
    symbols.resolve(vec![(FrameIndex(7), MODULE, call)]);
    let patience = Instant::now();
    let mut names = Vec::new();
    while names.is_empty() {
        assert!(patience.elapsed() < Duration::from_secs(60));
        names = symbols.try_names();
        std::thread::yield_now();
    }
    assert_eq!(innermost(&names[0]), (7, "inner"));
    assert_eq!(symbols.finish(), []);
}

#[test]
fn finishing_answers_everything_and_each_location_once() {
    let symbols = Symbols::start().unwrap();
    let call = add_program(&symbols, &Fixture::new(), MODULE);
    let counters = symbols.counters();
    // Far more than the batches that may wait to be taken.
    let most = (2 * BATCH * MOST_BATCHES) as u32;
    for first in (0..most).step_by(1000) {
        let frames = (first..most.min(first + 1000)).map(|i| (FrameIndex(i), MODULE, call));
        symbols.resolve(frames.clone().collect());
        symbols.resolve(frames.collect());
    }
    // The file has nothing at offset 1; no module has the number 9.
    symbols.resolve(vec![
        (FrameIndex(most), MODULE, 1),
        (FrameIndex(most + 1), ModuleIndex(9), call),
    ]);
    let mut frames: Vec<u32> = symbols.finish().iter().map(|names| names.frame.0).collect();
    frames.sort_unstable();
    assert_eq!(frames, (0..most).collect::<Vec<_>>());
    assert_eq!(counters.nameless_frames(), 2);
    assert_eq!(counters.refused_frames(), 0);
    assert_eq!(counters.failed_modules(), 0);
}

#[test]
fn a_module_that_is_garbage_is_counted_and_the_others_have_their_names() {
    let symbols = Symbols::start().unwrap();
    let counters = symbols.counters();
    let garbage = ModuleSource::Memory(vec![0x5a; 5000]);
    symbols.add_module(ModuleIndex(1), "garbage".into(), garbage, Vec::new());
    let call = add_program(&symbols, &Fixture::new(), MODULE);
    symbols.resolve(vec![
        (FrameIndex(1), ModuleIndex(1), 0x40),
        (FrameIndex(2), MODULE, call),
    ]);
    let names = symbols.finish();
    assert_eq!(
        names.iter().map(innermost).collect::<Vec<_>>(),
        [(2, "inner")]
    );
    assert_eq!(
        (counters.failed_modules(), counters.nameless_frames()),
        (1, 1)
    );
}

#[test]
fn a_panic_inside_blazesym_is_counted_and_the_thread_goes_on() {
    let symbols = Symbols::start().unwrap();
    let counters = symbols.counters();
    let fixture = Fixture::new();
    let (path, call) = fixture.assemble_dwarf(1, 99);
    let source = ModuleSource::File(File::open(&path).unwrap());
    symbols.add_module(ModuleIndex(1), path, source, Vec::new());
    let good = add_program(&symbols, &fixture, MODULE);
    symbols.resolve(vec![
        (FrameIndex(1), ModuleIndex(1), call),
        (FrameIndex(2), MODULE, good),
    ]);
    let mut names = symbols.finish();
    names.sort_by_key(|names| names.frame);
    assert_eq!(
        names.iter().map(innermost).collect::<Vec<_>>(),
        [(1, "work"), (2, "inner")]
    );
    assert_eq!((counters.panics(), counters.failed_debug_info()), (1, 1));
}

#[test]
fn locations_beyond_what_may_wait_are_refused_and_counted() {
    let symbols = Symbols::start_with(Budget::default(), 0).unwrap();
    let counters = symbols.counters();
    symbols.resolve(vec![(FrameIndex(0), MODULE, 0), (FrameIndex(1), MODULE, 0)]);
    assert_eq!(symbols.finish(), []);
    assert_eq!(counters.refused_frames(), 2);
}

#[test]
fn dropped_unfinished_it_ends_without_being_asked() {
    let symbols = Symbols::start().unwrap();
    let call = add_program(&symbols, &Fixture::new(), MODULE);
    let frames = 4 * BATCH * MOST_BATCHES;
    let frames = (0..frames as u32).map(|i| (FrameIndex(i), MODULE, call));
    symbols.resolve(frames.collect());
    let shared = Arc::downgrade(&symbols.shared);
    drop(symbols);
    let patience = Instant::now();
    while shared.strong_count() > 0 {
        assert!(patience.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
}
