use std::sync::Arc;

use serde_json::{Value, json};

use super::super::script::{MIB, Script};
use super::*;
use crate::live::Kinds;
use crate::record::reader::ReadError;
use crate::record::{
    Cgroup, Entry, Frame, FrameIndex, FrameKind, FrameNames, FunctionName, Quality, Runtime,
    RuntimeIndex,
};

fn report(profile: &Profile, top: Option<usize>) -> Value {
    let mut bytes = Vec::new();
    write(profile, None, top, &mut bytes).unwrap();
    let mut again = Vec::new();
    write(profile, None, top, &mut again).unwrap();
    assert_eq!(bytes, again);
    serde_json::from_slice(&bytes).unwrap()
}

fn small() -> Profile {
    let mut script = Script::launched("server --port 80");
    script.stack(
        1,
        &[
            "row@src/table.c:12<load@src/table.c:40",
            "main@src/main.c:7",
        ],
    );
    script.stack(2, &["", "main@src/main.c:9"]);
    script.memory_in_cgroup(0, 0, MIB, Some(2 * MIB), Some(64 * MIB));
    script.allocate(0, 100, 1, 3000);
    script.allocate(0, 200, 2, 500);
    script.allocate(0, 250, 0, 20);
    script.memory(0, 260, 2 * MIB);
    script.free_last(0, 300);
    script.exit(0, 1_000, 9);
    script.closed()
}

/// A runtime that this version knows nothing of, and a process in a container.
#[test]
fn a_function_of_an_unknown_runtime_has_its_name_and_that_of_the_runtime() {
    let mut script = Script::launched("node server.js");
    let Some(Entry::Process(process)) = script
        .entries
        .iter_mut()
        .find(|entry| matches!(entry, Entry::Process(_)))
    else {
        panic!("no process")
    };
    let id = "ab".repeat(32);
    let path = format!("/docker/{id}");
    process.cgroup = Some(Arc::new(Cgroup::at(path.clone())));
    script.entries.push(Entry::Runtime(Runtime {
        index: RuntimeIndex(7),
        name: "v8".into(),
    }));
    for (index, runtime) in [(1, 7), (2, 8)] {
        let frame = FrameIndex(index);
        script.entries.push(Entry::Frame(Frame {
            index: frame,
            module: None,
            offset: 1 << 32,
            kind: FrameKind::Managed(RuntimeIndex(runtime)),
        }));
        script.entries.push(Entry::Names(FrameNames {
            frame,
            functions: vec![FunctionName {
                function: format!("render{index}"),
                file: Some("server.js".into()),
                line: Some(index),
            }],
            source: None,
        }));
    }
    script.push_stack(1, vec![FrameIndex(1), FrameIndex(2)], false);
    script.allocate(0, 100, 1, 3000);
    let report = report(&script.closed(), None);
    let frames = report["frames"].as_array().unwrap();
    let shown: Vec<_> = frames
        .iter()
        .map(|frame| [&frame["function"], &frame["kind"]])
        .collect();
    assert_eq!(shown, [["render1", "v8"], ["render2", "unknown"]]);
    assert_eq!(report["processes"][0]["cgroup"], path);
    assert_eq!(report["processes"][0]["container"], id);
}

#[test]
fn the_report_says_everything_that_is_known() {
    let report = report(&small(), None);
    assert_eq!(report["schema"], 1);
    assert_eq!(report["mode"], "exact");
    assert_eq!(report["sample_bytes"], Value::Null);
    assert_eq!(report["started"], "2026-01-02T03:04:05.5Z");
    assert_eq!(report["duration_ns"], 1_000_000_000);
    assert_eq!(
        report["processes"][0],
        json!({
            "id": 0, "pid": 4242, "ns_pid": 42, "parent": null, "command": "server --port 80",
            "cgroup": "/app.slice/server", "container": null, "started": "2026-01-02T03:03:20Z",
            "origin": "launched", "missed_ns": 0, "traced_from_ns": 0,
            "totals": { "allocations": 3, "allocated_bytes": 3520, "frees": 1, "freed_bytes": 20,
                        "failed_allocations": 0, "unmatched_frees": 0, "unmatched_freed_bytes": 0, "mmaps": null, "mapped_bytes": null, "unmaps": null, "unmapped_bytes": null,
                "unmatched_unmaps": null, "unmatched_unmapped_bytes": null, "discarded_bytes": null },
            "exit": { "reason": "signal", "code": null, "signal": 9, "at_ns": 1_000_000_000 },
        })
    );
    assert_eq!(report["totals"], report["processes"][0]["totals"]);
    assert_eq!(
        report["memory"]["attach"],
        json!({
            "at_ns": 0, "rss": MIB, "anon": MIB, "file": 0, "shmem": 0, "swap": 0,
            "malloc": null, "thread_stacks": null, "page_tables": null,
            "cgroup": { "path": "/app.slice/server", "current": 2 * MIB, "limit": 64 * MIB },
            "live": 0, "inherited": 0, "before_attach": 0, "unexplained": MIB,
        })
    );
    assert_eq!(report["memory"]["peak"]["live"], 3520);
    assert_eq!(report["memory"]["peak"]["unexplained"], 2 * MIB - 3520);
    assert_eq!(report["memory"]["peak"]["cgroup"]["limit"], Value::Null);
    assert_eq!(report["memory"]["processes"][0]["end"]["live"], 3500);
    assert_eq!(
        report["peak"]["holders"],
        json!([
            { "stack": 0, "process": 0, "kind": "heap", "bytes": 3000, "blocks": 1, "error_bytes": 0, "growth_bytes_per_s": null },
            { "stack": 1, "process": 0, "kind": "heap", "bytes": 500, "blocks": 1, "error_bytes": 0, "growth_bytes_per_s": null },
            { "stack": null, "process": 0, "kind": "heap", "bytes": 20, "blocks": 1, "error_bytes": 0, "growth_bytes_per_s": null },
        ])
    );
    assert_eq!(report["peak"]["at_ns"], 250_000_000);
    assert_eq!(report["peak"]["by_kind"]["heap"], 3520);
    assert_eq!(report["peak"]["by_kind"]["mapping"], Value::Null);
    assert_eq!(report["end"]["bytes"], 3500);
    assert_eq!(report["process_peaks"][0]["process"], 0);
    assert_eq!(report["process_peaks"][0]["bytes"], 3520);
    assert_eq!(report["quality"]["complete"], true);
    assert_eq!(report["quality"]["ended_by"], "interrupted");
    assert_eq!(report["quality"]["unresolved_frames"], 1);
}

