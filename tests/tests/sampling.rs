//! Samples of allocations: estimates without bias, within the error that is told with them.

use highwater_tests::{
    Launched, Recorder, Report, Truth, Victim, c_libraries, highwater, privileged, record_while,
    scratch, seconds, victim_program,
};

/// Records a victim of that seed.
fn record(seed: u64, sample: &str, commands: &[&str]) -> (Report, Truth) {
    let mut victim = Victim::start("sampled");
    victim.tell(&format!("seed {seed}"));
    let recorded = record_while(&mut victim, &["--sample", sample], commands);
    victim.quit();
    recorded
}

/// The error that the report states for what is live at the end, bytes: two standard deviations.
fn error_at_end(report: &Report) -> u64 {
    report.json()["end"]["error_bytes"]
        .as_u64()
        .expect("end.error_bytes is a number")
}

/// Holds estimates of several seeds against the truth: each within twice its error, and their mean within its own.
fn assert_estimates_are_right(sample: &str, bytes: u64, commands: &[&str]) {
    const SEEDS: u64 = 5;
    let (mut bias, mut variance) = (0.0, 0.0);
    for seed in 1..=SEEDS {
        let (report, truth) = record(seed, sample, commands);
        report.assert_saw_all();
        assert_eq!(report.json()["sample_bytes"], bytes);
        assert_eq!(report.total("unmatched_frees"), 0);
        assert_eq!(report.quality("dropped_samples"), 0);
        let (end, live, error) = (report.end(), truth.get("live_bytes"), error_at_end(&report));
        end.assert_adds_up();
        // 100 million bytes and more, so that the samples are many.
        assert!(live > 100_000_000 && error > 0 && error < live / 4);
        // Four standard deviations: one estimate in 16 000 is further off.
        assert!(
            end.bytes.abs_diff(live) <= 2 * error,
            "seed {seed}: {} ± {error} of {live} bytes",
            end.bytes
        );
        let blocks = truth.get("live_blocks") as f64;
        let ratio = end.blocks as f64 / blocks;
        // Small blocks are rarely sampled, each for thousands: their count is rough.
        assert!(
            (0.3..3.0).contains(&ratio),
            "{} of {blocks} blocks",
            end.blocks
        );
        let deviation = error as f64 / 2.0 / live as f64;
        bias += (end.bytes as f64 / live as f64 - 1.0) / SEEDS as f64;
        variance += (deviation / SEEDS as f64).powi(2);
    }
    assert!(
        bias.abs() <= 4.0 * variance.sqrt(),
        "on average the estimates are off by {bias}, of a deviation of {}",
        variance.sqrt()
    );
}

#[test]
fn samples_of_half_a_mebibyte_estimate_what_is_live() {
    privileged!();
    assert_estimates_are_right("512KiB", 512 << 10, &["hold 32768", "churn 20000"]);
}

#[test]
fn samples_of_64_kibibytes_estimate_what_is_live() {
    privileged!();
    assert_estimates_are_right("64KiB", 64 << 10, &["hold 32768", "churn 20000"]);
}

#[test]
fn resizes_of_blocks_sampled_or_not_leave_the_estimate_right() {
    privileged!();
    assert_estimates_are_right("512KiB", 512 << 10, &["hold 32768", "resize 20000"]);
}

#[test]
fn what_was_sampled_is_retired_as_it_is_freed() {
    privileged!();
    for sample in ["64KiB", "512KiB"] {
        let commands = ["hold 32768", "churn 10000", "resize 10000", "drop"];
        let (report, truth) = record(6, sample, &commands);
        report.assert_saw_all();
        assert_eq!(truth.get("live_blocks"), 0);
        let end = report.end();
        assert_eq!(
            (end.bytes, end.blocks),
            (0, 0),
            "nothing is live at the end"
        );
        assert_eq!(report.total("unmatched_frees"), 0);
        let (peak, held) = (report.peak().bytes, truth.get("peak_bytes"));
        let error = report.json()["peak"]["error_bytes"].as_u64();
        let error = error.expect("peak.error_bytes is a number");
        // The highest of many estimates is above the truth more often than below it.
        assert!(
            peak.abs_diff(held) <= 3 * error,
            "{peak} ± {error} of {held} bytes at the peak"
        );
    }
}

#[test]
fn frees_of_what_was_held_before_attach_are_not_taken_for_samples() {
    privileged!();
    let mut victim = Victim::start("sampled");
    victim.tell("hold 32768");
    let (report, _) = record_while(&mut victim, &["--sample", "64KiB"], &["drop"]);
    victim.quit();
    report.assert_saw_all();
    assert_eq!(report.total("frees"), 0);
    assert_eq!(report.total("unmatched_frees"), 0);
    assert_eq!((report.end().bytes, report.end().blocks), (0, 0));
}

