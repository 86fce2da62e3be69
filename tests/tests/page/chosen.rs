//! What is chosen on the page: frames, holders, moments; and the link that shows it again.

use highwater_tests::{Browser, privileged};

use super::{Opened, number};

/// The page as a link to it opens it, in another browser.
#[track_caller]
fn opened_by_link(page: &Opened, fragment: &str) -> Browser {
    let browser = Browser::start();
    let html = page.html.canonicalize().expect("the page is there");
    browser.go_to(&format!("file://{}{fragment}", html.display()));
    browser
}

#[track_caller]
fn text_of(browser: &Browser, script: &str) -> String {
    browser.run(script).as_str().expect("text").to_owned()
}

#[test]
fn own_code_is_shown_at_first_and_all_of_it_on_demand() {
    privileged!();
    let page = Opened::of("growth", &[], &["go 2"]);
    let has = |name: &str| {
        page.boxes()
            .iter()
            .any(|label| label.starts_with(&format!("{name},")))
    };
    assert!(has("main") && has("fill_cache") && !has("__libc_start_call_main"));
    let hidden = page.browser.text("#hidden-words");
    assert!(
        hidden.starts_with("Own code: ") && hidden.contains("libc.so.6"),
        "{hidden}"
    );
    let total = page.total();
    page.browser.click("#all");
    assert!(has("main") && has("__libc_start_call_main"));
    assert_eq!(page.browser.text("#hidden-words"), "");
    assert_eq!(page.total(), total);
    // Who holds comes first, then who called that.
    page.browser.click("#inverted");
    let first = page.boxes().into_iter().nth(1).expect("a box");
    assert!(first.starts_with("take,"), "{first}");
    // A box for each line.
    page.browser.click("#by-line");
    let boxes = text_of(
        &page.browser,
        "[...document.querySelectorAll('#flame g.frame div')].map(box => box.textContent).join()",
    );
    assert!(boxes.contains("victims/growth.c:"), "{boxes}");
    assert_eq!(page.total(), total);
    page.assert_quiet();
}

#[test]
fn a_click_on_a_band_chooses_who_holds_it_in_one_colour_everywhere() {
    privileged!();
    let page = Opened::of("eight_sites", &[], &["rise"]);
    // Sites of the end of the rise are still there; the lowest band is of who held most.
    let [left, top, width, height] = page.browser.place("#timeline .u-over");
    let end = number(
        &page.browser,
        "document.getElementById('timeline').dataset.length",
    ) as f64;
    let start = number(
        &page.browser,
        "document.getElementById('timeline').dataset.start",
    ) as f64;
    let high = page
        .browser
        .run("Number(document.getElementById('timeline').dataset.top)")
        .as_f64()
        .expect("a height");
    let before = "JSON.parse(document.getElementById('data').textContent).before.at(-1)[1]";
    let before = number(&page.browser, before) as f64;
    let peak = page
        .browser
        .run("JSON.parse(document.getElementById('data').textContent).views[0].at")
        .as_f64();
    let x = left + (peak.expect("a moment") - start) / (end - start) * width;
    let y = top + height * (1.0 - (before + 1000.0) / high) - 2.0;
    page.browser.click_at(x, y);
    page.browser
        .await_that("document.querySelector('#details h2') !== null");
    let chosen = page.browser.text("#details h2");
    let pressed = text_of(
        &page.browser,
        "document.querySelector('#bands [aria-pressed=true] span').textContent",
    );
    assert_eq!(chosen, pressed);
    let shade = |of: &str| {
        text_of(
            &page.browser,
            &format!("getComputedStyle(document.querySelector('{of}'))['background-color']"),
        )
    };
    assert_eq!(
        shade("#details h2 i"),
        shade("#bands [aria-pressed=true] i")
    );
    let fill = format!(
        "getComputedStyle(document.querySelector('#flame .chosen[aria-label^=\"{chosen},\"] rect')).fill"
    );
    assert_eq!(text_of(&page.browser, &fill), shade("#details h2 i"));

    // What the bands come to at a moment is what is told of it.
    for part in [0.3, 0.6, 0.9] {
        let (x, y) = page.moment(start + (end - start) * part);
        page.browser.hover_at(x, y);
        let said = page.browser.text("#moment-under");
        page.browser.click_at(x, y);
        let held = format!(": {} held", page.browser.text("#total"));
        assert!(said.contains(&held), "{said}, not {held}");
    }
    page.assert_quiet();
}

