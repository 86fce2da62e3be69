use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::script::{MIB, Script};
use super::*;
use crate::report::question::{Question, When};

/// A box of the SVG: name, bytes, depth (0 is inferno's own `all`).
type Box = (String, u64, usize);

/// Reads the boxes back from what inferno made of the lines.
fn boxes(svg: &str) -> Vec<Box> {
    let unescape = |text: &str| {
        text.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&apos;", "'")
            .replace("&amp;", "&")
    };
    let attribute = |text: &str, name: &str| -> u64 {
        let start = text.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
        text[start..].split('"').next().unwrap().parse().unwrap()
    };
    let found: Vec<(String, u64, u64)> = svg
        .split("<title>")
        .skip(1)
        .map(|part| {
            let (title, rest) = part.split_once("</title>").unwrap();
            let name = title.rsplit_once(" (").unwrap().0;
            let rect = rest.split("/>").next().unwrap();
            (
                unescape(name),
                attribute(rect, "fg:w"),
                attribute(rect, "y"),
            )
        })
        .collect();
    let base = found.iter().map(|(_, _, y)| *y).max().unwrap_or(0);
    found
        .into_iter()
        .map(|(name, bytes, y)| (name, bytes, ((base - y) / 16) as usize))
        .collect()
}

fn draw(stacks: &[(Vec<String>, u64)]) -> Vec<Box> {
    let mut tree = Tree::new();
    for (path, bytes) in stacks {
        tree.add(
            &path
                .iter()
                .map(|name| escape_frame(name))
                .collect::<Vec<_>>(),
            *bytes,
        );
    }
    let mut svg = Vec::new();
    render(&tree, &mut options(), &mut svg).unwrap();
    boxes(std::str::from_utf8(&svg).unwrap())
}

fn svg(profile: &Profile, when: When) -> String {
    let mut svg = Vec::new();
    write_svg(profile, &answer(profile, when), Order::RootFirst, &mut svg).unwrap();
    String::from_utf8(svg).unwrap()
}

fn answer(profile: &Profile, when: When) -> Answer {
    let question = Question {
        when,
        ..Question::default()
    };
    Answer::of(profile, &question)
}

fn named(text: &str, bytes: u64, depth: usize) -> Box {
    (text.to_owned(), bytes, depth)
}

#[test]
fn names_that_would_break_the_format_are_changed_and_others_are_not() {
    for (name, escaped) in [
        ("main", "main"),
        ("vec<[u8; 8]>", "vec<[u8: 8]>"),
        ("arr 12", "arr_12"),
        ("arr 12 13", "arr 12_13"),
        ("arr 1.5", "arr_1.5"),
        ("arr .", "arr_."),
        ("12", "12"),
        ("# note", "#_note"),
        ("#", "#_"),
        ("#[inline]", "#[inline]"),
        ("f_[k]", "f_(k)"),
        ("_[k]", "_(k)"),
        ("a\tb\r\nc\u{a0}\u{2028}d", "a b c d"),
        ("  ", "(unnamed)"),
        ("\u{ffff}\u{202e}x", "\\u{ffff}\\u{202e}x"),
        ("# 1", "#_1"),
        (";", ":"),
    ] {
        assert_eq!(escape_frame(name), escaped, "{name:?}");
    }
    let long = escape_frame(&"é".repeat(5000));
    assert_eq!(long.chars().count(), LONGEST_NAME + 1);
}

#[test]
fn a_frame_that_is_leaf_and_caller_is_one_box() {
    let stack =
        |names: &[&str], bytes| (names.iter().map(|name| (*name).to_owned()).collect(), bytes);
    let boxes = draw(&[
        stack(&["a"], 1),
        stack(&["a b"], 2),
        stack(&["a", "c"], 4),
        stack(&["a", "c"], 8),
    ]);
    let mut names: Vec<_> = boxes.iter().filter(|found| found.2 > 0).cloned().collect();
    names.sort();
    assert_eq!(
        names,
        [named("a", 13, 1), named("a b", 2, 1), named("c", 12, 2)]
    );
}

