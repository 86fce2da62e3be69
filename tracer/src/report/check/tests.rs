use std::path::Path;

use super::super::script::{MIB, Script};
use super::*;

const EVIL: &str = "a>b\"'&%::error::\n##[add-path]x\x1b[2J@src/e,v:il.c:7";

/// A program that holds 3 MiB, 2 of them by a name that is hostile to every sink.
fn profile() -> Profile {
    let mut script = Script::launched("/bin/app");
    script.stack(1, &[EVIL, "main"]);
    script.stack(2, &["keep@src/keep.c:12", "main"]);
    script.allocate(0, 1, 1, 2 * MIB);
    script.allocate(0, 2, 2, MIB);
    script.exit(0, 5, 0);
    script.closed()
}

fn report(limits: &[(Budget, u64)]) -> Report {
    let (profile, question) = (profile(), Question::default());
    let checked = Checked::new(&profile, &question);
    let mut report = Report {
        findings: limits
            .iter()
            .map(|&(budget, most)| checked.limit(budget, most))
            .collect(),
        warning: checked.warning(),
        program: "app".to_owned(),
        duration_ns: 5_000_000,
        started_unix_ns: 1_767_323_045_500_000_000,
        ..Report::default()
    };
    report.sort();
    report
}

fn written(write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_verdict_comes_first_then_who_held_it_then_where_the_recording_is() {
    let mut report = report(&[(Budget::End, 9 * MIB), (Budget::Peak, MIB)]);
    report.recording = Some("app-1.hwm".to_owned());
    let text = written(|out| text::write(&report, out));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "OVER  peak: 3.0 MiB (3,145,728 bytes); at most 1.0 MiB (1,048,576 bytes)",
            "ok    live at the end: 3.0 MiB (3,145,728 bytes); at most 9.0 MiB (9,437,184 bytes)",
            "Who held it, at +0.002s:",
        ]
    );
    assert!(lines[3].starts_with("    2.0 MiB  a>b"), "{text}");
    assert_eq!(lines[4], "    1.0 MiB  keep (src/keep.c:12) ← main");
    assert_eq!(
        lines[5..],
        [
            "recording   app-1.hwm",
            "next        highwater report app-1.hwm"
        ]
    );
    assert!(!text.contains('\x1b'));
}

#[test]
fn a_command_that_failed_is_said_before_its_budgets() {
    let mut report = report(&[(Budget::Allocations, 2)]);
    report.command_failed = Some(7);
    let text = written(|out| text::write(&report, out));
    assert_eq!(
        text,
        "FAILED  app failed with status 7, which is passed on\nok    allocations: 2; at most 2\n"
    );
    let xml = written(|out| junit::write(&report, out));
    assert!(
        xml.contains("tests=\"2\" failures=\"0\" errors=\"1\" time=\"0.005\""),
        "{xml}"
    );
    assert!(
        xml.contains("<testcase classname=\"highwater.app\" name=\"allocations\"/>"),
        "{xml}"
    );
    let annotations = written(|out| github::write(&report, Path::new("/nowhere"), out));
    assert_eq!(
        annotations,
        "::error title=highwater check::app failed with status 7, which is passed on\n"
    );
}

#[test]
fn what_is_less_than_a_hundredth_is_not_listed() {
    let mut report = report(&[(Budget::Peak, MIB)]);
    report.findings[0].holders[1].bytes = 1000;
    let text = written(|out| text::write(&report, out));
    assert!(text.ends_with("\n  and 1 more\n"), "{text}");
}

