use serde_json::Value;

use super::super::replay::Threads;
use super::super::script::{MIB, Script};
use super::*;
use crate::record::Entry;

fn page(profile: &Profile) -> String {
    let mut page = Vec::new();
    write(profile, &Question::default(), Order::RootFirst, &mut page).unwrap();
    String::from_utf8(page).unwrap()
}

/// The data as a browser finds it: up to the first end of a script element.
fn data(page: &str) -> Value {
    let (_, after) = page
        .split_once("<script type=\"application/json\" id=\"data\">")
        .unwrap();
    let (data, _) = after.split_once("</script").unwrap();
    serde_json::from_str(data).unwrap()
}

fn profile(script: Script) -> Profile {
    let entries = script.entries.into_iter().map(Ok);
    Profile::replay_for(entries, &Question::default(), Threads::Apart).unwrap()
}

fn sum(column: &Value) -> u64 {
    column
        .as_array()
        .unwrap()
        .iter()
        .map(|bytes| bytes.as_u64().unwrap())
        .sum()
}

fn two_stacks(first: &str) -> Script {
    let mut script = Script::launched("app");
    script.stack(1, &[first, "main@src/main.c:4"]);
    script.stack(2, &["log", "main@src/main.c:9"]);
    script.allocate(0, 100, 1, 3 * MIB);
    script.free_at(0, 300, |script| script.allocate(0, 200, 2, MIB));
    script.close(1000, "interrupted");
    script
}

#[test]
fn the_holders_of_the_page_come_to_the_peak_and_to_the_end() {
    let profile = profile(two_stacks("load"));
    let data = data(&page(&profile));
    assert_eq!(sum(&data["views"][0]["bytes"]), profile.peak.bytes);
    assert_eq!(profile.peak.bytes, 4 * MIB);
    assert_eq!(sum(&data["views"][1]["bytes"]), MIB);
    assert_eq!(data["merged"], 0);
}

#[test]
fn a_function_name_cannot_end_the_script() {
    let evil = "a</script><script>alert(1)</script><!--{{script}}";
    let mut script = two_stacks("load");
    for entry in &mut script.entries {
        if let Entry::Names(names) = entry {
            names.functions[0].function = evil.to_owned();
        }
    }
    let page = page(&profile(script));
    assert!(!page.contains("<script>alert"));
    let strings = data(&page)["trie"]["strings"].clone();
    let mut strings = strings.as_array().unwrap().iter();
    assert!(strings.any(|name| {
        name.as_str()
            .is_some_and(|name| name.starts_with("a</script>"))
    }));
}

#[test]
fn the_page_refers_to_nothing_outside_of_itself() {
    // The libraries name the places that they are from, and XML's name spaces.
    for text in [PAGE].iter().chain(&STYLES).chain(&SCRIPTS) {
        for reference in ["http:", "https:", "src=", "url(", "@import", "import("] {
            assert!(!text.contains(reference), "{reference}");
        }
    }
    for library in LIBRARIES {
        for end in ["</script", "<!--"] {
            assert!(!library.contains(end), "{end}");
        }
    }
    let page = page(&profile(two_stacks("load")));
    for place in [
        "{{style}}",
        "{{licences}}",
        "{{data}}",
        "{{libraries}}",
        "{{script}}",
    ] {
        assert!(!page.contains(place), "{place}");
    }
}

#[test]
fn holders_beyond_the_room_there_is_are_added_up() {
    let mut script = Script::launched("app");
    let stacks = 20_100_u32;
    for stack in 1..=stacks {
        script.allocate(0, 100, stack, u64::from(stack));
    }
    script.close(1000, "interrupted");
    let profile = profile(script);
    let data = data(&page(&profile));
    assert_eq!(data["merged"], 100);
    let bytes = data["views"][0]["bytes"].as_array().unwrap();
    assert_eq!(bytes.len(), 20_001);
    // The smallest ones are those that were added up.
    assert_eq!(bytes[20_000], 100 * 101 / 2);
    assert_eq!(sum(&data["views"][0]["bytes"]), profile.peak.bytes);
}

