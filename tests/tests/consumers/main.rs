//! What is exported, read by the tools that it is for: they come to the same sums as the report.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater_tests::{Holding, Recorder, Report, Victim, highwater, privileged, run, scratch};
use serde_json::Value;
use tempfile::TempDir;

mod heaptrack;
mod speedscope;

/// The eight sites, recorded up and down again: who held most at the peak is not who is left.
struct Recorded {
    scratch: TempDir,
    file: PathBuf,
    report: Report,
}

impl Recorded {
    #[track_caller]
    fn eight_sites() -> Self {
        let scratch = scratch();
        let file = scratch.path().join("recording.hwm");
        let mut victim = Victim::start("eight_sites");
        let recorder = Recorder::attach(victim.pid(), &file);
        victim.tell("rise");
        victim.tell("fall");
        let report = recorder.interrupt();
        victim.quit();
        report.assert_saw_all();
        Self {
            scratch,
            file,
            report,
        }
    }

    /// Exports it, to where the format says by default.
    #[track_caller]
    fn export(&self, format: &str, words: &[&str]) -> PathBuf {
        let outcome = run(highwater()
            .arg("export")
            .arg(&self.file)
            .args(["--format", format])
            .args(words));
        outcome.assert_says(0, &["wrote"]);
        let wrote = outcome.stderr.lines().last().expect("it says where");
        let (_, path) = wrote.split_once("wrote ").expect("it says where");
        PathBuf::from(path)
    }

    fn directory(&self) -> &Path {
        self.scratch.path()
    }
}

/// Bytes and blocks of each site.
fn sites(holding: &Holding) -> BTreeMap<String, (u64, u64)> {
    let sites = (0..8).map(|site| format!("site_{site}"));
    sites
        .map(|site| (site.clone(), holding.through(&site)))
        .collect()
}

/// Runs a tool; what it prints.
#[track_caller]
fn print(command: &mut Command) -> String {
    let outcome = run(command);
    assert!(outcome.status.success(), "{outcome:#?}");
    outcome.stdout
}

/// What `go tool pprof -top` says of a value: the total, and the functions with their own.
#[track_caller]
fn top(profile: &Path, value: &str, scratch: &Path) -> (u64, BTreeMap<String, u64>) {
    let said = print(
        Command::new("go")
            .args(["tool", "pprof", "-top", "-nodecount=100000"])
            .args(["-nodefraction=0", "-edgefraction=0", "-unit=B"])
            .arg(format!("-sample_index={value}"))
            .arg(profile)
            .env("PPROF_TMPDIR", scratch),
    );
    let number = |text: &str| -> u64 {
        let digits = text.trim_end_matches('B');
        digits
            .parse()
            .unwrap_or_else(|_| panic!("{text} in {said}"))
    };
    let total = said
        .lines()
        .find_map(|line| line.strip_prefix("Showing nodes accounting for "))
        .and_then(|line| line.strip_suffix(" total")?.rsplit(' ').next())
        .unwrap_or_else(|| panic!("no total in {said}"));
    let mut own = BTreeMap::new();
    for line in said
        .lines()
        .skip_while(|line| !line.contains("flat%"))
        .skip(1)
    {
        // flat, flat%, sum%, cum, cum%, function
        let words: Vec<&str> = line.split_whitespace().collect();
        *own.entry(words[5].to_owned()).or_default() += number(words[0]);
    }
    (number(total), own)
}

#[test]
fn go_tool_pprof_comes_to_the_same_sums_for_each_value_and_function() {
    privileged!();
    let recorded = Recorded::eight_sites();
    let report = &recorded.report;
    let profile = recorded.export("pprof", &[]);
    let (peak, directory) = (report.peak(), recorded.directory());
    let (bytes, of) = top(&profile, "inuse_space", directory);
    assert_eq!((bytes, of.values().sum()), (peak.bytes, peak.bytes));
    let (blocks, blocks_of) = top(&profile, "inuse_objects", directory);
    assert_eq!(blocks, peak.blocks);
    for (site, told) in sites(&peak) {
        let said = [&of, &blocks_of].map(|of| of.get(&site).copied().unwrap_or(0));
        assert_eq!((said[0], said[1]), told, "{site} of {of:?}");
    }
    let total = |value| top(&profile, value, directory).0;
    assert_eq!(total("alloc_space"), report.total("allocated_bytes"));
    assert_eq!(total("alloc_objects"), report.total("allocations"));
    // Another moment changes what is in use, and not what was allocated.
    let end = directory.join("end.pb.gz");
    recorded.export("pprof", &["--at", "end", "-o", &end.to_string_lossy()]);
    assert_eq!(top(&end, "inuse_space", directory).0, report.end().bytes);
    assert_eq!(
        top(&end, "alloc_space", directory).0,
        report.total("allocated_bytes")
    );
}

