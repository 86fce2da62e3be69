//! Speedscope, in a browser.

use std::collections::BTreeMap;
use std::fs;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use highwater_tests::{Browser, privileged, speedscope};
use serde_json::Value;

use super::{Recorded, sites};

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
