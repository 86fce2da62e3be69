use std::fs::{self, File};
use std::time::{Duration, Instant};

use super::super::debuginfod::Client;
use super::super::fixture::{Fixture, INLINED_C, returns_in};
use super::super::worker::BATCH;
use super::*;

/// Whatever the environment of the tests says, nothing is fetched.
fn start() -> io::Result<Symbols> {
    Symbols::start_with(Budget::default(), MOST_WAITING, Debuginfod::Off)
}

const MODULE: ModuleIndex = ModuleIndex(0);

/// The program of `INLINED_C`, as a module, and its return address in `outer`.
fn add_program(symbols: &Symbols, fixture: &Fixture, index: ModuleIndex) -> u64 {
    let path = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-O2"]);
    let source = ModuleSource::File(File::open(&path).unwrap());
    let call = returns_in(&path, "outer")[0];
    symbols.add_module(index, path.clone(), source, None);
    fs::remove_file(path).unwrap();
    call
}

fn innermost(names: &FrameNames) -> (u32, &str) {
    (names.frame.0, &names.functions[0].function)
}

#[test]
fn names_of_a_deleted_file_arrive_while_the_thread_runs() {
    let symbols = start().unwrap();
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
    let symbols = start().unwrap();
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
    let symbols = start().unwrap();
    let counters = symbols.counters();
    let garbage = ModuleSource::Memory(vec![0x5a; 5000]);
    symbols.add_module(ModuleIndex(1), "garbage".into(), garbage, None);
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
    let symbols = start().unwrap();
    let counters = symbols.counters();
    let fixture = Fixture::new();
    let (path, call) = fixture.assemble_dwarf(1, 99);
    let source = ModuleSource::File(File::open(&path).unwrap());
    symbols.add_module(ModuleIndex(1), path, source, None);
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
    let symbols = Symbols::start_with(Budget::default(), 0, Debuginfod::Off).unwrap();
    let counters = symbols.counters();
    symbols.resolve(vec![(FrameIndex(0), MODULE, 0), (FrameIndex(1), MODULE, 0)]);
    assert_eq!(symbols.finish(), []);
    assert_eq!(counters.refused_frames(), 2);
}

