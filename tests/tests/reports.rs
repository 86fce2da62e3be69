//! Reports of real recordings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater_tests::{
    Recorder, Report, Victim, highwater, privileged, record_while, run, scratch, victim_program,
};

/// Records the eight sites up to their peak.
fn record_eight_sites(directory: &Path) -> PathBuf {
    let file = directory.join("recording.hwm");
    let mut victim = Victim::start("eight_sites");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("rise");
    victim.tell("fall");
    recorder.interrupt();
    victim.quit();
    file
}

#[test]
fn the_first_screen_says_how_much_and_who() {
    privileged!();
    let directory = scratch();
    let file = record_eight_sites(directory.path());
    let peak = Report::of(&file).peak();
    let outcome = run(highwater().arg("report").arg(&file));
    outcome.assert_says(0, &[]);
    let bytes = u32::try_from(peak.bytes)
        .map(f64::from)
        .expect("the peak is some MB");
    let headline = format!("{:.1} MB ({:.1} MiB)", bytes / 1e6, bytes / 1_048_576.0);
    for text in [headline.as_str(), &peak.holders[0].functions[0], "RSS"] {
        assert!(
            outcome.stdout.contains(text),
            "no {text:?} in:\n{}",
            outcome.stdout
        );
    }
    assert!(!outcome.stdout.contains('\x1b'), "colour is for terminals");
}

#[test]
fn what_a_plugin_holds_says_in_how_many_of_its_loads_it_asked_for_that() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let library = victim_program("one_function.so");
    let library = library.to_str().expect("the path of a victim is text");
    let mut victim = Victim::start_with("reopened", &[library]);
    let recorder = Recorder::attach(victim.pid(), &file);
    let truth = victim.tell("go 20");
    victim.quit();
    recorder.finish();
    let screen = run(highwater().arg("report").arg(&file).args(["--top", "20"])).stdout;
    // Where a stack was cut before its tables were built, it is a row of its own.
    let rows = || screen.lines().filter(|line| line.contains(" %  "));
    let told = rows().filter_map(|line| {
        let (before, _) = line.split_once(" loads of one_function.so] take_0000")?;
        before.rsplit_once('[')?.1.parse::<u64>().ok()
    });
    // A row of one load does not say so.
    let alone = rows()
        .filter(|line| line.contains("  take_0000") && line.contains("one_function.c"))
        .count() as u64;
    assert_eq!(told.sum::<u64>() + alone, truth.get("loads"), "{screen}");
}

#[test]
fn a_report_has_every_part_of_its_schema() {
    privileged!();
    let directory = scratch();
    let report = Report::of(&record_eight_sites(directory.path()));
    let json = report.json();
    assert_eq!(json["mode"], "exact");
    for path in [
        "/highwater",
        "/started",
        "/duration_ns",
        "/processes/0/id",
        "/processes/0/pid",
        "/processes/0/ns_pid",
        "/processes/0/command",
        "/processes/0/started",
        "/processes/0/exit/reason",
        "/processes/0/exit/at_ns",
        "/totals/allocations",
        "/totals/unmatched_freed_bytes",
        "/memory/attach/rss",
        "/memory/peak/rss",
        "/memory/end/rss",
        "/memory/end/anon",
        "/memory/end/swap",
        "/memory/end/live",
        "/memory/end/before_attach",
        "/memory/end/unexplained",
        "/frames/0/function",
        "/frames/0/module",
        "/frames/0/build_id",
        "/frames/0/offset",
        "/frames/0/kind",
        "/stacks/0/0",
        "/peak/by_kind/heap",
        "/peak/holders/0/stack",
        "/peak/holders/0/kind",
        "/end/holders/0/bytes",
        "/process_peaks/0/process",
        "/quality/complete",
        "/quality/lost_events",
        "/quality/truncated_stacks",
        "/quality/unresolved_frames",
    ] {
        let value = json.pointer(path);
        assert!(
            value.is_some_and(|value| !value.is_null()),
            "no {path} in {json:#}"
        );
    }
    // The victim has debug information: its own frames know their lines.
    let site = json["frames"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|frame| {
            let function = frame["function"].as_str().unwrap_or_default();
            function.starts_with("site_")
        });
    let site = site.expect("a frame of a site");
    assert!(site["line"].is_u64(), "{site:#}");
    let source = site["file"].as_str().unwrap_or_default();
    assert!(source.ends_with("eight_sites.c"), "{site:#}");
}