#[test]
fn what_does_not_add_up_is_a_warning() {
    let warned = |resident: u64| {
        let mut script = Script::launched("app");
        script.stack(1, &["load", "main"]);
        script.allocate(0, 100, 1, 100 * MIB);
        script.memory(0, 101, resident);
        script.close(1000, "interrupted");
        let data = data(&page(&profile(script)));
        let trust = data["trust"].as_array().unwrap().iter();
        let mut said = trust.filter(|said| said[1].as_str().unwrap().contains("unexplained"));
        said.next().expect("the books are told")[0] == true
    };
    assert!(!warned(120 * MIB));
    // Not touched yet, which is no error.
    assert!(!warned(40 * MIB));
    assert!(warned(200 * MIB));
}

#[test]
fn processes_whose_probes_were_late_are_one_sentence_on_the_banner() {
    let mut script = Script::launched("make");
    script.stack(1, &["load", "main"]);
    script.allocate(0, 1, 1, MIB);
    for child in 1..=12 {
        script.fork(0, child, 10);
    }
    script.close(1000, "interrupted");
    let data = data(&page(&profile(script)));
    let trust = data["trust"].as_array().unwrap().iter();
    let late: Vec<&str> = trust
        .filter_map(|said| said[1].as_str())
        .filter(|said| said.contains("probes were in place"))
        .collect();
    let sentence = "12 processes ran for up to 1 ms before their probes were in place.";
    assert_eq!(late, [sentence]);
}

#[test]
fn two_recordings_are_compared_by_name_and_keep_every_byte() {
    let recorded = |sites: &[(u32, &[&str], u64)]| {
        let mut script = Script::launched("app");
        for (stack, frames, size) in sites {
            script.stack(*stack, frames);
            script.allocate(1, u64::from(*stack), *stack, *size);
        }
        script.close(1000, "interrupted");
        profile(script)
    };
    let before = recorded(&[
        (1, &["keep@a.c:10", "main@a.c:90"], 100),
        (2, &["drop@a.c:20", "main@a.c:91"], 30),
    ]);
    let after = recorded(&[
        (7, &["fresh@a.c:5", "main@a.c:96"], 40),
        (8, &["keep@a.c:11", "main@a.c:95"], 300),
    ]);
    let question = Question::default();
    let (old, new) = (
        Answer::of(&before, &question),
        Answer::of(&after, &question),
    );
    let mut page = Vec::new();
    let order = Order::RootFirst;
    write_difference((&before, &old), (&after, &new), order, &mut page).unwrap();
    let data = data(std::str::from_utf8(&page).unwrap());
    let views = data["views"].as_array().unwrap().iter();
    let sums: Vec<_> = views
        .map(|view| (&view["name"], sum(&view["bytes"])))
        .collect();
    assert_eq!(
        sums,
        [
            (&"after".into(), 340),
            (&"before".into(), 130),
            (&"change".into(), 200 + 30 + 40)
        ]
    );
    assert_eq!(data["views"][0]["bytes"].as_array().unwrap().len(), 3);
    // One `keep`, where it is now.
    let frames = &data["trie"]["frames"];
    let named = |column: &str| -> Vec<&str> {
        let numbers = frames[column].as_array().unwrap().iter();
        numbers
            .map(|number| {
                let number = number.as_u64().unwrap() as usize;
                data["trie"]["strings"][number].as_str().unwrap()
            })
            .collect()
    };
    let known: Vec<_> = named("name").into_iter().zip(named("place")).collect();
    let keep: Vec<_> = known.iter().filter(|(name, _)| *name == "keep").collect();
    assert_eq!(keep, [&("keep", "a.c:11")]);
}

#[test]
fn the_page_tells_python_functions_and_their_interpreter_from_other_code() {
    let mut script = two_stacks("py:load@/srv/app.py:12");
    script.stack(3, &["eval:_PyEval_EvalFrameDefault", "main"]);
    script.allocate(0, 400, 3, MIB);
    for entry in &mut script.entries {
        if let Entry::Names(names) = entry
            && names.functions[0].function == "load"
        {
            names.source = Some("return bytes(n)".to_owned());
        }
    }
    let data = data(&page(&profile(script)));
    let frames = &data["trie"]["frames"];
    let text = |column: &str, frame: usize| {
        let number = frames[column][frame].as_u64().unwrap();
        data["trie"]["strings"][number as usize].as_str().unwrap()
    };
    let shown: Vec<_> = (0..frames["name"].as_array().unwrap().len())
        .map(|frame| {
            let kind = frames["kind"][frame].as_u64().unwrap();
            (text("name", frame), kind, text("source", frame))
        })
        .collect();
    assert!(shown.contains(&("load", 1, "return bytes(n)")), "{shown:?}");
    assert!(
        shown.contains(&("_PyEval_EvalFrameDefault", 2, "")),
        "{shown:?}"
    );
    assert!(shown.contains(&("main", 0, "")), "{shown:?}");
}

