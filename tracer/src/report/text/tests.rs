use super::super::question::Question;
use super::super::script::{MIB, Script};
use super::*;
use crate::live::Kinds;
use crate::record::reader::ReadError;
use crate::record::{Entry, FrameIndex, Pause, PythonQuality, Quality};

mod first;
mod resident;
mod trust;

/// All there is to tell.
fn text_of(profile: &Profile, options: TextOptions) -> String {
    let options = TextOptions {
        verbose: true,
        ..options
    };
    written(profile, &options)
}

fn written(profile: &Profile, options: &TextOptions) -> String {
    let mut text = Vec::new();
    write(profile, options, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.to_lowercase().contains("leak"), "{text}");
    text
}

fn assert_text(profile: &Profile, expected: &str) {
    let text = text_of(profile, TextOptions::default());
    assert!(
        text == expected,
        "--- written:\n{text}--- expected:\n{expected}"
    );
}

/// Two call sites, one of them inlined, and a leaf without a name.
fn stacks(script: &mut Script) {
    script.stack(
        1,
        &[
            "row@/build/src/table.c:12<load@/build/src/table.c:40",
            "main@src/main.c:7",
        ],
    );
    script.stack(
        2,
        &[
            "operator new(unsigned long)",
            "Cache::put(Key const&)@cache.cc:88",
            "",
            "main@src/main.c:9",
        ],
    );
    script.stack(3, &["", ""]);
}

/// It was launched, holds 300 MiB at its end, and exits with code 0.
fn server() -> Profile {
    let mut script = Script::launched("server --port 80");
    stacks(&mut script);
    script.memory(0, 0, MIB);
    for n in 0..300 {
        script.allocate(0, 1000 + n, 1, MIB);
    }
    script.allocate(0, 12_400, 2, 80 * MIB);
    script.allocate(0, 12_450, 3, MIB + MIB / 2);
    script.memory(0, 12_460, 390 * MIB);
    script.free_last(0, 20_000);
    script.free_last(0, 20_001);
    script.memory(0, 59_990, 311 * MIB);
    script.exit(0, 60_000, 0);
    script.closed()
}

#[test]
fn a_launched_process_that_ends() {
    assert_text(
        &server(),
        "\
Peak: 400.0 MB (381.5 MiB) in 302 blocks, at +12.5s (2026-01-02T03:04:17Z)
server --port 80 (pid 4242), traced from its start, for 1 min 0 s
It exited with code 0.

How it adds up
                         at the start    at the peak     at the end
  traced                            0      381.5 MiB      300.0 MiB
  unexplained                 1.0 MiB        8.5 MiB       11.0 MiB
  = RSS                       1.0 MiB      390.0 MiB      311.0 MiB
  Unexplained: the allocator's own overhead, thread stacks, code and mapped files.

Who held it at the peak
  300.0 MiB   78.6 %  300 blocks  row (src/table.c:12, inlined)
                                    load (src/table.c:40)
                                    main (src/main.c:7)
   80.0 MiB   21.0 %     1 block  Cache::put(Key const&) (cache.cc:88)
                                    server+0x2020
                                    main (src/main.c:9)
    1.5 MiB    0.4 %     1 block  server+0x3000
                                    server+0x3010

Live at the end: 314.6 MB (300.0 MiB) in 300 blocks, at +60.0s
  300.0 MiB  100.0 %  300 blocks  row (src/table.c:12, inlined) ← load ← main

How far to trust this
  Nothing was lost: every event was seen.
  3 code locations have no name: shown as module+offset.
",
    );
}

#[test]
fn a_late_attach_is_told_what_was_there_before() {
    let mut script = Script::attached("server --port 80", 3100 * MIB, 3174 * MIB);
    stacks(&mut script);
    script.free_unknown(0, 500, 200 * MIB);
    script.allocate(0, 1000, 1, 241 * MIB);
    script.memory(0, 1010, 3216 * MIB);
    script.detach(0, 30_000);
    assert_text(
        &script.closed(),
        "\
Peak: 252.7 MB (241.0 MiB) traced in 1 block, at +1.0s (2026-01-02T03:04:06Z)
      on top of 3.1 GB (2.9 GiB) that were there before attach; who holds those was not seen.
server --port 80 (pid 4242), attached to while it ran, for 30.0 s
It runs on: tracing ended here (interrupted).

How it adds up
                            at attach    at the peak     at the end
  traced                            0      241.0 MiB      241.0 MiB
  held before attach      3,174.0 MiB    2,974.0 MiB    2,974.0 MiB
  unexplained                       0        1.0 MiB        1.0 MiB
  = RSS                   3,174.0 MiB    3,216.0 MiB    3,216.0 MiB
  Unexplained: the allocator's own overhead, thread stacks, code and mapped files.

Who held it at the peak
  241.0 MiB  100.0 %  1 block  row (src/table.c:12, inlined)
                                 load (src/table.c:40)
                                 main (src/main.c:7)

Live at the end: the same as at the peak

How far to trust this
  Nothing was lost: every event was seen.
  3 code locations have no name: shown as module+offset.
  1 free was of memory from before tracing began: 200.0 MiB in all.
",
    );
}

