//! What is exported, read by the tools that it is for: they come to the same sums as the report.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use highwater_tests::{
    Browser, Holding, Recorder, Report, Victim, highwater, privileged, run, scratch, speedscope,
};
use serde_json::Value;
use tempfile::TempDir;

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

/// What of a function there is in a profile that speedscope gives back, by its name.
fn weights(file: &Value, profile: usize) -> BTreeMap<String, u64> {
    let frames = file["shared"]["frames"].as_array().expect("frames");
    let mut open = Vec::new();
    let mut weights = BTreeMap::new();
    for event in file["profiles"][profile]["events"]
        .as_array()
        .expect("events")
    {
        let at = event["at"].as_u64().expect("a whole number");
        if event["type"] == "O" {
            open.push(at);
            continue;
        }
        let frame = event["frame"].as_u64().expect("an index") as usize;
        let name = frames[frame]["name"].as_str().expect("a name");
        let since = open.pop().expect("what is closed was open");
        *weights.entry(name.to_owned()).or_default() += at - since;
    }
    weights
}

#[test]
fn speedscope_shows_the_same_sums_in_a_browser() {
    privileged!();
    let recorded = Recorded::eight_sites();
    let report = &recorded.report;
    let file = recorded.export("speedscope", &[]);
    // The page cannot read files: as its own command line program does, the profile comes as a script.
    let encoded = BASE64_STANDARD.encode(fs::read(&file).expect("it was written"));
    let script = recorded.directory().join("profile.js");
    let call = format!("speedscope.loadFileFromBase64('recording.speedscope.json', '{encoded}')");
    fs::write(&script, call).expect("it can be written");
    let browser = Browser::start();
    browser.go_to(&format!(
        "file://{}#localProfilePath={}",
        speedscope().join("index.html").display(),
        script.display()
    ));
    let shows = |text: &str| format!("document.body.innerText.includes({})", Value::from(text));
    browser.await_that(&shows("at the peak, bytes"));
    browser.await_that(&shows("Sandwich"));
    // What it exports is what it has read: catch the file that it offers.
    browser.run(
        "const offer = URL.createObjectURL;
         URL.createObjectURL = blob => { window.offered = blob; return offer.call(URL, blob); };",
    );
    let point_of = |text: &str| {
        let place = browser.run(&format!(
            "(() => {{ const all = [...document.querySelectorAll('div')];
               const e = all.filter(e => e.innerText?.trim().endsWith({})).pop();
               const r = e.getBoundingClientRect();
               return [r.left + r.width / 2, r.top + r.height / 2]; }})()",
            Value::from(text)
        ));
        [0, 1].map(|at: usize| place[at].as_f64().expect("a number"))
    };
    let click = |text: &str| {
        let [x, y] = point_of(text);
        browser.click_at(x, y);
    };
    click("Export");
    browser.await_that("window.offered instanceof Blob");
    let given_back = browser.run("window.offered.text()");
    let given_back: Value =
        serde_json::from_str(given_back.as_str().expect("text")).expect("it is JSON");
    let peak = report.peak();
    let totals = [
        ("at the peak, bytes", "bytes", peak.bytes),
        ("at the peak, blocks", "none", peak.blocks),
        (
            "allocated in all, bytes",
            "bytes",
            report.total("allocated_bytes"),
        ),
        (
            "allocated in all, blocks",
            "none",
            report.total("allocations"),
        ),
    ];
    for (at, (name, unit, total)) in totals.into_iter().enumerate() {
        let profile = &given_back["profiles"][at];
        assert_eq!(
            (&profile["name"], &profile["unit"]),
            (&name.into(), &unit.into())
        );
        assert_eq!(profile["endValue"].as_u64(), Some(total), "{name}");
    }
    let (bytes, blocks) = (weights(&given_back, 0), weights(&given_back, 1));
    for (site, told) in sites(&peak) {
        let said = [&bytes, &blocks].map(|of| of.get(&site).copied().unwrap_or(0));
        assert_eq!((said[0], said[1]), told, "{site}");
    }
    // And what a reader sees of it.
    click("Sandwich");
    browser.await_that(&shows("Symbol Name"));
    for site in sites(&peak).keys() {
        browser.await_that(&shows(site));
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}