#[test]
fn rss_is_what_was_traced_and_what_was_there_before_and_the_unexplained() {
    privileged!();
    let directory = scratch();
    let report = Report::of(&record_eight_sites(directory.path()));
    for moment in ["attach", "peak", "end"] {
        let unexplained = report.json()["memory"][moment]["unexplained"].as_i64();
        let unexplained = unexplained.unwrap_or_else(|| panic!("no unexplained at {moment}"));
        let told = report.memory(moment, "live") + report.memory(moment, "before_attach");
        assert_eq!(
            told.checked_add_signed(unexplained),
            Some(report.memory(moment, "rss")),
            "{moment}: {:#}",
            report.json()["memory"][moment]
        );
    }
}

#[test]
fn a_flame_graph_is_the_same_each_time_and_names_the_holders() {
    privileged!();
    let directory = scratch();
    let file = record_eight_sites(directory.path());
    let draw = |name: &str| {
        let picture = directory.path().join(name);
        run(highwater()
            .arg("flamegraph")
            .arg(&file)
            .arg("-o")
            .arg(&picture))
        .assert_says(0, &[]);
        fs::read_to_string(picture).expect("the flame graph can be read")
    };
    let first = draw("first.svg");
    assert!(first.contains("<svg"), "{first}");
    for site in 0..8 {
        assert!(
            first.contains(&format!("site_{site}")),
            "no site_{site} in {first}"
        );
    }
    assert_eq!(first, draw("second.svg"));
}

#[test]
fn a_program_deleted_before_it_ends_is_still_named() {
    privileged!();
    let directory = scratch();
    let program = directory.path().join("eight_sites");
    fs::copy(victim_program("eight_sites"), &program).expect("the victim can be copied");
    let mut victim = Victim::start_command(&mut Command::new(&program));
    let file = directory.path().join("recording.hwm");
    let recorder = Recorder::attach(victim.pid(), &file);
    fs::remove_file(&program).expect("the victim can be deleted");
    victim.tell("rise");
    victim.quit();
    let report = recorder.finish();
    assert!(report.end().through("site_3").1 > 0, "{:#?}", report.end());
}

#[test]
fn a_deep_stack_is_whole_and_one_beyond_the_limit_keeps_its_leaf() {
    privileged!();
    let mut victim = Victim::start("deep");
    let (report, _) = record_while(&mut victim, &[], &["deep 500"]);
    report.assert_saw_all();
    let names = &report.end().holders[0].functions;
    let steps = names.iter().filter(|name| *name == "descend").count();
    assert_eq!(steps, 501);
    assert!(names.iter().any(|name| name == "main"));

    let (report, truth) = record_while(&mut victim, &[], &["deep 100000"]);
    victim.quit();
    report.assert_saw_all_but(&["truncated_stacks"]);
    assert!(report.quality("truncated_stacks") >= 1);
    let end = report.end();
    assert_eq!((end.bytes, end.blocks), (100, 1));
    assert_eq!(truth.get("allocations"), 2);
    let names = &end.holders[0].functions;
    assert_eq!(names[0], "descend");
    assert!(names.len() >= 500, "{} frames are left", names.len());
}

#[test]
fn cxx_names_are_demangled() {
    privileged!();
    let mut victim = Victim::start("through_libc");
    let (report, _) = record_while(&mut victim, &[], &["go"]);
    victim.quit();
    let end = report.end();
    let names: Vec<&String> = end
        .holders
        .iter()
        .flat_map(|holder| &holder.functions)
        .collect();
    assert!(
        names.iter().any(|name| name.starts_with("operator new(")),
        "{names:#?}"
    );
    assert!(
        !names.iter().any(|name| name.starts_with("_Z")),
        "{names:#?}"
    );
}
