//! What is exported adds up to what the report says.

use highwater_tests::{Recorder, Victim, highwater, privileged, run, scratch};

#[test]
fn collapsed_stacks_add_up_to_the_peak_and_name_every_site() {
    privileged!();
    let scratch = scratch();
    let file = scratch.path().join("recording.hwm");
    let mut victim = Victim::start("eight_sites");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("rise");
    let report = recorder.interrupt();
    victim.quit();

    let export = |format: &str, to: &std::path::Path| {
        run(highwater()
            .arg("export")
            .arg(&file)
            .args(["--format", format, "-o"])
            .arg(to))
    };
    let folded = scratch.path().join("peak.collapsed");
    export("collapsed", &folded).assert_says(0, &["wrote"]);
    let text = std::fs::read_to_string(&folded).expect("it was written");
    let bytes = |line: &str| -> u64 {
        let (_, bytes) = line.rsplit_once(' ').expect("a count");
        bytes.parse().expect("a number")
    };
    assert_eq!(text.lines().map(bytes).sum::<u64>(), report.peak().bytes);
    for site in 0..8 {
        assert!(text.contains(&format!("site_{site}")), "{text}");
    }
    // What is there is not overwritten.
    export("collapsed", &folded).assert_says(1, &["never overwritten"]);
}
