//! The statically linked highwater, in a root directory that holds nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use highwater_tests::{
    EmptyRoot, Recorder, Report, Victim, highwater, privileged, run, scratch, static_highwater,
};

#[test]
fn the_static_binary_runs_where_there_is_nothing_but_itself() {
    privileged!();
    let root = EmptyRoot::of(static_highwater());
    let outcome = run(root.highwater(&[]).arg("--version"));
    outcome.assert_says(0, &[]);
    assert_eq!(outcome.stdout, run(highwater().arg("--version")).stdout);
}

#[test]
fn from_an_empty_root_a_process_outside_is_recorded_to_the_byte() {
    privileged!();
    let root = EmptyRoot::of(static_highwater());
    let mut victim = Victim::start("inlined");
    // What a container has, and `--pid=host`. That it counts the calls beforehand is part of the test.
    let mut command = root.highwater(&["/proc", "/sys", "/dev/null"]);
    command
        .args([
            "record",
            "-o",
            "/recording.hwm",
            "--preflight",
            "100ms",
            "-p",
        ])
        .arg(victim.pid().to_string());
    let file = root.path().join("recording.hwm");
    let mut recorder = Recorder::start_command(&file, &mut command);
    recorder.await_words("highwater: tracing");
    victim.tell("hold 100");
    let truth = victim.tell("call 50");
    recorder.signal(libc::SIGINT);
    recorder.wait().assert_says(0, &["innermost", "inlined.c:"]);
    victim.quit();

    let report = Report::of(&file);
    report.assert_saw_all();
    report.assert_totals(&truth);
    report.assert_end(&truth);
    assert_eq!(report.end().through("called"), (50 * 200, 50));
    assert_eq!(report.quality("unresolved_frames"), 0);
}

#[test]
fn a_recording_is_reported_the_same_where_the_programs_files_are_missing() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("inlined");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("hold 100");
    victim.tell("call 50");
    victim.tell("work 1000");
    let report = recorder.interrupt();
    victim.quit();

    // There is something that could be lost: names, files, lines and inlined functions.
    let frames = report.json()["frames"].as_array().expect("frames");
    let of = |name: &str| {
        frames
            .iter()
            .find(|frame| frame["function"] == name)
            .unwrap_or_else(|| panic!("no function {name} in {frames:#?}"))
    };
    for (name, inlined) in [("innermost", true), ("between", true), ("called", false)] {
        let frame = of(name);
        assert_eq!(frame["inlined"], inlined, "{frame:#}");
        let source = frame["file"].as_str().unwrap_or_default();
        assert!(source.ends_with("victims/inlined.c"), "{frame:#}");
        assert!(frame["line"].as_u64() > Some(0), "{frame:#}");
    }
    assert_eq!(report.quality("unresolved_frames"), 0);

    let root = EmptyRoot::of(static_highwater());
    fs::copy(&file, root.path().join("recording.hwm")).expect("the recording can be copied");
    for view in [
        &["report", "--json"][..],
        &["report"],
        &["table", "--by", "function"],
        &["export", "--format", "collapsed", "-o", "-"],
    ] {
        let here = run(highwater()
            .current_dir(directory.path())
            .args(view)
            .arg("recording.hwm"));
        let there = run(root.highwater(&[]).args(view).arg("recording.hwm"));
        there.assert_says(0, &[]);
        assert!(here.stdout.len() > 100, "{here:#?}");
        assert_eq!(there.stdout, here.stdout, "{view:?}");
    }
}

/// What the repository's Dockerfile says, as far as it says it for an image of copied files.
#[derive(Debug, Default)]
struct Image {
    from: String,
    /// Sources and where they go.
    copies: Vec<(String, String)>,
    entrypoint: Vec<String>,
    command: Vec<String>,
}

impl Image {
    #[track_caller]
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("there is a Dockerfile");
        let mut image = Self::default();
        let list = |rest: &str| -> Vec<String> {
            serde_json::from_str(rest).unwrap_or_else(|error| panic!("{rest}: {error}"))
        };
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (instruction, rest) = line.split_once(' ').expect("an instruction and its words");
            match instruction {
                "FROM" => rest.clone_into(&mut image.from),
                "COPY" => {
                    let (from, to) = rest.split_once(' ').expect("a source and a place");
                    image.copies.push((from.to_owned(), to.to_owned()));
                }
                "ENTRYPOINT" => image.entrypoint = list(rest),
                "CMD" => image.command = list(rest),
                "WORKDIR" => assert!(rest.starts_with('/'), "{line}"),
                other => panic!("an instruction that this test does not know: {other}"),
            }
        }
        image
    }
}

#[test]
fn the_image_of_the_dockerfile_holds_the_binary_alone_and_runs_it() {
    privileged!();
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let image = Image::read(&repository.join("Dockerfile"));
    assert_eq!(image.from, "scratch");
    let [(source, place)] = &image.copies[..] else {
        panic!("one file is copied: {image:?}");
    };
    assert_eq!(
        source, "target/dist/highwater",
        "what `cargo xtask dist` makes"
    );
    assert_eq!(image.entrypoint, std::slice::from_ref(place));
    // Of all that lies in the repository, nothing else is sent to the builder.
    let context = fs::read_to_string(repository.join(".dockerignore")).expect(".dockerignore");
    let lines: BTreeSet<&str> = context.lines().collect();
    assert_eq!(lines, BTreeSet::from(["*", &format!("!{source}")]));

    let root = EmptyRoot::of(static_highwater());
    assert_eq!(place, "/highwater", "where this test puts it");
    let outcome = run(root.highwater(&[]).args(&image.command));
    outcome.assert_says(0, &[]);
    assert!(outcome.stdout.contains("record"), "{outcome:#?}");
}