#[test]
fn rss_stays_where_a_process_runs_on_and_is_nothing_once_it_has_ended() {
    let curve = |script: Script| {
        let data = data(&page(&profile(script)));
        let points = data["rss"].as_array().unwrap().iter();
        points
            .map(|point| point[1].as_u64().unwrap() / MIB)
            .collect::<Vec<_>>()
    };
    let mut runs_on = Script::attached("server", 300 * MIB, 310 * MIB);
    runs_on.memory(0, 0, 310 * MIB);
    runs_on.memory(0, 500, 300 * MIB);
    runs_on.detach(0, 800);
    runs_on.close(1000, "interrupted");
    assert_eq!(curve(runs_on), [310, 300, 300]);
    let mut ends = Script::launched("app");
    ends.memory(0, 10, 5 * MIB);
    ends.exit(0, 500, 0);
    assert_eq!(curve(ends), [5, 0]);
    // By exec a process becomes another, and has no less memory for that than the new one has.
    let mut becomes = Script::launched("sh");
    becomes.memory(0, 10, 5 * MIB);
    becomes.exec(0, 1, 20, "app");
    becomes.memory(1, 30, 4 * MIB);
    becomes.exit(1, 500, 0);
    assert_eq!(curve(becomes), [5, 4, 0]);
}

#[test]
fn what_was_held_before_attach_goes_as_it_is_freed() {
    let mut script = Script::attached("server", 300 * MIB, 310 * MIB);
    script.memory(0, 0, 310 * MIB);
    script.free_unknown(0, 100, 200 * MIB);
    script.memory(0, 500, 110 * MIB);
    script.detach(0, 1000);
    let profile = profile(script);
    let left = profile.memory.end.before_attach.unwrap();
    let data = data(&page(&profile));
    let held: Vec<u64> = data["before"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point[1].as_u64().unwrap())
        .collect();
    assert_eq!(held, [310 * MIB, left]);
    assert!(left < 111 * MIB);
}

#[test]
fn the_page_is_told_which_frame_holds_and_what_is_plumbing() {
    let mut script = Script::launched("app");
    script.stack(
        1,
        &[
            "operator new(unsigned long)",
            "load@src/a.c:3",
            "main@src/a.c:9",
            "_start",
        ],
    );
    script.allocate(0, 100, 1, MIB);
    script.close(1000, "interrupted");
    let data = data(&page(&profile(script)));
    assert_eq!(data["holders"]["telling"], serde_json::json!([1]));
    let frames = &data["trie"]["frames"];
    let hidden = frames["name"]
        .as_array()
        .unwrap()
        .iter()
        .zip(frames["flags"].as_array().unwrap());
    let hidden: Vec<&str> = hidden
        .filter(|(_, flags)| flags.as_u64().unwrap() & 1 != 0)
        .map(|(name, _)| {
            data["trie"]["strings"][name.as_u64().unwrap() as usize]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(hidden, ["operator new(unsigned long)", "_start"]);
}

#[test]
fn the_charge_of_the_cgroup_has_a_curve_of_its_own() {
    let mut script = Script::launched("app");
    for (ms, charge) in [(10, 40), (500, 90), (900, 70)] {
        script.memory_in_cgroup(0, ms, 5 * MIB, Some(charge * MIB), Some(200 * MIB));
    }
    script.exit(0, 1000, 0);
    let data = data(&page(&profile(script)));
    let charged: Vec<u64> = data["cgroup"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point[1].as_u64().unwrap() / MIB)
        .collect();
    assert_eq!(charged, [40, 90, 70]);
    assert_eq!(data["limit"], 200 * MIB);
}
