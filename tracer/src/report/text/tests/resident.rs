use super::*;
use crate::record::{ChunkSum, HeldBefore, HeldMapping, Makeup, Malloc, SizeClass};

fn malloc(kept: u64, trimmable: u64) -> Malloc {
    Malloc {
        arenas: 16,
        kept,
        trimmable,
        free: kept,
        ..Malloc::default()
    }
}

/// 16 threads had a burst, and what they freed is there still.
fn kept(malloc: Malloc) -> Profile {
    let mut script = Script::launched("decode");
    stacks(&mut script);
    script.memory(0, 0, MIB);
    script.allocate(0, 1000, 1, 236 * MIB);
    script.memory(0, 1001, 240 * MIB);
    script.free_last(0, 2000);
    script.memory(0, 3000, 240 * MIB);
    script.makeup(0, 3001, 240 * MIB, malloc);
    script.closed()
}

fn first_screen(profile: &Profile) -> String {
    written(profile, &TextOptions::default())
}

#[test]
fn what_malloc_keeps_is_told_and_whether_it_could_be_given_back() {
    for (trimmable, back) in [
        (236, "(malloc_trim would give it back)"),
        (100, "(malloc_trim would give back 100.0 MiB)"),
        (
            3,
            "(in pieces between blocks in use: malloc_trim would not help)",
        ),
    ] {
        let text = first_screen(&kept(malloc(236 * MIB, trimmable * MIB)));
        let text = text.replace("\n  ", " ");
        let line = "236.0 MiB freed and kept by malloc in 16 arenas at the end";
        assert!(text.contains(line) && text.contains(back), "{text}");
    }
    let unread = Malloc {
        unread_arenas: 2,
        unread: 5 * MIB,
        ..malloc(90 * MIB, 0)
    };
    let text = first_screen(&kept(unread)).replace("\n  ", " ");
    assert!(text.contains("at least 90.0 MiB freed"), "{text}");
    assert!(
        text.contains("; 5.0 MiB in 2 of them could not be read"),
        "{text}"
    );
    let text = first_screen(&kept(malloc(20 * MIB, 0)));
    assert!(!text.contains("kept by malloc"), "{text}");
}

#[test]
fn the_unexplained_is_split_up() {
    let profile = kept(malloc(200 * MIB, 0));
    let parts = profile.memory.explained(&profile.memory.end);
    let mib = |part: Option<i64>| part.map(|part| part / MIB as i64);
    assert_eq!(mib(parts.kept), Some(200));
    assert_eq!((mib(parts.file), mib(parts.shmem)), (Some(0), Some(0)));
    assert_eq!(mib(parts.thread_stacks), Some(1));
    assert_eq!(mib(parts.rest), Some(240 - 200 - 1));
    let text = text_of(&profile, TextOptions::default());
    for row in ["  kept by malloc", "  thread stacks", "page tables, apart"] {
        assert!(text.contains(row), "{text}");
    }
}

#[test]
fn a_look_at_another_state_of_the_process_says_nothing() {
    let mut script = Script::launched("decode");
    stacks(&mut script);
    script.allocate(0, 1000, 1, MIB);
    script.makeup(0, 1500, 500 * MIB, malloc(400 * MIB, 0));
    script.memory(0, 1600, 20 * MIB);
    let profile = script.closed();
    assert_eq!(profile.memory.end.malloc, None);
    assert!(!first_screen(&profile).contains("kept"));
}

#[test]
fn what_was_held_before_attach_is_told_by_size_and_by_mapping() {
    let mut script = Script::attached("server", 300 * MIB, 310 * MIB);
    stacks(&mut script);
    let used = ChunkSum {
        chunks: 2_000_000,
        bytes: 200 * MIB,
    };
    let class = |least, chunks, bytes| SizeClass {
        least,
        chunks,
        bytes,
    };
    script.entries.push(Entry::Makeup(Makeup {
        at_ns: script_start(),
        rss: Some(310 * MIB),
        malloc: Some(Malloc {
            used,
            ..malloc(60 * MIB, 60 * MIB)
        }),
        thread_stacks: Some(MIB),
        before: Some(HeldBefore {
            sizes: vec![
                class(64, 1_900_000, 150 * MIB),
                class(1 << 20, 50, 70 * MIB),
            ],
            mapped: ChunkSum {
                chunks: 10,
                bytes: 20 * MIB,
            },
            mappings: vec![HeldMapping {
                start: 0x7f00_0000_0000,
                length: 64 * MIB,
                resident: 12 * MIB,
                name: String::new(),
            }],
        }),
        ..Makeup::default()
    }));
    script.allocate(0, 1000, 1, MIB);
    let profile = script.closed();
    let text = first_screen(&profile);
    let line = "Before attach: 220.0 MiB in 2,000,010 blocks of malloc, 150.0 MiB of it in those of 64 to 127 bytes; 60.0 MiB freed and kept";
    assert!(text.replace("\n  ", " ").contains(line), "{text}");
    let text = text_of(&profile, TextOptions::default());
    for line in [
        "  220.0 MiB  2,000,010 chunks of malloc in use",
        "  150.0 MiB    1,900,000 of 64 to 127 bytes",
        "   70.0 MiB    50 of 1 MiB to 2 MiB",
        "   60.0 MiB  freed and kept (malloc_trim would give it back)",
        "    1.0 MiB  stacks of threads",
        "   12.0 MiB  of 64.0 MiB mapped at 0x7f0000000000",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
}

#[test]
fn what_the_kernel_says_of_files_is_told_though_nobody_looked_at_the_heap() {
    let mut script = Script::launched("java Orders");
    stacks(&mut script);
    script.allocate(0, 10, 1, 10 * MIB);
    script.memory(0, 11, 16 * MIB);
    if let Some(Entry::Memory(sample)) = script.entries.last_mut() {
        sample.file = Some(5 * MIB);
    }
    let text = text_of(&script.closed(), TextOptions::default());
    let books = "
  unexplained                16.0 MiB        6.0 MiB        6.0 MiB
    mapped files              5.0 MiB        5.0 MiB        5.0 MiB
    the rest                 11.0 MiB        1.0 MiB        1.0 MiB
  = RSS                      16.0 MiB       16.0 MiB       16.0 MiB
";
    assert!(text.contains(books), "{text}");
}

/// The moment at which scripts begin.
fn script_start() -> u64 {
    Script::empty().closed().opening.started_ns
}

#[test]
fn pythons_arenas_are_one_row_and_each_ones_trigger_stands_below() {
    let mut script = Script::launched("python3 app.py");
    for (stack, line) in [(1, 40), (2, 50), (3, 60)] {
        let python = format!("py:load@app.py:{line}");
        script.stack(
            stack,
            &["new_arena", &python, "eval:_PyEval_EvalFrameDefault"],
        );
        script.map(0, u64::from(stack), stack, MIB, true);
    }
    script.map(0, 4, 3, MIB, true);
    script.stack(4, &["py:fill@app.py:9", "eval:_PyEval_EvalFrameDefault"]);
    script.map(0, 5, 4, 8 * MIB, true);
    let profile = script.closed();
    let text = first_screen(&profile);
    let rows = "    4.0 MiB   33.3 %  Python's small objects\n";
    assert!(text.contains(rows), "{text}");
    let advice = "4 arenas; who holds them was not seen: --python-allocators";
    assert!(text.contains(advice), "{text}");
    assert!(!text.contains("app.py:40"), "{text}");
    let text = text_of(&profile, TextOptions::default());
    for trigger in ["2.0 MiB mapped for load", "app.py:40", "app.py:50"] {
        assert!(text.contains(trigger), "{text}");
    }
}
