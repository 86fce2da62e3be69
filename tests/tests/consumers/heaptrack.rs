//! Heaptrack's own printer.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use highwater_tests::{Display, Holding, Recorder, Victim, highwater, privileged, run, scratch};

use super::{Recorded, print, sites};

/// What `heaptrack_print` says of a cost: the sum, and that of the stacks with each site.
#[track_caller]
fn heaptrack_cost(data: &Path, cost: &str, scratch: &Path) -> (u64, BTreeMap<String, u64>) {
    let stacks = scratch.join("stacks");
    print(
        Command::new("heaptrack_print")
            .arg(data)
            .args([
                "--disable-builtin-suppressions",
                "--flamegraph-cost-type",
                cost,
            ])
            .arg("--print-flamegraph")
            .arg(&stacks),
    );
    let stacks = fs::read_to_string(stacks).expect("it was written");
    let mut sum = 0;
    let mut of = BTreeMap::new();
    for line in stacks.lines() {
        let (stack, cost) = line.rsplit_once(' ').expect("a cost");
        let cost: u64 = cost.parse().unwrap_or_else(|_| panic!("{line}"));
        sum += cost;
        for site in (0..8).map(|site| format!("site_{site}")) {
            if stack.contains(&site) {
                *of.entry(site).or_default() += cost;
            }
        }
    }
    (sum, of)
}

#[test]
fn heaptrack_print_finds_the_same_peak_end_and_calls() {
    privileged!();
    let recorded = Recorded::eight_sites();
    let (report, directory) = (&recorded.report, recorded.directory());
    let packed = recorded.export("heaptrack", &[]);
    let plain = directory.join("plain");
    recorded.export("heaptrack", &["-o", &plain.to_string_lossy()]);
    let zstd = directory.join("recording.heaptrack.zst");
    recorded.export("heaptrack", &["-o", &zstd.to_string_lossy()]);
    for data in [&packed, &plain, &zstd] {
        let bytes = |holding: &Holding| {
            let sites = sites(holding).into_iter();
            let bytes = sites.map(|(site, (bytes, _))| (site, bytes)).collect();
            (holding.bytes, bytes)
        };
        assert_eq!(
            heaptrack_cost(data, "peak", directory),
            bytes(&report.peak())
        );
        assert_eq!(
            heaptrack_cost(data, "leaked", directory),
            bytes(&report.end())
        );
        let (calls, _) = heaptrack_cost(data, "allocations", directory);
        assert_eq!(calls, report.total("allocations"));
    }
    let said = print(Command::new("heaptrack_print").arg(&packed));
    let allocations = report.total("allocations");
    for words in [
        format!("calls to allocation functions: {allocations} "),
        format!(
            "peak heap memory consumption: {:.2}M",
            report.peak().bytes as f64 / 1e6
        ),
        "eight_sites.c:".to_owned(),
    ] {
        assert!(said.contains(&words), "no {words:?} in {said}");
    }
    let rss = report.json()["memory"]["peak"]["rss"]
        .as_u64()
        .expect("it is known");
    let told = said
        .lines()
        .find_map(|line| line.strip_prefix("peak RSS (including heaptrack overhead): "))
        .and_then(|line| line.strip_suffix('M')?.parse::<f64>().ok())
        .unwrap_or_else(|| panic!("no RSS in {said}"));
    assert!(told * 1e6 > rss as f64 * 0.9, "{told} M, in truth {rss}");
}

#[test]
fn heaptrack_gui_opens_what_frees_older_blocks() {
    privileged!();
    let scratch = scratch();
    let file = scratch.path().join("recording.hwm");
    let mut victim = Victim::start("eight_sites");
    victim.tell("rise");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("fall");
    victim.tell("rise");
    let report = recorder.interrupt();
    victim.quit();
    assert!(report.total("unmatched_frees") > 0, "frees of older blocks");
    let data = scratch.path().join("recording.gz");
    run(highwater()
        .arg("export")
        .arg(&file)
        .args(["--format", "heaptrack", "-o"])
        .arg(&data))
    .assert_says(0, &["wrote"]);
    // Every block that goes came before.
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(&data).expect("it is there"))
        .read_to_string(&mut text)
        .expect("it is gzip");
    let mut there: BTreeMap<&str, u64> = BTreeMap::new();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("+", size)) => *there.entry(size).or_default() += 1,
            Some(("-", size)) => {
                let blocks = there.get_mut(size).filter(|blocks| **blocks > 0);
                *blocks.expect("what goes has come") -= 1;
            }
            _ => {}
        }
    }
    let display = Display::start();
    let mut gui = display.run(Command::new("heaptrack_gui").arg(&data));
    display.await_window("Heaptrack - recording.gz", &mut gui);
    gui.await_idle();
    assert!(!gui.has_ended(), "heaptrack_gui crashed");
}

#[test]
fn heaptrack_files_are_of_the_whole_course_and_may_come_from_a_pipe() {
    privileged!();
    let recorded = Recorded::eight_sites();
    let directory = recorded.directory();
    for words in [
        &["--at", "end"][..],
        &["--between", ".."],
        &["--min", "1KiB"],
    ] {
        let refused = run(highwater()
            .arg("export")
            .arg(&recorded.file)
            .args(["--format", "heaptrack"])
            .args(words));
        refused.assert_says(2, &["the whole course"]);
    }
    let data = directory.join("piped");
    let piped = run(Command::new("sh")
        .arg("-c")
        .arg(r#""$0" export - --format heaptrack < "$1" > "$2""#)
        .arg(highwater().get_program())
        .arg(&recorded.file)
        .arg(&data));
    piped.assert_says(0, &[]);
    let (peak, _) = heaptrack_cost(&data, "peak", directory);
    assert_eq!(peak, recorded.report.peak().bytes);
    // Filters leave whole holders.
    let one = directory.join("one");
    recorded.export(
        "heaptrack",
        &["--focus", "^site_3$", "-o", &one.to_string_lossy()],
    );
    let (left, of) = heaptrack_cost(&one, "leaked", directory);
    let through = recorded.report.end().through("site_3").0;
    assert_eq!((left, of.get("site_3").copied()), (through, Some(through)));
}
