use proptest::prelude::*;

use super::super::question::Question;
use super::super::script::{MIB, Script};
use super::*;
use crate::live::Kinds;
use crate::record::reader::ReadError;
use crate::record::{Entry, FrameIndex, Pause, PythonQuality, Quality};

fn text_of(profile: &Profile, options: TextOptions) -> String {
    let mut text = Vec::new();
    write(profile, &options, &mut text).unwrap();
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

#[test]
fn a_launched_process_that_ends() {
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
    assert_text(
        &script.closed(),
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
fn a_recording_that_was_cut_short_says_so_and_every_loss_is_in_words() {
    let mut script = Script::launched("server --port 80");
    stacks(&mut script);
    script.allocate(0, 1000, 1, 4096);
    script.allocate(0, 1001, 1, 4096);
    script.quality(Quality {
        lost_allocations: 900,
        lost_frees: 304,
        truncated_depth: 1,
        missed_returns: 2,
        notes: vec!["jemalloc is mapped too; it was not traced.".into()],
        ..Quality::default()
    });
    assert_text(
        &script.cut(ReadError::CutShort { offset: 4096 }),
        "\
Peak: 8.2 kB (8.0 KiB) in 2 blocks, at +1.0s (2026-01-02T03:04:06Z)
server --port 80 (pid 4242), traced from its start, for 1.0 s
How it ended is not in the recording.
This recording stops early, at +1.0s: the recording was cut short: it ends at byte 4096, in the
middle of a chunk (the recorder was killed, the disk full, or a copy is incomplete). What comes
before that can be read; if it was copied, copy it again. Everything up to there is below.

How this adds up with RSS is not known: the recording holds no word of the kernel on it.

Who held it at the peak
  8.0 KiB  100.0 %  2 blocks  row (src/table.c:12, inlined)
                                load (src/table.c:40)
                                main (src/main.c:7)

Live at the end: the same as at the peak

How far to trust this
  1,204 events were lost (900 allocations and 304 frees): the ring was full (by the average block,
    the live set may be off by up to 4.7 MiB).
  2 calls were never seen to return: not counted.
  1 stack was too deep: the end nearest to main is missing.
  3 code locations have no name: shown as module+offset.
  jemalloc is mapped too; it was not traced.
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
fn what_a_small_ring_lost_is_told_with_the_option_that_prevents_it() {
    let text = |ring: Option<u32>| {
        let mut script = Script::launched("app");
        if let (Entry::Opening(opening), Some(ring)) = (&mut script.entries[0], ring) {
            let options = &mut opening.options;
            options.insert("ring_bytes".to_owned(), ring.to_string());
        }
        script.quality(Quality {
            lost_frees: 3,
            threads_full: 2,
            ..Quality::default()
        });
        let text = text_of(&script.closed(), TextOptions::default());
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(!text(None).contains("--ring"), "its size is not known");
    for (ring, told) in [(4 << 20, true), (64 << 20, false)] {
        let text = text(Some(ring));
        for words in [
            "the ring was full (it had 4.0 MiB; larger: --ring 64MiB)",
            "of their threads (more are kept with --ring 64MiB)",
        ] {
            assert_eq!(text.contains(words), told, "{text}");
        }
    }
}

#[test]
fn every_counter_has_words() {
    let ones = Quality {
        lost_allocations: 1,
        lost_frees: 1,
        lost_process_events: 1,
        lost_stacks: 1,
        undefined_stacks: 1,
        truncated_depth: 1,
        truncated_unreadable: 1,
        truncated_pending: 1,
        truncated_no_rule: 1,
        truncated_no_code: 1,
        truncated_unsupported: 1,
        truncated_frame_pointer: 1,
        no_walk_buffer: 1,
        threads_full: 1,
        calls_too_deep: 1,
        missed_returns: 1,
        unpaired_returns: 1,
        unsafe_returns: 1,
        unreadable_results: 1,
        stack_collisions: 1,
        malformed_events: 1,
        dropped_samples: 1,
        unfollowed_children: 1,
        sharers: 1,
        dropped_marks: 1,
        refused_mark_connections: 1,
        pauses: vec![Pause {
            from_ns: 5_001_000_000,
            to_ns: 5_003_000_000,
        }],
        patched_functions: 1,
        lost_probes: 1,
        python: PythonQuality {
            state_unknown: 1,
            unreadable: 1,
            depth: 1,
            lost_code: 1,
            nameless: 1,
            lineless: 1,
            unpaired: 1,
        },
        losses: Vec::new(),
        notes: vec!["A note.".into()],
    };
    let mut script = Script::launched("app");
    script.quality(ones);
    let text = text_of(&script.closed(), TextOptions::default());
    let counted = text
        .lines()
        .filter(|line| line.starts_with("  1 ") || line.starts_with("  2 events"))
        .count();
    assert_eq!(counted, 34, "{text}");
    assert!(
        text.contains("Nothing was seen from +0.001s to +0.003s"),
        "{text}"
    );
    assert!(text.contains("  A note.\n"), "{text}");
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
            top: 4,
            ..TextOptions::default()
        },
    );
    assert_eq!(text.matches("(unknown stack)").count(), 4, "{text}");
    assert!(
        text.contains("  and 16 more stacks with 132.8 KiB (64.8 %) together\n"),
        "{text}"
    );
}

proptest! {
    /// Names come from files that someone else wrote.
    #[test]
    fn no_line_is_too_wide_and_nothing_reaches_the_terminal(
        command in any::<String>(),
        names in prop::collection::vec(any::<String>(), 1..6),
        note in ".{0,300}",
        width in 72_usize..140,
    ) {
        let mut script = Script::launched(&command);
        script.stack(1, &names.iter().map(String::as_str).collect::<Vec<_>>());
        script.push_stack(2, vec![FrameIndex(u32::MAX)], true);
        script.memory_in_cgroup(0, 0, u64::MAX, Some(u64::MAX), Some(u64::MAX));
        script.allocate(0, 1, 1, 1 << 62);
        script.allocate(0, 2, 2, 12);
        script.quality(Quality { lost_frees: u64::MAX, lost_allocations: u64::MAX, notes: vec![note], ..Quality::default() });
        let text = text_of(&script.closed(), TextOptions { width, ..TextOptions::default() });
        for line in text.lines() {
            prop_assert!(line.chars().count() <= width, "{} > {width}: {line}", line.chars().count());
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
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
