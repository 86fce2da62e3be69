use super::super::super::script::Script;
use super::*;

/// The levels of a file, one after each line that changes them, and its other lines.
fn read(text: &str) -> (Vec<u64>, Vec<&str>) {
    let (mut sizes, mut levels, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let mut level = 0;
    for line in text.lines() {
        let (what, numbers) = line.split_once(' ').expect("a word more");
        let number = || {
            let first = numbers.split(' ').next().expect("a number");
            u64::from_str_radix(first, 16).expect("hexadecimal")
        };
        match what {
            "a" => sizes.push((number(), 0)),
            "+" => {
                let (size, there) = &mut sizes[number() as usize];
                (level, *there) = (level + *size, *there + 1);
            }
            "-" => {
                let (size, there): &mut (u64, u64) = &mut sizes[number() as usize];
                assert!(
                    *there > 0,
                    "heaptrack_gui crashes: a block goes that never came, in {text}"
                );
                (level, *there) = (level - *size, *there - 1);
            }
            _ => rest.push(line),
        }
        if let "+" | "-" = what {
            levels.push(level);
        }
    }
    (levels, rest)
}

fn events(entries: &[Entry]) -> u64 {
    entries
        .iter()
        .cloned()
        .map(|entry| number_of_events(&Ok(entry)))
        .sum()
}

fn written(script: Script, question: &Question) -> (Profile, String) {
    let mut script = script;
    script.close(9, "interrupted");
    let entries = script.entries.clone();
    let profile = script.unfinished();
    let mut out = Vec::new();
    let happened = events(&entries);
    let entries = || Ok(entries.clone().into_iter().map(Ok));
    write((&profile, happened), question, entries, &mut out).expect("a Vec takes all");
    (profile, String::from_utf8(out).expect("it is text"))
}

#[test]
fn the_highest_level_is_the_peak_and_the_last_the_end() {
    let mut script = Script::launched("/bin/app");
    script.stack(1, &["inner<keep@src/keep.c:7", "main"]);
    script.stack(2, &["map", "main"]);
    script.memory(0, 0, 40_960);
    script.allocate(0, 1, 1, 1000);
    script.allocate(0, 20, 1, 1000);
    script.map(0, 21, 2, 8192, true);
    script.free_last(0, 40);
    script.allocate(0, 41, 1, 7);
    script.exit(0, 50, 0);
    let (profile, text) = written(script, &Question::default());
    let (levels, rest) = read(&text);
    assert_eq!(levels, [1000, 2000, 10_192, 9192, 9199]);
    assert_eq!(profile.peak.bytes, 10_192);
    assert_eq!(profile.end.bytes, 9199);
    assert!(rest.contains(&"X /bin/app"), "{text}");
    assert!(
        rest.contains(&"I 1000 0") && rest.contains(&"R a"),
        "{text}"
    );
    assert!(rest.contains(&"c 14") && rest.contains(&"c 28"), "{text}");
    // Of an address, the function that was inlined comes first.
    let texts: Vec<_> = rest
        .iter()
        .filter_map(|line| line.strip_prefix("s "))
        .collect();
    let number = |text: &str| texts.iter().position(|told| *told == text).unwrap() + 1;
    let (inner, keep) = (number("5 inner"), number("4 keep"));
    let (module, file) = (number("f /usr/bin/server"), number("a src/keep.c"));
    let address = format!("i 1000 {module:x} {inner:x} 0 0 {keep:x} {file:x} 7");
    assert!(rest.contains(&&*address), "no {address} in {text}");
}

#[test]
fn what_was_held_before_attach_counts_until_it_is_freed() {
    let mut script = Script::attached("/bin/app", 1 << 20, 1 << 20);
    script.stack(1, &["keep", "main"]);
    script.allocate(0, 1, 1, 100);
    script.free_unknown(0, 2, 4096);
    script.allocate(0, 3, 1, 900);
    script.free_unknown(0, 4, 32);
    script.free_unknown(0, 5, 4096);
    let (profile, text) = written(script, &Question::default());
    let (levels, _) = read(&text);
    assert_eq!(levels, [32, 4128, 8224, 8324, 4228, 5128, 5096, 1000]);
    assert_eq!(profile.end.bytes, 1000);
    assert!(text.contains(BEFORE_ATTACH));
}

#[test]
fn where_a_part_goes_the_whole_goes_and_the_rest_comes_anew() {
    let mut told = Told::default();
    let mut out = Vec::new();
    for size in [100, 30, 30, 0] {
        told.came(size, 1, &mut out).unwrap();
    }
    for (size, trace) in [(20, 1), (30, 1), (105, 1), (1, 2), (0, 1), (9, 1)] {
        told.went(size, trace, &mut out).unwrap();
    }
    let text = String::from_utf8(out).unwrap();
    let (levels, _) = read(&text);
    assert_eq!(levels, [100, 130, 160, 160, 130, 140, 110, 10, 0, 5, 5, 0]);
}

#[test]
fn what_goes_over_to_a_forked_child_goes_block_by_block() {
    let mut script = Script::launched("/bin/app");
    script.stack(1, &["keep", "main"]);
    script.allocate(0, 1, 1, 100);
    script.allocate(0, 2, 1, 30);
    script.allocate(0, 3, 1, 7);
    script.fork(0, 1, 4);
    script.free_in(1, 5, 1);
    script.exit(0, 6, 0);
    script.free_in(1, 7, 2);
    let (_, text) = written(script, &Question::default());
    // The child has 107 as one block. So all of it goes, and the 100 that it keeps come anew.
    let (levels, _) = read(&text);
    assert_eq!(levels, [100, 130, 137, 37, 30, 137, 107, 0, 100]);
}

#[test]
fn a_process_that_ends_before_others_gives_back_all_that_it_alone_holds() {
    let mut script = Script::launched("/bin/app");
    script.stack(1, &["keep", "main"]);
    script.allocate(0, 1, 1, 100);
    script.fork(0, 1, 2);
    script.allocate(1, 3, 1, 30);
    script.exit(1, 4, 0);
    script.allocate(0, 5, 1, 7);
    script.exit(0, 6, 0);
    let (profile, text) = written(script, &Question::default());
    let (levels, _) = read(&text);
    assert_eq!(levels, [100, 130, 100, 107]);
    assert_eq!((profile.peak.bytes, profile.end.bytes), (130, 107));
}

#[test]
fn only_what_is_asked_for_is_told() {
    let mut script = Script::attached("/bin/app", 1 << 20, 1 << 20);
    script.stack(1, &["keep", "main"]);
    script.stack(2, &["other", "main"]);
    script.allocate(0, 1, 1, 100);
    script.allocate(0, 2, 2, 30);
    script.free_unknown(0, 3, 4096);
    let question = Question {
        focus: regex::Regex::new("^other$").ok(),
        ..Question::default()
    };
    let (_, text) = written(script, &question);
    assert_eq!(read(&text).0, [30]);
    assert!(!text.contains("keep"));
}

#[test]
fn a_recording_without_all_of_its_events_is_refused() {
    let mut script = Script::launched("/bin/app");
    script.allocate(0, 1, 1, 100);
    script.allocate(0, 2, 1, 100);
    let mut entries = script.entries.clone();
    let profile = script.closed();
    let happened = events(&entries);
    entries.pop();
    let entries = || Ok(entries.clone().into_iter().map(Ok));
    let written = write(
        (&profile, happened),
        &Question::default(),
        entries,
        &mut Vec::new(),
    );
    let said = written.expect_err("it is refused").to_string();
    assert!(said.contains("every single event"), "{said}");
}

#[test]
fn numbers_are_hexadecimal() {
    let mut out = Vec::new();
    write_line(&mut out, b'i', &[0, 9, 0x10, 0xabc_def0, u64::MAX]).unwrap();
    assert_eq!(out, b"i 0 9 10 abcdef0 ffffffffffffffff\n");
}

#[test]
fn a_name_cannot_begin_a_line_of_its_own() {
    let mut script = Script::launched("/bin/app\n+ 0");
    script.stack(1, &["keep\n+ 0", "main"]);
    script.allocate(0, 1, 1, 100);
    let (_, text) = written(script, &Question::default());
    assert_eq!(read(&text).0, [100]);
}
