//! What the text says of how far its figures can be trusted, and what it lets through to a terminal.

use proptest::prelude::*;

use super::*;

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
