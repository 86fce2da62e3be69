//! The page, as a reader has it before them: opened from its file, looked at, clicked on and typed into.

use std::fs;
use std::path::{Path, PathBuf};

use highwater_tests::{
    Browser, Launched, Recorder, Report, Victim, eventually, highwater, privileged, run, scratch,
    victim_program,
};
use serde_json::Value;
use tempfile::TempDir;

mod chosen;
mod figures;
mod handling;

/// A recording, its page, and a browser that has it open.
struct Opened {
    browser: Browser,
    file: PathBuf,
    html: PathBuf,
    directory: TempDir,
}

impl Opened {
    /// Records a victim while it obeys, draws the page and opens it.
    #[track_caller]
    fn of(name: &str, options: &[&str], commands: &[&str]) -> Self {
        let directory = scratch();
        let file = record(directory.path(), "recording.hwm", name, options, commands);
        Self::drawn(directory, file)
    }

    /// Of a parent that held 3 MB before it had three children, each of which holds 2 MB more.
    #[track_caller]
    fn of_a_family() -> Self {
        let directory = scratch();
        let file = directory.path().join("recording.hwm");
        let mut victim = Victim::start("family");
        let recorder = Recorder::attach(victim.pid(), &file);
        victim.tell("hold 3");
        victim.tell("fork 3");
        eventually("the children are traced", || {
            Report::so_far(&file).is_some_and(|report| report.processes().len() == 4)
        });
        victim.tell("hold 2");
        recorder.interrupt();
        victim.quit();
        Self::drawn(directory, file)
    }

    #[track_caller]
    fn drawn(directory: TempDir, file: PathBuf) -> Self {
        let html = directory.path().join("page.html");
        draw(&["flamegraph"], &[&file], &html);
        let browser = Browser::start();
        browser.open(&html);
        Self {
            browser,
            file,
            html,
            directory,
        }
    }

    /// The bytes on the first line.
    #[track_caller]
    fn total(&self) -> u64 {
        number(
            &self.browser,
            "document.getElementById('total').dataset.bytes",
        )
    }

    /// What `highwater report` answers to these words, bytes.
    #[track_caller]
    fn reported(&self, words: &[&str]) -> u64 {
        json(&["report"], &[&self.file], words)["answer"]["bytes"]
            .as_u64()
            .expect("bytes")
    }

    /// Clicks on the button of a view.
    #[track_caller]
    fn view(&self, name: &str) {
        self.browser.click(&format!("[data-view={name}]"));
    }

    /// Where a moment lies in the window.
    #[track_caller]
    fn moment(&self, ns: f64) -> (f64, f64) {
        let [left, top, width, height] = self.browser.place("#timeline .u-over");
        let [start, length] = ["start", "length"].map(|end| {
            let script = format!("document.getElementById('timeline').dataset.{end}");
            number(&self.browser, &script) as f64
        });
        (
            left + (ns - start) / (length - start) * width,
            top + height / 2.0,
        )
    }

    /// The moments that are chosen, as `report` takes them.
    #[track_caller]
    fn chosen(&self) -> [String; 2] {
        ["from", "to"].map(|end| {
            let script = format!("document.getElementById('timeline').dataset.{end}");
            format!("+{}s", number(&self.browser, &script) as f64 / 1e9)
        })
    }

    /// Names in the boxes of a row, with their bytes.
    #[track_caller]
    fn boxes(&self) -> Vec<String> {
        boxes(&self.browser)
    }

    /// Nobody was asked for anything but the page itself, and nothing went wrong.
    #[track_caller]
    fn assert_quiet(&self) {
        let requests = self.browser.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        assert!(requests[0].starts_with("file:///"), "{requests:?}");
        assert_eq!(self.browser.errors(), Vec::<String>::new());
    }
}

/// What the holders that have a colour hold, and the rest.
const SUM_OF_KEY: &str = "[...document.querySelectorAll('#bands > *')].reduce((sum, entry) => sum + Number(entry.dataset.bytes), 0)";

#[track_caller]
fn record(
    directory: &Path,
    file: &str,
    name: &str,
    options: &[&str],
    commands: &[&str],
) -> PathBuf {
    let file = directory.join(file);
    let mut victim = Victim::start(name);
    let recorder = Recorder::attach_with(victim.pid(), &file, options);
    for command in commands {
        victim.tell(command);
    }
    recorder.interrupt();
    victim.quit();
    file
}