#[test]
fn hostile_names_stay_within_xml_and_annotations() {
    let report = report(&[(Budget::Peak, MIB), (Budget::Allocations, 1)]);
    let xml = written(|out| junit::write(&report, out));
    let tags = xml.matches('<').count();
    assert_eq!((tags, xml.matches('>').count()), (13, 13), "{xml}");
    assert!(
        xml.contains("a&gt;b&quot;&apos;&amp;%::error::\\n##[add-path]x\\x1b[2J"),
        "{xml}"
    );
    assert!(xml.contains("failures=\"2\" errors=\"0\""), "{xml}");
    let annotations = written(|out| github::write(&report, Path::new("/nowhere"), out));
    let lines: Vec<&str> = annotations.lines().collect();
    assert_eq!(lines.len(), 2, "{annotations}");
    assert!(
        lines[0].starts_with("::error title=highwater check::peak: 3.0 MiB"),
        "{annotations}"
    );
    assert!(
        lines[0].contains(
            "at most 1.0 MiB (1,048,576 bytes)%0AWho held it, at +0.002s:%0A2.0 MiB  a>b"
        ),
        "{annotations}"
    );
    assert!(
        lines[0].contains("&%25::error::\\n# #[add-path]x"),
        "{annotations}"
    );
    let text = written(|out| text::write(&report, out));
    assert!(!github::harmless(&text).contains("##["));
}

#[test]
fn a_file_of_the_repository_is_named_from_there_and_no_other() {
    let mut report = report(&[(Budget::Peak, MIB)]);
    let repository = tempfile::tempdir().unwrap();
    std::fs::create_dir(repository.path().join("src")).unwrap();
    let file = repository.path().join("src/ke,ep.c");
    std::fs::write(&file, "").unwrap();
    let mut at = |first: &str, second: &str| {
        report.findings[0].holders[0].file = Some(first.to_owned());
        report.findings[0].holders[1].file = Some(second.to_owned());
        let annotation = written(|out| github::write(&report, repository.path(), out));
        let (properties, _) = annotation.split_once("::peak").unwrap();
        properties
            .strip_prefix("::error title=highwater check")
            .unwrap()
            .to_owned()
    };
    let named = ",file=src/ke%2Cep.c,line=12";
    let (absolute, outside) = (file.to_str().unwrap(), "/etc/passwd");
    assert_eq!(at(outside, absolute), named);
    assert_eq!(at("./misc/../sysdeps/mmap64.c", "src/ke,ep.c"), named);
    assert_eq!(at(outside, "src/../../../../../etc/passwd"), "");
}

#[test]
fn processes_whose_probes_were_late_are_one_reason_why_it_is_not_known() {
    let mut script = Script::launched("/bin/app");
    for child in 1..=12 {
        script.fork(0, child, 10);
    }
    script.exit(0, 50, 0);
    let (profile, question) = (script.closed(), Question::default());
    let why = why_unknown("x.hwm", &[("x.hwm", Checked::new(&profile, &question))]);
    let late = " 12 processes ran for up to 1 ms before their probes were in place.";
    assert_eq!(why.matches("their probes").count(), 1, "{why}");
    assert!(why.contains(late), "{why}");
}

#[test]
fn json_has_figures_limits_and_holders() {
    let report = report(&[(Budget::Peak, MIB)]);
    let json: serde_json::Value =
        serde_json::from_str(&written(|out| json::write(&report, out))).unwrap();
    assert_eq!(
        (&json["verdict"], &json["recording"]),
        (&"over".into(), &serde_json::Value::Null)
    );
    let budget = &json["budgets"][0];
    assert_eq!(
        (&budget["budget"], &budget["figure"], &budget["limit"]),
        (&"peak".into(), &(3 * MIB).into(), &MIB.into())
    );
    let held = &budget["holders"][1];
    assert_eq!(
        (&held["function"], &held["file"], &held["line"]),
        (&"keep".into(), &"src/keep.c".into(), &12.into())
    );
}

#[test]
fn what_grew_since_the_baseline_is_listed_by_what_it_grew_by() {
    let mut before = Script::launched("/bin/app");
    before.stack(7, &["keep@src/keep.c:12", "main"]);
    before.allocate(0, 1, 7, MIB / 2);
    let (before, after, question) = (before.closed(), profile(), Question::default());
    let old = Checked::new(&before, &question);
    let finding = Checked::new(&after, &question).growth(&old, |peak| peak);
    assert_eq!(finding.verdict, Verdict::Over);
    let grown: Vec<_> = finding
        .holders
        .iter()
        .map(|held| (held.bytes, held.became))
        .collect();
    assert_eq!(
        grown,
        [(2 * MIB, Some(Became::New)), (MIB / 2, Some(Became::Grown))]
    );
}