#[test]
fn an_out_of_memory_kill_says_the_limit_and_how_long_after_the_peak() {
    let mut script = Script::launched("server --port 80");
    stacks(&mut script);
    script.memory_in_cgroup(0, 0, MIB, Some(10 * MIB), Some(512 * MIB));
    script.allocate(0, 1000, 1, 500 * MIB);
    script.memory_in_cgroup(0, 1010, 490 * MIB, Some(511 * MIB), Some(512 * MIB));
    script.oom_victim(0, 1230);
    script.exit(0, 1240, 9);
    assert_text(
        &script.closed(),
        "\
Peak: 524.3 MB (500.0 MiB) in 1 block, at +1.0s (2026-01-02T03:04:06Z)
server --port 80 (pid 4242), traced from its start, for 1.2 s
It was OOM-killed 230 ms after the peak: the cgroup /app.slice/server is limited to 512.0 MiB.

How it adds up
                         at the start    at the peak     at the end
  traced                            0      500.0 MiB      500.0 MiB
  unexplained                 1.0 MiB      -10.0 MiB      -10.0 MiB
  = RSS                       1.0 MiB      490.0 MiB      490.0 MiB
  cgroup charge              10.0 MiB      511.0 MiB      511.0 MiB
  cgroup limit              512.0 MiB      512.0 MiB      512.0 MiB
  At the peak the cgroup /app.slice/server stood at 99.8 % of its limit.
  Unexplained is below zero where blocks were allocated but their pages not touched yet.

Who held it at the peak
  500.0 MiB  100.0 %  1 block  row (src/table.c:12, inlined)
                                 load (src/table.c:40)
                                 main (src/main.c:7)

Live at the end: the same as at the peak

How far to trust this
  Nothing was lost: every event was seen.
  3 code locations have no name: shown as module+offset.
",
    );
}

#[test]
fn several_processes_each_have_a_peak() {
    let mut script = Script::launched("parent");
    stacks(&mut script);
    script.memory(0, 0, MIB);
    script.fork(0, 1, 10);
    script.memory(1, 10, MIB);
    script.allocate(0, 25, 1, MIB);
    script.allocate(1, 30, 2, 15 * MIB);
    script.memory(0, 31, 3 * MIB);
    script.memory(1, 32, 18 * MIB);
    script.exit(1, 40, 0);
    script.exit(0, 60, 11);
    assert_text(
        &script.closed(),
        "\
Peak: 16.8 MB (16.0 MiB) in 2 blocks, at +0.030s (2026-01-02T03:04:05Z)
parent (pid 4242), traced from its start, for 60 ms, with 1 more process
It was killed by SIGSEGV (signal 11).

How it adds up
                         at the start    at the peak     at the end
  traced                            0       16.0 MiB        1.0 MiB
  unexplained                 1.0 MiB        5.0 MiB        2.0 MiB
  = RSS                       1.0 MiB       21.0 MiB        3.0 MiB
  Unexplained: the allocator's own overhead, thread stacks, code and mapped files.
  Sums over all processes: memory that they share is in each one's RSS.

Who held it at the peak
  15.0 MiB   93.8 %  1 block  [4243] Cache::put(Key const&) (cache.cc:88)
                                server+0x2020
                                main (src/main.c:9)
   1.0 MiB    6.3 %  1 block  [4242] row (src/table.c:12, inlined)
                                load (src/table.c:40)
                                main (src/main.c:7)

Live at the end: 1.0 MB (1.0 MiB) in 1 block, at +0.060s
  1.0 MiB  100.0 %  1 block  [4242] row (src/table.c:12, inlined) ← load ← main

Peak of each process
  15.0 MiB  at +0.030s  [4243] child
   1.0 MiB  at +0.025s  [4242] parent

How far to trust this
  Process 4243 ran for 1 ms before its probes were in place.
  3 code locations have no name: shown as module+offset.
",
    );
}

