//! The page, as a reader has it before them.

use highwater_tests::{Browser, Recorder, Victim, highwater, privileged, run, scratch};

#[test]
fn the_page_opens_from_its_file_and_asks_nobody_for_anything() {
    privileged!();
    let scratch = scratch();
    let file = scratch.path().join("recording.hwm");
    let mut victim = Victim::start("eight_sites");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("rise");
    let report = recorder.interrupt();
    victim.quit();
    let html = scratch.path().join("page.html");
    run(highwater()
        .arg("flamegraph")
        .arg(&file)
        .arg("-o")
        .arg(&html))
    .assert_says(0, &["wrote"]);
    let browser = Browser::start();
    browser.open(&html);
    let bytes = browser.run("Number(document.getElementById('total').dataset.bytes)");
    assert_eq!(bytes.as_f64(), Some(report.peak().bytes as f64));
    let requests = browser.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].starts_with("file:///"), "{requests:?}");
    assert_eq!(browser.errors(), Vec::<String>::new());
}
