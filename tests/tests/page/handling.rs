//! What the page does when it is pointed at, clicked on and typed into.

use highwater_tests::{Key, Scheme, privileged};

use super::{Opened, number};

#[test]
fn what_is_searched_for_is_lit_and_its_share_told() {
    privileged!();
    let page = Opened::of("eight_sites", &[], &["rise"]);
    page.browser.type_in("/");
    page.browser.type_in("site_3");
    let matched = "document.getElementById('matched').dataset.bytes";
    let focused = page.reported(&["--focus", "site_3"]);
    assert_eq!(number(&page.browser, matched), focused);
    let said = page.browser.text("#matched");
    let share = format!("{:.1} %", focused as f64 / page.total() as f64 * 100.0);
    assert!(said.starts_with(&share), "{said}, not {share}");
    // Boxes of one colour only, and none of the others has it.
    let lit = "(() => { const of = name => [...document.querySelectorAll('#flame g.frame')] \
        .filter(box => box.getAttribute('aria-label').startsWith(name)).map(box => box.querySelector('rect').getAttribute('fill')); \
        const found = new Set(of('site_3')); return found.size === 1 && !of('site_4').concat(of('main')).some(fill => found.has(fill)); })()";
    assert_eq!(page.browser.run(lit), true);
    page.browser
        .await_that("[...document.querySelectorAll('#rows tr')].every(row => row.textContent.includes('site_3'))");
    // A pattern; then nothing.
    page.browser.press(Key::Escape);
    assert_eq!(page.browser.text("#matched"), "");
    page.browser.type_in("/");
    page.browser.type_in("/^site_[0-3]$/");
    assert_eq!(
        number(&page.browser, matched),
        page.reported(&["--focus", "^site_[0-3]$"])
    );
    page.assert_quiet();
}

#[test]
fn a_box_tells_what_is_known_of_it_and_fills_the_width_when_clicked() {
    privileged!();
    let page = Opened::of("growth", &[], &["go 5"]);
    page.view("end");
    let keep_more = "[aria-label^=keep_more] rect";
    let [left, top, width, height] = page.browser.place(keep_more);
    page.browser
        .hover_at(left + width / 2.0, top + height / 2.0);
    let card = page.browser.text("#card");
    let bytes = page.reported(&["--at", "end", "--focus", "^keep_more$"]);
    for words in [
        format!("({} bytes)", thousands(bytes)),
        " blocks".to_owned(),
        format!("{:.1} % of all", bytes as f64 / page.total() as f64 * 100.0),
        "grows by ".to_owned(),
        "victims/growth.c:".to_owned(),
    ] {
        assert!(card.contains(&words), "no {words:?} in {card:?}");
    }
    let [_, _, whole, _] = page.browser.place("[aria-label^=all] rect");
    assert!(width < whole / 10.0);
    page.browser.click(keep_more);
    let [_, _, zoomed, _] = page.browser.place(keep_more);
    assert!((zoomed - whole).abs() < 2.0, "{zoomed} of {whole}");
    assert!(page.browser.text("#zoomed").starts_with("keep_more: "));
    // Its callers are still there, what is beside it is not.
    assert!(page.boxes().iter().any(|label| label.starts_with("main")));
    assert!(!page.boxes().iter().any(|label| label.starts_with("churn")));
    // The zoom outlives another moment.
    page.view("peak");
    assert!(page.browser.text("#zoomed").starts_with("keep_more: "));
    page.browser.press(Key::Escape);
    assert!(page.boxes().iter().any(|label| label.starts_with("churn")));

    // Flame: the root is at the bottom.
    let [_, root, _, _] = page.browser.place("[aria-label^=all] rect");
    let [_, leaf, _, _] = page.browser.place("[aria-label^=take] rect");
    assert!(root < leaf);
    page.browser.click("#shape");
    let [_, root, _, _] = page.browser.place("[aria-label^=all] rect");
    let [_, leaf, _, _] = page.browser.place("[aria-label^=take] rect");
    assert!(root > leaf);

    // The table is sorted by what is clicked on.
    page.browser.click("#tab-functions");
    let names = "[...document.querySelectorAll('#rows tr td:first-child')].map(cell => cell.textContent).join()";
    page.browser
        .await_that(&format!("{names}.startsWith('take')"));
    page.browser.click("#columns th:first-child button");
    page.browser.await_that(&format!(
        "{names} === {names}.split(',').sort().join() && !{names}.startsWith('take')"
    ));
    // Those that hold nothing come last, even where the least comes first.
    for _ in 0..2 {
        page.browser.click("#columns th:nth-child(2) button");
    }
    page.browser.await_that(
        "document.querySelector('#columns th:nth-child(2)').getAttribute('aria-sort') === 'ascending' \
         && Number(document.querySelector('#rows [data-bytes]').dataset.bytes) > 0",
    );
    page.assert_quiet();
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits"))
        .collect();
    groups.join(",")
}