fn two_stacks() -> Script {
    let mut script = Script::launched("/usr/bin/server --port 80");
    script.stack(
        1,
        &[
            "row@src/table.c:12<load@src/table.c:40",
            "main@src/main.c:7",
        ],
    );
    script.stack(2, &["", "main@src/main.c:9"]);
    script.allocate(0, 12_450, 1, MIB);
    script.allocate(0, 12_460, 2, 4096);
    script.allocate(0, 12_470, 77, 100);
    script
}

#[test]
fn the_graph_shows_the_holders_root_first() {
    let profile = two_stacks().closed();
    let svg = svg(&profile, When::Peak);
    let mut boxes = boxes(&svg);
    boxes.sort_by_key(|found| (found.2, found.0.clone()));
    let total = MIB + 4096 + 100;
    assert_eq!(
        boxes,
        [
            named("all", total, 0),
            named("(unknown stack)", 100, 1),
            named("main", MIB + 4096, 1),
            named("load", MIB, 2),
            named("server+0x2000", 4096, 2),
            named("row (src/table.c:12, inlined)", MIB, 3),
        ]
    );
    assert!(
        svg.contains("server (pid 4242): 1.1 MB (1.0 MiB) at the peak"),
        "the title is wrong"
    );
    assert!(
        svg.contains("+12.5s (2026-01-02T03:04:17Z), 3 blocks"),
        "the subtitle is wrong"
    );
}

#[test]
fn the_same_recording_gives_the_same_bytes() {
    assert_eq!(
        svg(&two_stacks().closed(), When::Peak),
        svg(&two_stacks().closed(), When::Peak)
    );
}

#[test]
fn several_processes_stand_side_by_side() {
    let mut script = two_stacks();
    script.fork(0, 1, 13_000);
    script.allocate(1, 13_100, 2, 50);
    let boxes = boxes(&svg(&script.closed(), When::End));
    let processes: Vec<_> = boxes
        .iter()
        .filter(|found| found.2 == 1)
        .map(|found| found.0.as_str())
        .collect();
    assert_eq!(processes, ["child (pid 4243)", "server (pid 4242)"]);
}

#[test]
fn a_stack_that_was_cut_says_so() {
    let mut script = Script::launched("app");
    script.stack(1, &["leaf"]);
    script.push_stack(2, vec![crate::record::FrameIndex(100)], true);
    script.allocate(0, 1, 2, 10);
    let boxes = boxes(&svg(&script.closed(), When::Peak));
    assert!(
        boxes.contains(&named("(truncated)", 10, 1)) && boxes.contains(&named("leaf", 10, 2)),
        "{boxes:?}"
    );
}

#[test]
fn nothing_held_is_an_error_that_says_so() {
    let profile = Script::launched("app").closed();
    let error = write_svg(
        &profile,
        &answer(&profile, When::End),
        Order::RootFirst,
        &mut Vec::new(),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "nothing was held at the end, so there is nothing to draw; `highwater report` shows what was recorded"
    );
}

#[test]
fn a_difference_has_what_was_before_on_every_line_and_no_width_for_it() {
    let mut tree = Tree::new();
    tree.is_difference = true;
    let path = |name: &str| vec!["main".to_owned(), name.to_owned()];
    for (name, before, after) in [("grown", 10, 1000), ("gone", 70, 0), ("new", 0, 500)] {
        tree.add(&path(name), after);
        tree.add_before(&path(name), before);
    }
    for n in 0..100 {
        tree.add_before(&path(&format!("small {n}x")), 3);
        tree.add(&path(&format!("small {n}x")), 1);
    }
    assert_eq!(tree.total(), 1600);
    assert_eq!(
        tree.folded(5),
        [
            "main;(other) 370 100",
            "main;grown 10 1000",
            "main;new 0 500"
        ]
    );
}