#[test]
fn what_a_forked_process_inherited_is_told_and_counts_once() {
    let mut script = Script::launched("parent");
    stacks(&mut script);
    script.memory(0, 0, MIB);
    script.allocate(0, 5, 1, 15 * MIB);
    script.fork(0, 1, 10);
    script.memory(1, 10, 16 * MIB);
    script.allocate(1, 30, 2, MIB);
    script.memory(0, 31, 16 * MIB);
    script.memory(1, 32, 17 * MIB);
    script.exit(1, 40, 0);
    script.exit(0, 60, 0);
    let text = text_of(&script.closed(), TextOptions::default());
    for line in [
        "Peak: 16.8 MB (16.0 MiB) in 2 blocks, at +0.030s (2026-01-02T03:04:05Z)",
        "  traced                            0       16.0 MiB       15.0 MiB",
        "  inherited                         0       15.0 MiB              0",
        "  unexplained                 1.0 MiB        2.0 MiB        1.0 MiB",
        "  = RSS                       1.0 MiB       33.0 MiB       16.0 MiB",
        "  16.0 MiB  at +0.030s  inherited 15.0 MiB  [4243] child",
        "  15.0 MiB  at +0.005s                      [4242] parent",
        "  What a process inherited from the one that forked it counts once in the peak of all.",
    ] {
        assert!(
            text.lines().any(|it| it == line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn a_recording_in_which_nothing_happened() {
    assert_text(
        &Script::empty().unfinished(),
        "\
No allocation was seen.
No process was traced.
This recording stops early, at +0.000s: its writer did not finish it. Everything up to there is
below.
",
    );
}

#[test]
fn a_process_that_allocated_nothing() {
    let mut script = Script::attached("idle", 8 * MIB, 10 * MIB);
    script.memory(0, 2000, 10 * MIB);
    script.detach(0, 2000);
    assert_text(
        &script.closed(),
        "\
No allocation was seen in 2.0 s.
10.5 MB (10.0 MiB) were there before attach; who holds those was not seen.
idle (pid 4242), attached to while it ran, for 2.0 s
It runs on: tracing ended here (interrupted).

How it adds up
                            at attach    at the peak     at the end
  traced                            0              0              0
  held before attach         10.0 MiB       10.0 MiB       10.0 MiB
  unexplained                       0              0              0
  = RSS                      10.0 MiB       10.0 MiB       10.0 MiB

How far to trust this
  Nothing was lost: every event was seen.
",
    );
}

#[test]
fn a_peak_from_before_attach_shows_what_came_later() {
    let mut script = Script::attached("server --port 80", 300 * MIB, 310 * MIB);
    stacks(&mut script);
    script.free_unknown(0, 1_000, 200 * MIB);
    script.allocate(0, 2_000, 1, 100 * MIB);
    script.memory(0, 2_010, 212 * MIB);
    script.detach(0, 3_000);
    assert_text(
        &script.closed(),
        "\
Peak: 325.1 MB (310.0 MiB) at +0.000s (2026-01-02T03:04:05Z)
      all of it there before attach; who holds it was not seen.
server --port 80 (pid 4242), attached to while it ran, for 3.0 s
It runs on: tracing ended here (interrupted).

How it adds up
                            at attach    at the peak     at the end
  traced                            0              0      100.0 MiB
  held before attach        310.0 MiB      310.0 MiB      110.0 MiB
  unexplained                       0              0        2.0 MiB
  = RSS                     310.0 MiB      310.0 MiB      212.0 MiB

Live at the end: 104.9 MB (100.0 MiB) in 1 block, at +3.0s
  100.0 MiB  100.0 %  1 block  row (src/table.c:12, inlined)
                                 load (src/table.c:40)
                                 main (src/main.c:7)

How far to trust this
  Nothing was lost: every event was seen.
  3 code locations have no name: shown as module+offset.
  1 free was of memory from before tracing began: 200.0 MiB in all.
",
    );
}

#[test]
fn colour_is_only_there_when_asked_for() {
    let profile = || {
        let mut script = Script::launched("app");
        stacks(&mut script);
        script.allocate(0, 1, 1, 100);
        script.closed()
    };
    let plain = text_of(&profile(), TextOptions::default());
    let coloured = text_of(
        &profile(),
        TextOptions {
            colour: true,
            ..TextOptions::default()
        },
    );
    assert!(!plain.contains('\x1b'));
    assert!(coloured.contains("\x1b[1mPeak: \x1b[0m"));
    let stripped = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[33m"]
        .iter()
        .fold(coloured, |text, escape| text.replace(escape, ""));
    assert_eq!(stripped, plain);
}

#[test]
fn only_as_many_holders_as_asked_for() {
    let mut script = Script::launched("app");
    for n in 1..=20 {
        script.allocate(0, u64::from(n), n, u64::from(n) * 1000);
    }
    let text = text_of(
        &script.closed(),
        TextOptions {
            top: Some(4),
            ..TextOptions::default()
        },
    );
    assert_eq!(text.matches("(unknown stack)").count(), 4, "{text}");
    assert!(
        text.contains("  and 16 more stacks with 132.8 KiB (64.8 %) together\n"),
        "{text}"
    );
}

#[test]
fn the_first_screen_tells_heap_and_mappings_apart_and_address_space_beside_them() {
    let mut script = Script::launched("server");
    stacks(&mut script);
    script.allocate(0, 1, 1, 3 * MIB);
    script.map(0, 2, 2, 5 * MIB, true);
    script.map(0, 3, 3, 64 * MIB, false);
    let mut profile = script.closed();
    profile.keep(Kinds::OF_THE_PEAK);
    let text = text_of(&profile, TextOptions::default());
    for line in [
        "Peak: 8.4 MB (8.0 MiB) in 1 block and 1 mapping, at ",
        "      heap 3.0 MiB, mappings 5.0 MiB\n",
        "      address space apart from that: reserved 64.0 MiB\n",
        "  5.0 MiB   62.5 %  1 mapping  ",
        "  3.0 MiB   37.5 %    1 block  row",
    ] {
        assert!(text.contains(line), "{line:?} is missing:\n{text}");
    }
    assert!(!text.contains("reserved range"), "{text}");
}

#[test]
fn a_kind_that_is_asked_for_has_a_peak_of_its_own() {
    let mut script = Script::launched("server");
    stacks(&mut script);
    script.allocate(0, 1, 1, 3 * MIB);
    script.free_last(0, 2);
    script.map(0, 3, 2, 5 * MIB, true);
    script.allocate(0, 4, 1, MIB);
    let of_kind = |script: &Script, kind| {
        let question = Question {
            kinds: Kinds::only(kind),
            ..Question::default()
        };
        let mut profile = script.clone().closed_for(&question);
        profile.keep(question.kinds);
        text_of(&profile, TextOptions::default())
    };
    let heap = of_kind(&script, Kind::Heap);
    assert!(
        heap.starts_with("Peak of the heap: 3.1 MB (3.0 MiB) in 1 block, at +"),
        "{heap}"
    );
    assert!(!heap.contains("beside it"), "{heap}");
    let mappings = of_kind(&script, Kind::Mapping);
    for line in [
        "Peak of mappings: 5.2 MB (5.0 MiB) in 1 mapping, at +",
        "      beside it at that moment: the heap 1.0 MiB\n",
    ] {
        assert!(mappings.contains(line), "{line:?} is missing:\n{mappings}");
    }
}

#[test]
fn python_functions_have_a_colour_and_their_line_of_source() {
    let mut script = Script::launched("python3");
    script.stack(
        1,
        &[
            "py:load@/srv/app.py:12",
            "py:Job.run@/srv/app.py:30",
            "main",
        ],
    );
    script.allocate(0, 10, 1, MIB);
    for entry in &mut script.entries {
        if let Entry::Names(names) = entry
            && names.functions[0].function == "load"
        {
            names.source = Some("return bytes(n)".to_owned());
        }
    }
    let coloured = TextOptions {
        colour: true,
        ..TextOptions::default()
    };
    let text = text_of(&script.closed(), coloured);
    for expected in [
        "\x1b[1;36mload (srv/app.py:12)\x1b[0m\x1b[2m  return bytes(n)\x1b[0m\n",
        "\x1b[36mJob.run (srv/app.py:30)\x1b[0m\n",
        "\x1b[2mmain\x1b[0m\n",
    ] {
        assert!(text.contains(expected), "{text:?}");
    }
}