#[test]
fn the_page_can_be_used_with_the_keyboard_alone() {
    privileged!();
    let page = Opened::of("growth", &[], &["go 3"]);
    let peak = page.total();
    let tab_to = |id: &str| {
        for _ in 0..60 {
            if page.browser.run("document.activeElement.id") == *id {
                return;
            }
            page.browser.press(Key::Tab);
        }
        panic!("#{id} is not reached");
    };
    tab_to("timeline");
    for _ in 0..20 {
        page.browser.press(Key::Left);
    }
    let [from, to] = page.chosen();
    assert_eq!(from, to);
    let there = page.total();
    assert!(there < peak);
    assert_eq!(there, page.reported(&["--at", &to]));
    for _ in 0..5 {
        page.browser.press_with_shift(Key::Right);
    }
    let [from, to] = page.chosen();
    assert_ne!(from, to);
    let window = page.reported(&["--between", &format!("{from}..{to}")]);
    assert_eq!(page.total(), window, "{from}..{to}");
    page.browser.type_in("p");
    assert_eq!(page.total(), peak);

    tab_to("flame");
    let focused = || {
        let id = "document.getElementById('flame').getAttribute('aria-activedescendant')";
        let label = format!("document.getElementById({id}).getAttribute('aria-label')");
        page.browser
            .run(&label)
            .as_str()
            .expect("a label")
            .to_owned()
    };
    assert!(focused().starts_with("all, "));
    for name in ["main", "serve", "obey"] {
        page.browser.press(Key::Down);
        assert!(focused().starts_with(name), "{} is not {name}", focused());
    }
    page.browser.press(Key::Down);
    assert!(focused().starts_with("fill_cache"), "{}", focused());
    page.browser.press(Key::Left);
    assert!(focused().starts_with("churn"), "{}", focused());
    assert!(page.browser.text("#card").starts_with("churn"));
    page.browser.press(Key::Enter);
    assert!(page.browser.text("#zoomed").starts_with("churn: "));
    page.browser.press(Key::Escape);
    assert!(!page.browser.text("#zoomed").starts_with("churn: "));
    page.assert_quiet();
}

#[test]
fn the_page_is_light_or_dark_as_the_system_is_and_fits_a_telephone() {
    privileged!();
    let page = Opened::of("growth", &[], &["go 2"]);
    let bright = || {
        let color = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)";
        let label = "getComputedStyle(document.querySelector('#flame div')).color.match(/\\d+/g).map(Number).reduce((a, b) => a + b)";
        [color, label].map(|script| page.browser.run(script).as_f64().expect("a colour") > 384.0)
    };
    assert_eq!(bright(), [true, false]);
    let fill = || {
        page.browser
            .run("document.querySelector('[aria-label^=fill_cache] rect').getAttribute('fill')")
    };
    let light = fill();
    page.browser.prefer(Scheme::Dark);
    assert_eq!(bright(), [false, true]);
    assert_ne!(fill(), light);
    page.browser.click("#theme");
    assert_eq!(bright(), [true, false]);
    assert_eq!(fill(), light);

    page.browser.resize(400, 800);
    page.browser.settle();
    assert_eq!(
        page.browser.run("document.documentElement.scrollWidth"),
        400
    );
    for part in ["#timeline canvas", "#flame svg", "#right table"] {
        let [left, _, width, _] = page.browser.place(part);
        assert!(
            left >= 0.0 && left + width <= 400.0 && width > 300.0,
            "{part}: {left} + {width}"
        );
    }
    page.assert_quiet();
}
