//! The first screen.

use super::*;

const TERMINAL: TextOptions = TextOptions {
    top: None,
    verbose: false,
    width: 80,
    colour: false,
};

/// As it stands on a terminal, with the three lines that the recorder writes below.
fn screen_of(profile: &Profile) -> String {
    let text = written(profile, &TERMINAL);
    let lines = text.lines().count() + 3;
    assert!(lines <= 24, "{lines} lines:\n{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}\n{text}");
    }
    text
}

#[test]
fn a_launched_process_has_its_answer_on_one_screen() {
    let text = screen_of(&server());
    let expected = "\
Peak: 400.0 MB (381.5 MiB) in 302 blocks, at +12.5s (2026-01-02T03:04:17Z)
server --port 80 (pid 4242), traced from its start, for 1 min 0 s
It exited with code 0.
RSS 390.0 MiB at the peak, 311.0 MiB at the end

Who held it at the peak
  300.0 MiB   78.6 %  row (src/table.c:12, inlined)
                      300 blocks ← load (src/table.c:40) ← main (src/main.c:7)
   80.0 MiB   21.0 %  Cache::put(Key const&) (cache.cc:88)
                      1 block ← server+0x2020 ← main (src/main.c:9)
    1.5 MiB    0.4 %  1 more

Live at the end: 300.0 MiB in 300 blocks, most by row (src/table.c:12, inlined)
";
    assert!(
        text == expected,
        "--- written:\n{text}--- expected:\n{expected}"
    );
}

#[test]
fn a_scope_is_told_in_place_of_a_main_process() {
    let mut profile = server();
    let scope = ("scope".to_owned(), "cgroup /\u{1b}[2J".to_owned());
    profile.opening.options.extend([scope]);
    let text = screen_of(&profile);
    let heading = "cgroup /\\x1b[2J: 1 process, none alive at the end, in 1 min 0 s\nRSS";
    assert!(text.contains(heading), "{text}");
    profile.processes.clear();
    let text = screen_of(&profile);
    assert!(
        text.contains(": no process was traced, in 1 min 0 s"),
        "{text}"
    );
}

#[test]
fn many_holders_of_many_processes_fit_too_and_those_that_read_alike_are_one() {
    let mut script = Script::launched("parent");
    for stack in 1..=9 {
        let leaf = format!("holder_{stack}@src/holders.c:{stack}");
        let frames: Vec<String> = (0..20)
            .map(|n| format!("caller_{n}@src/callers.c:{n}"))
            .collect();
        let frames: Vec<&str> = std::iter::once(leaf.as_str())
            .chain(frames.iter().map(String::as_str))
            .collect();
        script.stack(stack, &frames);
    }
    for child in 1..=8 {
        script.fork(0, child, 10);
        for stack in 1..=9 {
            script.allocate(child, 20, stack, u64::from(stack) * MIB);
        }
    }
    script.memory(0, 30, MIB);
    let text = screen_of(&script.closed());
    assert!(
        text.contains("  72.0 MiB   20.0 %  [8 processes] holder_9 (src/holders.c:9)\n"),
        "{text}"
    );
    assert!(
        text.contains("8 blocks ← caller_0 (src/callers.c:0) … 18 more, caller_19\n"),
        "{text}"
    );
    assert!(text.contains(" 4 more\n"), "{text}");
    assert!(
        text.contains("8 processes ran for up to 1 ms before their probes"),
        "{text}"
    );
}

#[test]
fn what_was_not_seen_is_told_only_where_it_changes_the_answer() {
    let screen = |quality: Quality| {
        let mut script = Script::launched("app");
        stacks(&mut script);
        script.allocate(0, 10, 1, MIB);
        script.quality(quality);
        screen_of(&script.closed())
    };
    let harmless = Quality {
        truncated_depth: 7,
        notes: vec!["A note.".into()],
        ..Quality::default()
    };
    let text = screen(harmless);
    assert!(!text.contains("7 ") && !text.contains("note"), "{text}");
    let grave = Quality {
        lost_allocations: 1234,
        lost_frees: 5678,
        unfollowed_children: 3,
        threads_full: 5,
        calls_too_deep: 2,
        ..Quality::default()
    };
    let text = screen(grave);
    assert!(text.contains("6,912 events were lost"), "{text}");
    assert!(text.contains("and 1 more doubt: see --verbose"), "{text}");
    assert!(!text.contains("Nothing was lost"), "{text}");
}

#[test]
fn stacks_that_differ_in_what_the_screen_leaves_out_are_one_row() {
    let mut script = Script::launched("/usr/bin/python3 app.py");
    let natives = [["grow", "parse"], ["reserve", "parse"], ["grow", "sort"]];
    for (stack, [inner, outer]) in (1..).zip(natives) {
        script.stack(
            stack,
            &[inner, outer, "py:load@app.py:5", "py:main@app.py:9"],
        );
        script.allocate(0, 10, stack, [0, 1, 4, 3][stack as usize] * MIB);
    }
    let text = screen_of(&script.closed());
    let expected = "
Who held it at the peak
    5.0 MiB   62.5 %  load (app.py:5)
                      2 blocks ← parse ← main (app.py:9)
    3.0 MiB   37.5 %  load (app.py:5)
                      1 block ← sort ← main (app.py:9)
";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn what_grew_by_little_in_a_program_that_was_launched_is_left_to_other_views() {
    let screen = |mut script: Script, large: u64| {
        stacks(&mut script);
        script.allocate(0, 1, 2, large);
        for second in 0..20 {
            script.allocate(0, second * 1000 + 2, 1, MIB / 8);
        }
        script.close(20_000, "interrupted");
        screen_of(&script.closed())
    };
    let grows = |text: &str| text.contains("What grows");
    assert!(grows(&screen(Script::launched("app"), 16 * MIB)));
    assert!(!grows(&screen(Script::launched("app"), 1024 * MIB)));
    assert!(grows(&screen(Script::attached("app", 0, 0), 1024 * MIB)));
}