/// Panics unless what a report has live at its end is true within twice the error that it states: four standard deviations.
#[track_caller]
fn assert_end_is_right(report: &Report, live: u64, what: &str) {
    let (end, error) = (report.end(), error_at_end(report));
    assert!(live > 40_000_000 && error > 0 && error < live / 4);
    assert!(
        end.bytes.abs_diff(live) <= 2 * error,
        "{what}: {} ± {error} of {live} bytes",
        end.bytes
    );
}

#[test]
fn a_call_that_libc_hands_on_to_another_function_is_drawn_once() {
    privileged!();
    let program = victim_program("handed_on");
    for library in c_libraries() {
        for command in [
            "malloc",
            "calloc",
            "realloc",
            "reallocarray",
            "resizearray",
            "memalign",
            "aligned_alloc",
            "mixed",
        ] {
            let mut victim = Victim::start_command(&mut library.command(&program));
            let told = format!("{command} 60000");
            let (report, truth) = record_while(&mut victim, &["--sample", "64KiB"], &[&told]);
            victim.quit();
            report.assert_saw_all();
            let what = format!("{command} of {}", library.name);
            assert_end_is_right(&report, truth.get("live_bytes"), &what);
            assert_eq!(report.end().of("mapping"), 0, "{what}");
        }
    }
}

#[test]
fn a_heap_that_grows_in_a_programs_first_milliseconds_is_no_mapping() {
    privileged!();
    let directory = scratch();
    let program = victim_program("grown_at_once");
    for run in 1..=4 {
        let file = directory.path().join(format!("{run}.hwm"));
        let mut command = highwater();
        command.args(["record", "--sample", "64KiB", "-o"]);
        command.arg(&file).arg("--").arg(&program);
        let mut launched = Launched::start_command(&file, &mut command);
        let truth = launched.tell("tell");
        let (outcome, file) = launched.wait();
        outcome.assert_says(0, &[]);
        let (report, live) = (Report::of(&file), truth.get("live_bytes"));
        assert_end_is_right(&report, live, &format!("run {run}"));
        // The dynamic linker maps a little: what libraries write to.
        let mapped = report.end().of("mapping");
        assert!(mapped < 1_000_000, "run {run}: {mapped} bytes mapped");
    }
}

#[test]
fn programs_that_have_ended_take_no_room_from_later_ones() {
    privileged!();
    // So long that its probes are in.
    let wait = (600 * seconds(1)).to_string();
    let mut victim = Victim::start_with("children_in_turn", &[&wait]);
    // Nearly two of three blocks are sampled: more than the table of blocks has places.
    let (report, truth) = record_while(&mut victim, &["--sample", "1KiB"], &["go 20"]);
    victim.quit();
    assert_eq!(report.quality("dropped_samples"), 0);
    let children = report.processes();
    assert_eq!(children.len(), 21);
    for child in children.iter().skip(1) {
        let peak = report.process_peak(child.id).bytes;
        let told = truth.get("bytes_each");
        // Four standard deviations are 1 %.
        assert!(
            peak.abs_diff(told) < told / 50,
            "{peak} of {told} bytes in child {}",
            child.id
        );
    }
}

#[test]
fn a_forked_child_that_hands_back_what_it_inherited_holds_none_of_it() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("fork_child");
    let recorder = Recorder::attach_with(victim.pid(), &file, &["--sample", "16KiB"]);
    let held = victim.tell("hold 20000").get("live_bytes");
    let child = victim.tell("fork").get("child");
    recorder.await_identities(child as u32, 1);
    victim.tell("drop 20000");
    // What it holds itself counts as ever.
    let own = victim.tell("hold 20000").get("live_bytes");
    let report = recorder.interrupt();
    victim.send("leave");
    victim.quit();

    let processes = report.processes();
    let live_of = |wanted: &dyn Fn(u64) -> bool| {
        let ids = processes
            .iter()
            .filter(|process| wanted(process.pid.into()));
        let ids: Vec<u64> = ids.map(|process| process.id).collect();
        let holders = report.end().holders.into_iter();
        let of_them =
            holders.filter(|holder| holder.kind == "heap" && ids.contains(&holder.process));
        of_them.map(|holder| holder.bytes).sum::<u64>()
    };
    let of_child = live_of(&|pid| pid == child);
    let of_parent = live_of(&|pid| pid != child);
    for (what, estimate, truth) in [("child", of_child, own), ("parent", of_parent, held)] {
        let ratio = estimate as f64 / truth as f64;
        // 20 MB in samples of 16 KiB: one standard deviation is 3 %.
        assert!((0.8..1.2).contains(&ratio), "{what}: {estimate} of {truth}");
    }
}