#[track_caller]
fn draw(verb: &[&str], files: &[&Path], to: &Path) {
    let outcome = run(highwater().args(verb).args(files).arg("-o").arg(to));
    outcome.assert_says(0, &["wrote"]);
}

#[track_caller]
fn json(verb: &[&str], files: &[&Path], words: &[&str]) -> Value {
    let outcome = run(highwater().args(verb).args(files).arg("--json").args(words));
    outcome.assert_says(0, &[]);
    serde_json::from_str(&outcome.stdout).expect("it is JSON")
}

#[track_caller]
fn number(browser: &Browser, script: &str) -> u64 {
    let number = browser.run(&format!("Number({script})"));
    let number = number.as_f64().expect("a number");
    assert!(number >= 0.0 && number.fract() == 0.0, "{number}");
    number as u64
}

/// What every box says to who cannot see it.
#[track_caller]
fn boxes(browser: &Browser) -> Vec<String> {
    let labels = browser.run(
        "[...document.querySelectorAll('#flame g.frame')].map(box => box.getAttribute('aria-label'))",
    );
    let labels = labels.as_array().expect("boxes").iter();
    labels
        .map(|label| label.as_str().expect("a label").to_owned())
        .collect()
}

#[test]
fn every_sum_on_the_page_is_that_of_the_report() {
    privileged!();
    // Launched, so that what the loader maps is there too.
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Launched::start(&file, &victim_program("growth"), &[]);
    victim.tell("go 5");
    let (outcome, _) = victim.wait();
    outcome.assert_says(0, &[]);
    let page = Opened::drawn(directory, file);
    let peak = page.reported(&["--at", "peak"]);
    assert_eq!(page.total(), peak);
    for (view, words) in [
        ("end", &["--at", "end"][..]),
        ("growing", &["--growing"]),
        ("allocated", &["--allocated"]),
    ] {
        page.view(view);
        assert_eq!(page.total(), page.reported(words), "{view}");
    }

    // A moment in the middle, and back to the peak.
    let report = json(&["report"], &[&page.file], &[]);
    let duration = report["duration_ns"].as_f64().expect("a duration");
    let (x, y) = page.moment(duration * 0.5);
    page.browser.click_at(x, y);
    let [_, at] = page.chosen();
    assert_eq!(page.total(), page.reported(&["--at", &at]), "{at}");
    assert!(page.total() < peak);
    let (x, y) = page.moment(report["peak"]["at_ns"].as_f64().expect("a moment"));
    page.browser.click_at(x, y);
    assert_eq!(page.total(), peak);

    // A window, drawn from its end to its beginning.
    page.browser
        .drag(page.moment(duration * 0.7), page.moment(duration * 0.4));
    let [from, to] = page.chosen();
    let window = page.reported(&["--between", &format!("{from}..{to}")]);
    assert_eq!(page.total(), window, "{from}..{to}");
    assert!(window > 0 && window < peak);

    // The table's own bytes come to the same, and so does the other way to look at it.
    page.view("peak");
    page.browser.await_that(&format!(
        "[...document.querySelectorAll('#rows [data-bytes]')].reduce((sum, cell) => sum + Number(cell.dataset.bytes), 0) === {peak}"
    ));
    page.browser.click("#inverted");
    assert_eq!(page.total(), peak);
    let leaf = &page.boxes()[1];
    let takers = ["take", "__mmap", "mmap"];
    assert!(takers.iter().any(|name| leaf.starts_with(name)), "{leaf}");
    page.browser.click("#inverted");

    // By kind.
    page.browser.click("[data-kind=mapping]");
    assert_eq!(
        page.total(),
        page.reported(&["--at", "peak", "--kind", "heap"])
    );
    page.browser.click("[data-kind=heap]");
    assert_eq!(page.total(), 0);
    let [_, _, width, _] = page.browser.place("#empty");
    assert!(width > 0.0, "it does not say that there is nothing");
    page.browser.click("[data-kind=heap]");
    let [_, _, width, _] = page.browser.place("[aria-label^=all] rect");
    assert!(width > 300.0, "{width}");
    page.browser.click("[data-kind=mapping]");
    assert_eq!(page.total(), peak);

    // What the holders have in the key comes to the same.
    assert_eq!(number(&page.browser, SUM_OF_KEY), peak);
    page.assert_quiet();
}

