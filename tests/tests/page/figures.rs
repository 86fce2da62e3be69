//! Figures beside the graph and over it: each is that of `highwater report --json`, `table`, `stats`.

use std::collections::BTreeMap;

use highwater_tests::{Browser, Recorder, Victim, eventually, privileged, scratch};
use serde_json::Value;

use super::{Opened, SUM_OF_KEY, json, number};

/// Two columns of a table on the page: what its rows are of, and their bytes.
#[track_caller]
fn column(browser: &Browser, rows: &str, cell: usize) -> BTreeMap<String, u64> {
    let script = format!(
        "[...document.querySelectorAll('{rows}')].map(row => [row.cells[0].title || row.cells[0].textContent.trim(), \
         Number(row.cells[{cell}].dataset.bytes)])"
    );
    let rows = browser.run(&script);
    let rows = rows.as_array().expect("rows").iter();
    rows.map(|row| {
        let name = row[0].as_str().expect("a name").to_owned();
        (name, row[1].as_f64().expect("bytes") as u64)
    })
    .collect()
}

#[test]
fn each_function_has_what_the_report_says_and_so_do_its_callers_and_lines() {
    privileged!();
    let page = Opened::of("growth", &[], &["go 5"]);
    for words in [
        &["--at", "peak"][..],
        &["--at", "end"],
        &["--growing"],
        &["--allocated"],
    ] {
        page.view(words.last().expect("a word").trim_start_matches("--"));
        let reported = page.reported(words);
        assert_eq!(page.total(), reported, "{words:?}");
        assert_eq!(number(&page.browser, SUM_OF_KEY), reported, "{words:?}");
        let mut asked = vec!["--by", "function"];
        asked.extend(words);
        let table = json(&["table"], &[&page.file], &asked);
        let rows = table.as_array().or(table["rows"].as_array()).expect("rows");
        let holds: BTreeMap<String, u64> = rows
            .iter()
            .map(|row| {
                (
                    row["name"].as_str().expect("a name").to_owned(),
                    row["bytes"].as_u64().expect("bytes"),
                )
            })
            .filter(|(_, bytes)| *bytes > 0)
            .collect();
        let shown = || {
            let mut shown = column(&page.browser, "#rows tr", 1);
            shown.retain(|_, bytes| *bytes > 0);
            shown
        };
        eventually("the table has what the report has", || shown() == holds);
    }

    // The one that holds most: who called it, from which lines.
    page.view("peak");
    let report = json(&["report"], &[&page.file], &["--at", "peak"]);
    let (mut callers, mut lines) = (BTreeMap::new(), BTreeMap::new());
    for holder in report["answer"]["holders"].as_array().expect("holders") {
        let stack = holder["stack"]
            .as_u64()
            .map(|stack| &report["stacks"][stack as usize]);
        let stack = stack.and_then(Value::as_array).cloned().unwrap_or_default();
        let frame = |at: usize| &report["frames"][stack[at].as_u64().expect("a frame") as usize];
        let at = (0..stack.len()).find(|&at| frame(at)["function"] == "take");
        if let Some(at) = at {
            let bytes = holder["bytes"].as_u64().expect("bytes");
            let caller = frame(at + 1)["function"]
                .as_str()
                .expect("a name")
                .to_owned();
            *callers.entry(caller).or_insert(0) += bytes;
            let line = format!("victims/growth.c:{}", frame(at)["line"]);
            *lines.entry(line).or_insert(0) += bytes;
        }
    }
    page.browser
        .await_that("document.querySelector('#rows button').title === 'take'");
    page.browser.click("#rows button");
    page.browser
        .await_that("document.querySelector('#details h2')?.textContent === 'take'");
    assert_eq!(
        column(&page.browser, "[data-part=\"Called by\"] tr", 1),
        callers
    );
    assert_eq!(column(&page.browser, "[data-part=Lines] tr", 1), lines);
    page.assert_quiet();
}