#[test]
fn a_forged_difference_does_not_overflow() {
    let mut tree = Tree::new();
    tree.is_difference = true;
    for name in ["a", "b"] {
        tree.add(&[name.to_owned()], u64::MAX);
        tree.add_before(&[name.to_owned()], u64::MAX);
    }
    render(&tree, &mut options(), &mut Vec::new()).unwrap();
}

#[test]
fn a_forged_sum_does_not_overflow() {
    let boxes = draw(&[(vec!["a".into()], u64::MAX), (vec!["b".into()], u64::MAX)]);
    assert_eq!(boxes.len(), 2);
}

#[test]
fn pruning_keeps_every_byte_and_the_wide_boxes() {
    let mut tree = Tree::new();
    tree.add(&["main".into(), "big".into()], 1_000_000);
    for n in 0..1000_u64 {
        tree.add(
            &["main".into(), format!("small {n}x"), "leaf".into()],
            1 + n % 3,
        );
    }
    let total = tree.total();
    let other = total - 1_000_000;
    assert_eq!(
        tree.folded(100),
        [
            format!("main;(other) {other}"),
            "main;big 1000000".to_owned()
        ]
    );
    // Where even wide boxes are too many, they go too.
    assert_eq!(tree.folded(2), [format!("main;(other) {total}")]);
    assert_eq!(tree.folded(usize::MAX).len(), 1001);
}

#[test]
fn a_very_deep_stack_is_drawn() {
    let path: Vec<String> = (0..20_000).map(|n| format!("f{}", n % 7)).collect();
    let mut tree = Tree::new();
    tree.add(&path, 5);
    let lines = tree.folded(usize::MAX);
    assert_eq!(lines[0].split(';').count(), 20_000);
}

proptest! {
    /// Whatever the names are, inferno reads back as many frames as went in, and the same bytes.
    #[test]
    fn frames_and_counts_survive_whatever_the_names(
        stacks in prop::collection::vec((prop::collection::vec(hostile_name(), 1..6), 1_u64..1_000_000), 1..12),
    ) {
        let boxes = draw(&stacks);
        let total: u64 = stacks.iter().map(|(_, bytes)| bytes).sum();
        prop_assert_eq!(boxes.iter().filter(|found| found.2 == 0).map(|found| found.1).sum::<u64>(), total);
        // The naive twin: each distinct path from the root, by its escaped names, is one box.
        let mut expected: BTreeMap<Vec<String>, u64> = BTreeMap::new();
        for (path, bytes) in &stacks {
            let path: Vec<String> = path.iter().map(|name| escape_frame(name)).collect();
            for depth in 1..=path.len() {
                *expected.entry(path[..depth].to_vec()).or_default() += bytes;
            }
        }
        let mut expected: Vec<Box> = expected
            .into_iter()
            .map(|(path, bytes)| (path[path.len() - 1].clone(), bytes, path.len()))
            .collect();
        let mut found: Vec<Box> = boxes.into_iter().filter(|found| found.2 > 0).collect();
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn an_escaped_name_stays_as_it_is(name in hostile_name()) {
        let once = escape_frame(&name);
        prop_assert_eq!(escape_frame(&once), once);
    }

    #[test]
    fn pruning_never_loses_a_byte(
        stacks in prop::collection::vec((prop::collection::vec("[a-d]", 1..6), 1_u64..1000), 1..60),
        most in 1_usize..40,
    ) {
        let mut tree = Tree::new();
        for (path, bytes) in &stacks {
            tree.add(path, *bytes);
        }
        let sum: u64 = tree.folded(most).iter().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
        prop_assert_eq!(sum, stacks.iter().map(|(_, bytes)| bytes).sum::<u64>());
    }
}

fn hostile_name() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ab;# 0-9._\\[\\]kij\u{a0}\u{2028}\n\t<>&\"']{0,12}",
        prop::sample::select(vec![
            "", " ", "#", "# a", "a 1", "a 1 2", "f_[k]", "x_[i]", "a;b", "a 1.5", "--", "-", ".",
            "a .", "(other)", "é_[j]", "_[w]", "a _[k] 1", "# 1"
        ])
        .prop_map(str::to_owned),
    ]
}