#[test]
fn dropped_unfinished_it_ends_without_being_asked() {
    let symbols = start().unwrap();
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

/// A process's root with an empty perf map, and where that is.
fn perf_map(root: &Fixture) -> (PerfMapSource, PathBuf) {
    fs::create_dir(root.path("tmp")).unwrap();
    let map = root.path("tmp/perf-7.map");
    fs::write(&map, "").unwrap();
    let source = PerfMapSource {
        files: Arc::new(NamedFiles::below(
            &root.path(""),
            std::time::SystemTime::now(),
        )),
        ns_pid: 7,
        owner: rustix::process::geteuid().as_raw(),
        started: std::time::SystemTime::now(),
    };
    (source, map)
}

#[test]
fn code_in_no_file_is_named_as_its_perf_map_grows() {
    let symbols = start().unwrap();
    let root = Fixture::new();
    let (source, map) = perf_map(&root);
    symbols.add_perf_map(MODULE, source);
    symbols.resolve(vec![(FrameIndex(0), MODULE, 0x1010)]);
    fs::write(&map, "1000 20 late\n").unwrap();
    let patience = Instant::now();
    let mut names = Vec::new();
    while names.is_empty() {
        assert!(patience.elapsed() < Duration::from_secs(60));
        names = symbols.try_names();
        std::thread::yield_now();
    }
    assert_eq!(innermost(&names[0]), (0, "late"));
}

#[test]
fn two_processes_have_each_its_own_names_for_an_address() {
    let symbols = start().unwrap();
    let roots = [Fixture::new(), Fixture::new()];
    for (index, root) in (0..).zip(&roots) {
        let (source, map) = perf_map(root);
        fs::write(&map, format!("1000 20 f{index}\n2000 nonsense\n")).unwrap();
        symbols.add_perf_map(ModuleIndex(index), source);
        symbols.resolve(vec![
            (FrameIndex(2 * index), ModuleIndex(index), 0x1010),
            (FrameIndex(2 * index + 1), ModuleIndex(index), 0x9000),
        ]);
        // The second one's is read when all is finished.
        if index == 0 {
            symbols.end_perf_map(ModuleIndex(index));
        }
    }
    let counters = symbols.counters();
    let mut names = symbols.finish();
    names.sort_by_key(|names| names.frame);
    assert_eq!(
        names.iter().map(innermost).collect::<Vec<_>>(),
        [(0, "f0"), (2, "f1")]
    );
    assert_eq!(counters.nameless_frames(), 2);
    assert_eq!(counters.malformed_perf_lines(), 2);
    assert_eq!(counters.refused_perf_maps(), 0);
}

/// A client that runs `script`, and then answers the file `a.debug` of the fixture for the build id `abcdef`.
fn client(fixture: &Fixture, script: &str) -> Client {
    let answer = fixture.path("a.debug");
    let text = format!(
        "#!/bin/sh\n{script}\n[ \"$1 $2\" = 'debuginfo abcdef' ] && echo {}\n",
        answer.display()
    );
    // Not written to by this process: another thread's child could still hold it open as it is run.
    fs::write(fixture.path("client.sh"), text).unwrap();
    fixture.run("install", &["-m755", "client.sh", "client"]);
    Client {
        program: fixture.path("client"),
        patience: Duration::from_secs(60),
    }
}

/// The program of `INLINED_C` without its debug information, which is in `a.debug`, and its return address in `outer`.
fn stripped(fixture: &Fixture, build_id: &str) -> (PathBuf, u64) {
    let build_id = format!("-Wl,--build-id={build_id}");
    let path = fixture.compile(
        ("a.c", INLINED_C),
        "a",
        &["-g", "-O2", "-rdynamic", &build_id],
    );
    let call = returns_in(&path, "outer")[0];
    fixture.run("objcopy", &["--only-keep-debug", "a", "a.debug"]);
    fixture.run("strip", &["a"]);
    (path, call)
}

/// The thread, asked for a name in that program.
fn ask_for_stripped(fixture: &Fixture, build_id: &str, client: Client) -> Symbols {
    let (path, call) = stripped(fixture, build_id);
    let debuginfod = Debuginfod::Client(client);
    let symbols = Symbols::start_with(Budget::default(), MOST_WAITING, debuginfod).unwrap();
    let source = ModuleSource::File(File::open(&path).unwrap());
    symbols.add_module(MODULE, path, source, None);
    symbols.resolve(vec![(FrameIndex(0), MODULE, call)]);
    symbols
}

/// The innermost name that is found with a client that runs this script.
fn fetched(fixture: &Fixture, build_id: &str, script: &str) -> String {
    let symbols = ask_for_stripped(fixture, build_id, client(fixture, script));
    innermost(&symbols.finish()[0]).1.to_owned()
}

#[test]
fn debug_information_that_is_not_here_is_fetched() {
    assert_eq!(fetched(&Fixture::new(), "0xabcdef", ""), "inner");
}

#[test]
fn without_an_answer_names_come_from_what_is_here() {
    let fixture = Fixture::new();
    assert_eq!(fetched(&fixture, "0xabcd", ""), "outer");
    assert_eq!(fetched(&fixture, "0xabcdef", "exit 1"), "outer");
    assert_eq!(
        fetched(&fixture, "0xabcdef", "echo /dev/zero; exit 0"),
        "outer"
    );
    assert_eq!(
        fetched(&fixture, "0xabcdef", "echo relative; exit 0"),
        "outer"
    );
}

#[test]
fn fetched_debug_information_of_another_build_is_not_used() {
    let fixture = Fixture::new();
    stripped(&fixture, "0x123456");
    fs::rename(fixture.path("a.debug"), fixture.path("other")).unwrap();
    let script = format!("echo {}; exit 0", fixture.path("other").display());
    assert_eq!(fetched(&fixture, "0xabcdef", &script), "outer");
}

#[test]
fn a_client_that_takes_too_long_is_ended() {
    let fixture = Fixture::new();
    let mut client = client(&fixture, "exec sleep 1000");
    client.patience = Duration::ZERO;
    let symbols = ask_for_stripped(&fixture, "0xabcdef", client);
    assert_eq!(innermost(&symbols.finish()[0]).1, "outer");
}

#[test]
fn a_client_does_not_outlive_the_thread() {
    let fixture = Fixture::new();
    let directory = fixture.path("");
    let script = format!(
        "cd {} && echo $$ > begun && mv begun pid && exec sleep 1000",
        directory.display()
    );
    let client = client(&fixture, &script);
    let symbols = ask_for_stripped(&fixture, "0xabcdef", client);
    let patience = Instant::now();
    let until = |holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(patience.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until(&|| fixture.path("pid").exists());
    let pid = fs::read_to_string(fixture.path("pid")).unwrap();
    let process = PathBuf::from("/proc").join(pid.trim());
    drop(symbols);
    until(&|| !process.exists());
}

#[test]
fn a_client_that_is_not_installed_is_told_of() {
    let symbols = Symbols::start_with(Budget::default(), MOST_WAITING, Debuginfod::Missing);
    let symbols = symbols.unwrap();
    let counters = symbols.counters();
    assert_eq!(symbols.finish(), []);
    assert!(counters.debuginfod_missing());
}