#[test]
fn what_many_threads_that_live_briefly_leave_behind_is_told_as_growth_of_their_stack() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("short_threads");
    let recorder = Recorder::attach(victim.pid(), &file);
    // At a steady rate: 640 threads in some four seconds.
    let begun = std::time::Instant::now();
    for round in 1..=80_u32 {
        victim.tell("go 8");
        let due = begun + std::time::Duration::from_millis(50) * round;
        std::thread::sleep(due.saturating_duration_since(std::time::Instant::now()));
    }
    recorder.interrupt();
    victim.quit();
    let page = Opened::drawn(directory, file);
    page.view("growing");
    let rate = page.total();
    assert_eq!(rate, page.reported(&["--growing"]));
    assert!(rate > 1_000_000, "{rate} B/s");
    let grower = page
        .boxes()
        .into_iter()
        .find(|label| label.starts_with("allocate_briefly"));
    assert!(grower.is_some_and(|label| label.contains("/s,")));
    page.assert_quiet();
}

#[test]
fn a_thread_is_shown_alone() {
    privileged!();
    let page = Opened::of("threads", &[], &["go 2000"]);
    let threads = page.browser.run(
        "[...document.getElementById('thread').options].slice(1).map(option => option.textContent)",
    );
    let threads = threads.as_array().expect("threads").clone();
    assert!(threads.len() > 1, "{threads:?}");
    let all = page.total();
    let mut sum = 0;
    for (number, thread) in threads.iter().enumerate() {
        page.browser.run(&format!(
            "(() => {{ const select = document.getElementById('thread'); select.value = '{number}'; select.dispatchEvent(new Event('change')); }})()"
        ));
        let tid = thread.as_str().expect("a name").rsplit("tid ").next();
        let tid = tid.expect("a thread id").trim_end_matches(')');
        assert_eq!(page.total(), page.reported(&["--thread", tid]), "{thread}");
        sum += page.total();
    }
    assert_eq!(sum, all);
    page.assert_quiet();
}