#[test]
fn a_link_shows_the_same() {
    privileged!();
    let page = Opened::of("growth", &[], &["go 3"]);
    let shown = |browser: &Browser| {
        browser.settle();
        let script = "[document.getElementById('total').dataset.bytes, document.getElementById('words').textContent, \
            document.getElementById('matched').textContent, document.querySelector('#details h2')?.textContent, \
            document.querySelector('#own').getAttribute('aria-pressed'), \
            [...document.querySelectorAll('#flame g.frame')].map(box => box.getAttribute('aria-label')).sort().join()].join('; ')";
        text_of(browser, script)
    };
    page.browser.click("#all");
    page.browser.click("#inverted");
    let [start, length] = ["start", "length"].map(|end| {
        let script = format!("document.getElementById('timeline').dataset.{end}");
        number(&page.browser, &script) as f64
    });
    let part = |part: f64| page.moment(start + (length - start) * part);
    page.browser.drag(part(0.2), part(0.7));
    page.browser.type_in("/");
    page.browser.type_in("keep_more");
    page.browser
        .await_that("document.querySelector('#rows button')?.title === 'keep_more'");
    page.browser.click("#rows button");
    page.browser
        .await_that("document.querySelector('#details h2')?.textContent === 'keep_more'");
    let fragment = text_of(&page.browser, "location.hash");
    for part in [
        "frames=all",
        "begins=holder",
        "at=",
        "search=keep_more",
        "holder=keep_more",
    ] {
        assert!(fragment.contains(part), "no {part} in {fragment}");
    }
    let link = opened_by_link(&page, &fragment);
    link.await_that("document.querySelector('#details h2') !== null");
    assert_eq!(shown(&link), shown(&page.browser));
    assert_eq!(link.errors(), Vec::<String>::new());
    // What says nothing leaves the page as it opens.
    let whole = opened_by_link(&page, "");
    for hostile in [
        "#at=999999-1&process=__proto__&holder=%3Cimg%20src=x%20onerror=alert(1)%3E&tab=toString",
        "#view=constructor&kinds=&order=__proto__-up&thread=-5&language=valueOf&search=%2F(%2F",
    ] {
        let link = opened_by_link(&page, hostile);
        assert_eq!(link.errors(), Vec::<String>::new(), "{hostile}");
        assert_eq!(link.run("document.querySelectorAll('img').length"), 0);
        let words = "document.getElementById('words').textContent";
        assert_eq!(text_of(&link, words), text_of(&whole, words), "{hostile}");
    }
    page.assert_quiet();
}

#[test]
fn the_columns_of_each_table_fit_on_a_telephone_and_on_a_wide_screen() {
    privileged!();
    let page = Opened::of_a_family();
    page.browser
        .await_that("document.querySelector('#rows tr') !== null");
    for width in [400, 1200, 1600] {
        page.browser.resize(width, 900);
        for tab in ["functions", "processes", "blocks"] {
            page.browser.click(&format!("#tab-{tab}"));
            page.browser.settle();
            page.browser
                .await_that(&format!("document.querySelector('#{tab} td') !== null"));
            let cut = text_of(
                &page.browser,
                &format!(
                    "[...document.querySelectorAll('#{tab} td:not(:first-child), #{tab} th')] \
                    .filter(cell => cell.scrollWidth > cell.clientWidth).map(cell => cell.textContent).join()"
                ),
            );
            assert_eq!(cut, "", "{tab} at {width}");
            let names = format!("document.querySelector('#{tab} td').clientWidth");
            assert!(number(&page.browser, &names) >= 90, "{tab} at {width}");
            assert_eq!(
                number(&page.browser, "document.documentElement.scrollWidth"),
                u64::from(width)
            );
        }
    }
    page.assert_quiet();
}