#[test]
fn temporary_blocks_are_a_view_of_their_own() {
    privileged!();
    let page = Opened::of("pairs", &[], &["go 20"]);
    page.view("temporary");
    let temporary = page.reported(&["--temporary"]);
    assert!(temporary > 10_000, "{temporary}");
    assert_eq!(page.total(), temporary);
    assert_eq!(number(&page.browser, SUM_OF_KEY), temporary);
    page.assert_quiet();
}

#[test]
fn blocks_are_counted_by_size_and_lifetime_as_stats_does() {
    privileged!();
    let page = Opened::of("growth", &[], &["go 2"]);
    let stats = json(&["stats"], &[&page.file], &[]);
    page.browser.click("#tab-blocks");
    page.browser
        .await_that("document.getElementById('blocks').childElementCount > 0");
    for (heading, list) in [("Sizes", "sizes"), ("Lived", "lifetimes")] {
        let script = format!(
            "[...document.querySelectorAll('[data-part={heading}] td[data-number]')].map(cell => Number(cell.dataset.number))"
        );
        let expected: Vec<u64> = stats[list]
            .as_array()
            .expect("a histogram")
            .iter()
            .flat_map(|of| ["blocks", "bytes"].map(|part| of[part].as_u64().expect("a number")))
            .collect();
        assert_eq!(
            page.browser.run(&script),
            Value::from(expected),
            "{heading}"
        );
    }
    page.assert_quiet();
}

#[test]
fn processes_are_chosen_and_what_they_inherited_is_told() {
    privileged!();
    let page = Opened::of_a_family();
    let report = json(&["report"], &[&page.file], &[]);
    page.browser.click("#tab-processes");
    let rows = "#processes tbody tr";
    page.browser
        .await_that(&format!("document.querySelectorAll('{rows}').length === 4"));
    let peaks = report["process_peaks"].as_array().expect("peaks");
    let told = |cell| {
        let mut told: Vec<u64> = column(&page.browser, rows, cell).into_values().collect();
        told.sort_unstable();
        told
    };
    let reported = |part: &str| {
        let mut of: Vec<u64> = peaks
            .iter()
            .map(|peak| peak[part].as_u64().expect("bytes"))
            .collect();
        of.sort_unstable();
        of
    };
    assert_eq!(told(2), reported("bytes"));
    assert_eq!(told(3), reported("inherited_bytes"));
    assert_eq!(told(3)[1..], [3_000_000; 3]);

    // Without one of them; then that one alone.
    let all = page.total();
    let pid = page.browser.text(&format!("{rows}:last-child button"));
    let pid = pid
        .rsplit(char::is_whitespace)
        .next()
        .expect("a pid")
        .trim_end_matches(')')
        .to_owned();
    page.browser.click(&format!("{rows}:last-child input"));
    let without = page.total();
    let of_it = page.reported(&["--at", "peak", "--process", &pid]);
    assert_eq!((of_it, without), (2_000_000, all - of_it));
    page.browser.click(&format!("{rows}:last-child button"));
    assert_eq!(page.total(), of_it);
    assert_eq!(number(&page.browser, SUM_OF_KEY), of_it);
    page.assert_quiet();
}

#[test]
fn under_the_bands_is_what_was_held_before_attach_and_rss_stays_where_the_process_runs_on() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("growth");
    victim.tell("go 1");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("go 2");
    recorder.interrupt();
    victim.quit();
    let page = Opened::drawn(directory, file);
    let report = json(&["report"], &[&page.file], &[]);
    let memory = |moment: &str, part: &str| report["memory"][moment][part].as_u64().expect("bytes");
    let curve = |name: &str, at: i32| {
        let script =
            format!("JSON.parse(document.getElementById('data').textContent).{name}.at({at})[1]");
        number(&page.browser, &script)
    };
    assert_eq!(curve("before", 0), memory("attach", "before_attach"));
    assert_eq!(curve("before", -1), memory("end", "before_attach"));
    assert!(memory("attach", "before_attach") > 1 << 20);
    assert_eq!(curve("rss", 0), memory("attach", "rss"));
    assert_eq!(curve("rss", -1), memory("end", "rss"));
    page.assert_quiet();
}