#[test]
fn frames_of_python_can_be_looked_at_alone_where_there_are_any() {
    privileged!();
    let page = Opened::of("growth", &[], &["go 2"]);
    assert_eq!(
        page.browser
            .run("document.getElementById('language').hidden"),
        true
    );
    let all = page.total();
    // The same page, had two of its functions been written in Python, and a third run them.
    let text = fs::read_to_string(&page.html).expect("the page");
    let (head, rest) = text
        .split_once("<script type=\"application/json\" id=\"data\">")
        .expect("data");
    let (data, tail) = rest.split_once("</script>").expect("data ends");
    let mut data: Value = serde_json::from_str(data).expect("JSON");
    let strings = data["trie"]["strings"].clone();
    let names = data["trie"]["frames"]["name"].clone();
    for (frame, name) in names.as_array().expect("names").iter().enumerate() {
        let name = &strings[name.as_u64().expect("a number") as usize];
        data["trie"]["frames"]["kind"][frame] = match name.as_str() {
            Some("obey" | "fill_cache") => 1.into(),
            Some("serve") => 2.into(),
            _ => 0.into(),
        };
    }
    let html = page.directory.path().join("mixed.html");
    let text = format!("{head}<script type=\"application/json\" id=\"data\">{data}</script>{tail}");
    fs::write(&html, text).expect("it can be written");
    page.browser.open(&html);
    let names = || {
        let mut names: Vec<String> = page
            .boxes()
            .iter()
            .map(|label| label.split(',').next().expect("a name").to_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    };
    let choose = |view: &str| {
        page.browser.run(&format!(
            "(() => {{ const select = document.getElementById('language'); select.value = '{view}'; select.dispatchEvent(new Event('change')); }})()"
        ));
        assert_eq!(page.total(), all);
        names()
    };
    let has = |names: &[String], name: &str| names.iter().any(|it| it == name);
    let telling = names();
    assert!(has(&telling, "obey") && has(&telling, "take") && !has(&telling, "serve"));
    assert_eq!(choose("python"), ["all", "fill_cache", "obey"]);
    page.browser.click("#all");
    let native = choose("native");
    assert!(has(&native, "serve") && has(&native, "take") && !has(&native, "obey"));
    let every = choose("telling");
    assert!(has(&every, "serve") && has(&every, "take") && has(&every, "obey"));
    page.assert_quiet();
}

#[test]
fn the_banner_says_what_makes_figures_uncertain() {
    privileged!();
    let page = Opened::of("sampled", &["--sample", "512KiB"], &["hold 1000"]);
    let banner = page.browser.text("#banner");
    assert!(banner.contains("sampled"), "{banner}");
    assert_eq!(
        page.browser
            .run("document.getElementById('banner').className"),
        ""
    );
    page.assert_quiet();
}

#[test]
fn two_recordings_are_held_against_each_other_on_one_page_and_in_a_picture() {
    privileged!();
    let directory = scratch();
    let before = record(directory.path(), "before.hwm", "growth", &[], &["go 3"]);
    let after = record(directory.path(), "after.hwm", "growth", &[], &["go 5"]);
    let files: [&Path; 2] = [&before, &after];
    let words = ["--at", "end"];
    let html = directory.path().join("page.html");
    draw(&["diff", "--at", "end"], &files, &html);
    let difference = json(&["diff"], &files, &words);
    let bytes = |which: &str| difference[which].as_u64().expect("bytes");
    let changes = difference["changes"].as_array().expect("changes");
    let changed = changes.iter().map(|change| {
        let [before, after] = ["bytes_before", "bytes_after"].map(|at| change[at].as_u64());
        before.expect("bytes").abs_diff(after.expect("bytes"))
    });
    let browser = Browser::start();
    browser.open(&html);
    let total = || number(&browser, "document.getElementById('total').dataset.bytes");
    assert_eq!(total(), changed.sum::<u64>());
    browser.click("[data-view=after]");
    assert_eq!(total(), bytes("bytes_after"));
    browser.click("[data-view=before]");
    assert_eq!(total(), bytes("bytes_before"));
    // What is kept has grown, so it is red; the cache is what it was, so it has no colour.
    browser.click("[data-view=after]");
    let hue = |name: &str| {
        let fill =
            format!("document.querySelector('[aria-label^={name}] rect').getAttribute('fill')");
        let fill = browser.run(&fill);
        fill.as_str()
            .expect("a colour")
            .split(' ')
            .next()
            .expect("a hue")
            .to_owned()
    };
    assert_eq!(hue("keep_more"), "hsl(6");
    assert_eq!(hue("fill_cache"), hue("all"));
    browser.click("[data-view=change]");
    assert!(
        !boxes(&browser)
            .iter()
            .any(|label| label.starts_with("fill_cache"))
    );
    let [left, top, width, height] = browser.place("[aria-label^=keep_more] rect");
    browser.hover_at(left + width / 2.0, top + height / 2.0);
    let card = browser.text("#card");
    assert!(
        card.contains("keep_more+2.0 MiB: 3.0 MiB before, 5.0 MiB after"),
        "{card}"
    );
    assert_eq!(browser.requests().len(), 1);
    assert_eq!(browser.errors(), Vec::<String>::new());

    let svg = directory.path().join("picture.svg");
    draw(&["diff", "--at", "end"], &files, &svg);
    let svg = fs::read_to_string(svg).expect("a picture");
    let kept = "<title>take (5,242,750 bytes, ";
    let (_, kept) = svg.split_once(kept).expect("what is kept is drawn");
    let (kept, _) = kept.split_once("</title>").expect("a title ends");
    assert!(kept.contains("; +"), "what is kept has not grown: {kept}");
    run(highwater()
        .arg("diff")
        .args(files)
        .args(["-o", "picture.gif"]))
    .assert_says(2, &[".html or .svg"]);
}

#[test]
fn a_hundred_thousand_stacks_make_a_page_that_is_small_and_adds_up() {
    privileged!();
    let page = Opened::of("many_stacks", &[], &["go 100000"]);
    let size = fs::metadata(&page.html).expect("the page").len();
    assert!(size < 5_000_000, "{size} bytes");
    assert_eq!(page.total(), page.reported(&["--at", "peak"]));
    let blocks = page.browser.text("#books");
    assert!(blocks.starts_with("100,00"), "{blocks}");
    assert!(
        page.boxes()
            .iter()
            .any(|label| label.starts_with("(other), "))
    );
    assert!(
        page.browser
            .text("#footer")
            .contains("(other) stands for the ")
    );
    let drawn = page
        .browser
        .run("performance.getEntriesByName('drawn')[0].startTime");
    println!("{size} bytes, drawn after {drawn} ms");
    page.assert_quiet();
}