#[test]
fn an_allocator_that_was_not_seen_is_told_of_on_the_first_screen() {
    let mut script = Script::launched("redis-server");
    stacks(&mut script);
    script.map(0, 10, 1, 4 * MIB, true);
    script.entries.push(Entry::Loss(crate::record::Loss {
        at_ns: 0,
        pid: Some(4242),
        command: "redis-server".into(),
        kind: crate::record::LossKind::OtherAllocator,
        why: "libjemalloc.so.2 before libc.so.6".into(),
    }));
    let text = screen_of(&script.closed());
    let text = text.replace("\n  ", " ");
    let told = "has another allocator, libjemalloc.so.2 before libc.so.6: blocks of that are not seen, and the memory it takes \
                counts as mappings.";
    assert!(text.contains(told), "{text}");
}

#[test]
fn where_much_is_cut_the_screen_says_in_which_file_and_why() {
    let screen = |truncated_bytes: u64| {
        let mut script = Script::launched("java Orders");
        stacks(&mut script);
        script.push_stack(9, vec![FrameIndex(100)], true);
        script.allocate(0, 10, 9, truncated_bytes);
        script.allocate(0, 11, 2, 100 * MIB);
        script.quality(Quality {
            truncated_pending: 7,
            truncated_depth: 2,
            ..Quality::default()
        });
        screen_of(&script.closed())
    };
    let text = screen(50 * MIB);
    let told = "Callers are missing where stacks are cut, in server: it had just been mapped,";
    assert!(text.contains(told), "{text}");
    assert!(!screen(MIB).contains("Callers are missing"));
}

#[test]
fn on_a_narrow_terminal_the_first_lines_lose_no_moment_and_no_number() {
    let mut script = Script::launched("/usr/local/bin/some-long-server --with many --options 17");
    stacks(&mut script);
    script.fork(0, 1, 10);
    for n in 0..300 {
        script.allocate(0, 20_000 + n, 1, MIB);
    }
    script.map(0, 20_500, 2, 64 * MIB, true);
    script.close(60_000, "interrupted");
    let text = screen_of(&script.closed());
    let expected = "\
Peak: 381.7 MB (364.0 MiB) at +20.5s (2026-01-02T03:04:26Z)
      heap 300.0 MiB in 300 blocks, 64.0 MiB in 1 mapping
/usr/local/bin/s… (pid 4242), from its start, for 1 min 0 s, with 1 more process
";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn workers_that_were_killed_for_want_of_memory_are_told_though_their_master_ended_well() {
    let killed = |workers: u32| {
        let mut script = Script::launched("master");
        script.stack(1, &["serve"]);
        for worker in 1..=workers {
            script.fork(0, worker, 10);
            script.memory_in_cgroup(worker, 20, MIB, Some(60 * MIB), Some(64 * MIB));
            script.allocate(worker, 30, 1, 50 * MIB);
            script.oom_victim(worker, 40 + u64::from(worker));
            script.exit(worker, 50 + u64::from(worker), 9);
        }
        script.exit(0, 100, 0);
        screen_of(&script.closed())
    };
    let text = killed(1);
    let line = "\
It exited with code 0.
Process 4243 (child) was OOM-killed at +0.041s: the cgroup /app.slice/server is
limited to 64.0 MiB.
";
    assert!(text.contains(line), "{text}");
    let text = killed(3);
    let line = "3 of its processes were OOM-killed, the first of them 4243 (child) at +0.041s:";
    assert!(text.contains(line), "{text}");
}

#[test]
fn where_several_processes_held_the_peak_workers_of_one_command_are_one_row() {
    let mut script = Script::launched("/usr/bin/python3 /usr/bin/gunicorn app:web");
    stacks(&mut script);
    script.allocate(0, 5, 1, 30 * MIB);
    for worker in 1..=3 {
        script.process(
            worker,
            Some(0),
            "/usr/bin/python3 /usr/bin/gunicorn app:web",
            Origin::Forked { missed_ns: 0 },
            10,
            0,
        );
        script.allocate(worker, 20, 1, u64::from(worker) * MIB);
    }
    let text = screen_of(&script.closed());
    let expected = "
In which processes
   30.0 MiB   83.3 %  gunicorn (4242), at most 30.0 MiB
    6.0 MiB   16.7 %    gunicorn ×3, each at most 3.0 MiB
";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn where_one_process_held_the_peak_the_processes_have_no_list() {
    let mut script = Script::launched("sh");
    stacks(&mut script);
    script.process(1, Some(0), "work", Origin::Forked { missed_ns: 0 }, 10, 0);
    script.allocate(1, 20, 1, MIB);
    let text = screen_of(&script.closed());
    assert!(!text.contains("In which processes"), "{text}");
}