#[test]
fn go_tool_pprof_knows_files_by_build_id_and_samples_by_thread_and_process() {
    privileged!();
    let recorded = Recorded::eight_sites();
    let profile = recorded.export("pprof", &[]);
    let ask = |how: &str| {
        print(
            Command::new("go")
                .args(["tool", "pprof", how])
                .arg(&profile)
                .env("PPROF_TMPDIR", recorded.directory()),
        )
    };
    let raw = ask("-raw");
    let frames = recorded.report.json()["frames"].as_array().expect("frames");
    let mapped: Vec<(&str, &str)> = frames
        .iter()
        .filter_map(|frame| Some((frame["module"].as_str()?, frame["build_id"].as_str()?)))
        .collect();
    assert!(!mapped.is_empty());
    for (module, build_id) in mapped {
        assert!(
            raw.contains(&format!(" {module} {build_id} [FN][FL][LN][IN]")),
            "no {module} {build_id} in {raw}"
        );
    }
    // The first mapping is taken for that of the program.
    let first = raw.lines().skip_while(|line| *line != "Mappings").nth(1);
    assert!(
        first.is_some_and(|line| line.contains("/eight_sites ")),
        "{first:?}"
    );
    let comments = ask("-comments");
    let peak = recorded.report.peak();
    for line in [
        "in use is what was at the peak".to_owned(),
        format!("in {} blocks", thousands(peak.blocks)),
    ] {
        assert!(comments.contains(&line), "no {line} in {comments}");
    }
    let process = recorded.report.only_process();
    let tags = ask("-tags");
    let words: Vec<&str> = tags.split_whitespace().collect();
    for (label, text) in [
        ("pid:", process.pid.to_string()),
        ("tid:", process.pid.to_string()),
        ("process:", "eight_sites".to_owned()),
        ("thread:", "eight_sites".to_owned()),
    ] {
        assert!(words.contains(&label), "no {label} in {tags}");
        assert!(words.contains(&&*text), "no {text} in {tags}");
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| str::from_utf8(group).expect("digits"))
        .collect();
    groups.join(",")
}

#[test]
fn the_course_for_firefox_adds_up_to_the_end() {
    privileged!();
    let recorded = Recorded::eight_sites();
    let file = fs::read(recorded.export("firefox", &[])).expect("it was written");
    let profile: Value = serde_json::from_slice(&file).expect("it is JSON");
    let thread = &profile["threads"][0];
    let told = &thread["nativeAllocations"];
    let numbers = |of: &Value| -> Vec<i64> {
        let list = of.as_array().expect("a list").iter();
        list.map(|number| number.as_i64().expect("a number"))
            .collect()
    };
    let (weights, addresses) = (numbers(&told["weight"]), numbers(&told["memoryAddress"]));
    assert_eq!(
        weights.iter().sum::<i64>() as u64,
        recorded.report.end().bytes
    );
    // What goes has the address of what came, and all its bytes.
    let mut held = BTreeMap::new();
    for (bytes, address) in weights.iter().zip(addresses) {
        *held.entry(address).or_insert(0) += bytes;
    }
    assert!(held.values().all(|bytes| *bytes >= 0));
    assert!(weights.iter().any(|bytes| *bytes < 0), "something went");
    let text = String::from_utf8(file).expect("it is text");
    for site in 0..8 {
        assert!(
            text.contains(&format!("site_{site} (victims/eight_sites.c:")),
            "no site {site}"
        );
    }
    let refused = run(highwater()
        .arg("export")
        .arg(&recorded.file)
        .args(["--format", "firefox", "--at", "end"]));
    refused.assert_says(2, &["the whole course"]);
}

#[test]
fn lines_of_source_add_up_to_the_peak_and_to_each_site() {
    privileged!();
    let recorded = Recorded::eight_sites();
    let script = "import collections, csv, json, sys
own, total = collections.Counter(), collections.Counter()
for row in csv.DictReader(open(sys.argv[1], newline='')):
    own[''] += int(row['own_bytes'])
    total[row['function']] += int(row['total_bytes'])
    assert row['line'] or not row['function'].startswith('site_'), row
print(json.dumps([own, total]))";
    let lines = recorded.export("lines", &[]);
    let said = print(Command::new("python3").args(["-c", script]).arg(lines));
    let told: Value = serde_json::from_str(&said).expect("it is JSON");
    let peak = recorded.report.peak();
    assert_eq!(told[0][""].as_u64(), Some(peak.bytes));
    for (site, (bytes, _)) in sites(&peak) {
        assert_eq!(told[1][&site].as_u64().unwrap_or(0), bytes, "{site}");
    }
}

#[test]
fn inferno_draws_collapsed_stacks_as_wide_as_they_are() {
    privileged!();
    let recorded = Recorded::eight_sites();
    let folded = fs::read_to_string(recorded.export("collapsed", &[])).expect("it was written");
    let mut options = inferno::flamegraph::Options::default();
    options.min_width = 0.0;
    let mut picture = Vec::new();
    inferno::flamegraph::from_lines(&mut options, folded.lines(), &mut picture)
        .expect("inferno reads it");
    let picture = String::from_utf8(picture).expect("it is text");
    // Every box has a title: `site_3 (victims/eight_sites.c:30) (1,234 samples, 5.67%)`.
    let titles: Vec<(&str, u64)> = picture
        .split("<title>")
        .skip(1)
        .filter_map(|title| {
            let (title, _) = title.split_once(" samples, ")?;
            let (name, samples) = title.rsplit_once(" (")?;
            Some((name, samples.replace(',', "").parse().ok()?))
        })
        .collect();
    let peak = recorded.report.peak();
    assert!(titles.contains(&("all", peak.bytes)), "{titles:?}");
    for (site, (bytes, _)) in sites(&peak) {
        let wide = titles.iter().filter(|(name, _)| name.starts_with(&site));
        assert_eq!(
            wide.map(|(_, samples)| samples).sum::<u64>(),
            bytes,
            "{site}"
        );
    }
}