#[test]
fn inlined_functions_come_before_the_function_they_are_in() {
    let report = report(&small(), None);
    assert_eq!(report["stacks"], json!([[0, 1, 2], [3, 4]]));
    let frame = |function: Value, file: Value, line: Value, offset: u64, inlined: bool| {
        json!({
            "function": function, "file": file, "line": line, "module": "/usr/bin/server", "build_id": "c0ffee",
            "offset": offset, "kind": "native", "inlined": inlined,
        })
    };
    assert_eq!(
        report["frames"],
        json!([
            frame(json!("row"), json!("src/table.c"), json!(12), 0x1000, true),
            frame(
                json!("load"),
                json!("src/table.c"),
                json!(40),
                0x1000,
                false
            ),
            frame(json!("main"), json!("src/main.c"), json!(7), 0x1010, false),
            frame(json!(null), json!(null), json!(null), 0x2000, false),
            frame(json!("main"), json!("src/main.c"), json!(9), 0x2010, false),
        ])
    );
}

#[test]
fn top_limits_the_holders_but_not_the_sums() {
    let report = report(&small(), Some(1));
    assert_eq!(report["peak"]["holders"].as_array().map(Vec::len), Some(1));
    assert_eq!(report["peak"]["bytes"], 3520);
    assert_eq!(report["stacks"].as_array().map(Vec::len), Some(1));
}

#[test]
fn all_holders_add_up_to_the_bytes() {
    let mut script = Script::launched("app");
    for n in 1..200 {
        script.allocate(0, n, (n % 31) as u32, n * 17);
    }
    let report = report(&script.closed(), None);
    for moment in ["peak", "end"] {
        let sum = |field: &str| -> u64 {
            report[moment]["holders"]
                .as_array()
                .unwrap()
                .iter()
                .map(|holder| holder[field].as_u64().unwrap())
                .sum()
        };
        assert_eq!(report[moment]["bytes"], sum("bytes"));
        assert_eq!(report[moment]["blocks"], sum("blocks"));
    }
}

#[test]
fn loss_and_cuts_are_said() {
    let mut script = Script::launched("app");
    script.quality(Quality {
        lost_allocations: 3,
        lost_frees: 4,
        truncated_depth: 1,
        notes: vec!["n".into()],
        ..Quality::default()
    });
    let report = report(&script.cut(ReadError::CutShort { offset: 4096 }), None);
    assert_eq!(report["quality"]["complete"], false);
    assert_eq!(
        report["quality"]["cut"],
        ReadError::CutShort { offset: 4096 }.to_string()
    );
    assert_eq!(report["quality"]["lost_events"], 7);
    assert_eq!(report["quality"]["truncated_stacks"], 1);
    assert_eq!(report["quality"]["notes"], json!(["n"]));
    assert_eq!(report["processes"][0]["exit"], Value::Null);
}

#[test]
fn what_an_empty_recording_does_not_know_is_null() {
    let report = report(&Script::empty().unfinished(), None);
    assert_eq!(report["processes"], json!([]));
    assert_eq!(report["memory"]["peak"]["rss"], Value::Null);
    assert_eq!(report["memory"]["peak"]["before_attach"], Value::Null);
    assert_eq!(report["peak"]["bytes"], 0);
    assert_eq!(report["quality"]["complete"], false);
}

#[test]
fn each_kind_is_told_apart_and_address_space_is_no_part_of_the_peak() {
    let mut script = Script::launched("server");
    script.memory(0, 0, MIB);
    script.stack(1, &["load"]);
    script.allocate(0, 1, 1, 3000);
    script.map(0, 2, 1, 2 * MIB, true);
    script.map(0, 3, 1, 64 * MIB, false);
    let mut profile = script.closed();
    let all = report(&profile, None);
    let peak = &all["peak"];
    assert_eq!(peak["bytes"], 2 * MIB + 3000);
    assert_eq!(
        peak["by_kind"],
        json!({ "heap": 3000, "mapping": 2 * MIB, "thread_stack": 0, "reserved": 64 * MIB, "file": 0, "shared": 0 })
    );
    assert_eq!(all["totals"]["mapped_bytes"], 66 * MIB);
    assert_eq!(all["memory"]["peak"]["live"], 2 * MIB + 3000);
    let kinds = |report: &Value| -> Vec<Value> {
        let holders = report["peak"]["holders"].as_array().unwrap().iter();
        holders.map(|holder| holder["kind"].clone()).collect()
    };
    assert_eq!(kinds(&all), ["reserved", "mapping", "heap"]);
    profile.keep(Kinds::OF_THE_PEAK);
    assert_eq!(kinds(&report(&profile, None)), ["mapping", "heap"]);
}