#[test]
fn comma_separated_values_are_what_their_columns_say() {
    privileged!();
    let recorded = Recorded::eight_sites();
    let report = &recorded.report;
    // As the csv module of Python reads them.
    let sums = |file: &Path| -> Value {
        let script = "import collections, csv, json, sys
sums = collections.defaultdict(lambda: [0, 0])
for row in csv.DictReader(open(sys.argv[1], newline='')):
    assert row['unit'] == 'bytes' and row['pid'] and row['kind'] == 'heap', row
    for key in (row['asked'], row['asked'] + ' ' + row['function']):
        sums[key][0] += int(row['bytes'])
        sums[key][1] += int(row['blocks'])
    assert any(frame.startswith(row['function']) for frame in row['stack'].split(';')), row
print(json.dumps(sums))";
        let said = print(Command::new("python3").args(["-c", script]).arg(file));
        serde_json::from_str(&said).expect("it is JSON")
    };
    let exported = sums(&recorded.export("csv", &[]));
    let reported = recorded.directory().join("report.csv");
    let said = run(highwater().arg("report").arg(&recorded.file).arg("--csv"));
    said.assert_says(0, &[]);
    fs::write(&reported, said.stdout).expect("it can be written");
    let reported = sums(&reported);
    for (told, moments) in [
        (exported, vec![("at the peak", report.peak())]),
        (
            reported,
            vec![("at the peak", report.peak()), ("at the end", report.end())],
        ),
    ] {
        for (words, holding) in moments {
            let of = |key: &str| (told[key][0].as_u64(), told[key][1].as_u64());
            assert_eq!(of(words), (Some(holding.bytes), Some(holding.blocks)));
            for (site, (bytes, blocks)) in sites(&holding) {
                assert_eq!(of(&format!("{words} {site}")), (Some(bytes), Some(blocks)));
            }
        }
    }
}

#[test]
fn every_view_adds_up_as_comma_separated_values() {
    privileged!();
    let recorded = Recorded::eight_sites();
    let report = &recorded.report;
    // The sums of blocks and bytes over the rows of each value of a column.
    let sums = |words: &[&str], column: &str| -> Value {
        let csv = recorded.directory().join("view.csv");
        let (view, words) = words.split_first().expect("a view");
        let said = run(highwater()
            .arg(view)
            .arg(&recorded.file)
            .args(words)
            .arg("--csv"));
        said.assert_says(0, &[]);
        fs::write(&csv, said.stdout).expect("it can be written");
        let script = "import collections, csv, json, sys
sums = collections.defaultdict(lambda: [0, 0])
for row in csv.DictReader(open(sys.argv[1], newline='')):
    sums[row.get(sys.argv[2], '')][0] += int(row['bytes'] or 0)
    sums[row.get(sys.argv[2], '')][1] += int(row['blocks'])
print(json.dumps(sums))";
        let python = &mut Command::new("python3");
        let said = print(python.args(["-c", script]).arg(&csv).arg(column));
        serde_json::from_str(&said).expect("it is JSON")
    };
    let of = |sums: &Value, key: &str| (sums[key][0].as_u64(), sums[key][1].as_u64());
    let told = |holding: &Holding| (Some(holding.bytes), Some(holding.blocks));
    for by in ["stack", "function", "module", "thread", "process"] {
        let sums = sums(&["table", "--by", by], "");
        assert_eq!(of(&sums, ""), told(&report.peak()), "{by}");
    }
    let tree = sums(&["tree", "--at", "end"], "depth");
    assert_eq!(of(&tree, "0"), told(&report.end()));
    let statistics = sums(&["stats"], "histogram");
    let (bytes, blocks) = (report.total("allocated_bytes"), report.total("allocations"));
    for histogram in [
        "all",
        "size",
        "lifetime",
        "function called",
        "function",
        "module",
        "thread",
        "until ns",
    ] {
        assert_eq!(
            of(&statistics, histogram),
            (Some(bytes), Some(blocks)),
            "{histogram}"
        );
    }
    let json = run(highwater().arg("stats").arg(&recorded.file).arg("--json"));
    let json: Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    for histogram in ["temporary", "thread temporary"] {
        assert_eq!(statistics[histogram][1], json["temporary"], "{histogram}");
    }
    let a_second = json["allocations_per_s"].as_f64().expect("a rate").round();
    assert_eq!(statistics["a second"][1].as_f64(), Some(a_second));
}
