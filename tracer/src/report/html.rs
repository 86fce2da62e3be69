//! The page: a flame graph of any moment, under the timeline that it is picked on, in one file that asks nobody for
//! anything.
//!
//! The recording's figures are embedded as JSON; the page's own script draws them. A content security policy
//! forbids the page every request, and all text goes in as text, so a name from a hostile binary stays a name.

mod compared;
mod curves;
mod data;
mod drafts;
mod trie;

use std::io::{self, Write};

use self::data::Data;
use super::answer::Answer;
use super::flamegraph::Order;
use super::model::Profile;
use super::question::Question;

const PAGE: &str = include_str!("html/page/page.html");
const STYLES: [&str; 2] = [
    include_str!("html/vendor/uPlot.min.css"),
    include_str!("html/page/page.css"),
];
/// Our own, in the order in which they need each other.
const SCRIPTS: [&str; 14] = [
    include_str!("html/page/words.js"),
    include_str!("html/page/stacks.js"),
    include_str!("html/page/model.js"),
    include_str!("html/page/search.js"),
    include_str!("html/page/colours.js"),
    include_str!("html/page/flame.js"),
    include_str!("html/page/card.js"),
    include_str!("html/page/table.js"),
    include_str!("html/page/details.js"),
    include_str!("html/page/panel.js"),
    include_str!("html/page/bands.js"),
    include_str!("html/page/timeline.js"),
    include_str!("html/page/state.js"),
    include_str!("html/page/page.js"),
];
/// As `cargo xtask page` fetches them; those that others need come first.
const LIBRARIES: [&str; 15] = [
    include_str!("html/vendor/uPlot.iife.min.js"),
    include_str!("html/vendor/d3-dispatch.min.js"),
    include_str!("html/vendor/d3-timer.min.js"),
    include_str!("html/vendor/d3-ease.min.js"),
    include_str!("html/vendor/d3-color.min.js"),
    include_str!("html/vendor/d3-interpolate.min.js"),
    include_str!("html/vendor/d3-format.min.js"),
    include_str!("html/vendor/d3-array.min.js"),
    include_str!("html/vendor/d3-time.min.js"),
    include_str!("html/vendor/d3-time-format.min.js"),
    include_str!("html/vendor/d3-scale.min.js"),
    include_str!("html/vendor/d3-hierarchy.min.js"),
    include_str!("html/vendor/d3-selection.min.js"),
    include_str!("html/vendor/d3-transition.min.js"),
    include_str!("html/vendor/d3-flamegraph.umd.min.js"),
];
/// Each asks to go where its library goes. D3's modules have one between them, but for what d3-ease took from others.
const LICENCES: [(&str, &str); 4] = [
    ("uPlot", include_str!("html/vendor/uplot.LICENSE")),
    ("D3", include_str!("html/vendor/d3-selection.LICENSE")),
    ("d3-ease", include_str!("html/vendor/d3-ease.LICENSE")),
    (
        "d3-flame-graph",
        include_str!("html/vendor/d3-flame-graph.LICENSE"),
    ),
];

/// Writes the page. It opens on the moment that the question asks for, with only what its filters leave.
///
/// # Errors
///
/// What `out` says.
pub fn write(
    profile: &Profile,
    question: &Question,
    order: Order,
    out: &mut dyn Write,
) -> io::Result<()> {
    write_data(&Data::of(profile, question, order), out)
}

/// Writes the page of two recordings, held against each other: boxes are as wide as what changed, or what there was after or
/// before, and coloured by whether they grew.
///
/// # Errors
///
/// What `out` says.
pub fn write_difference(
    before: (&Profile, &Answer),
    after: (&Profile, &Answer),
    order: Order,
    out: &mut dyn Write,
) -> io::Result<()> {
    write_data(&Data::compared(before, after, order), out)
}

fn write_data(data: &Data, out: &mut dyn Write) -> io::Result<()> {
    // Within a script element only `</script` and `<!--` mean anything, and in JSON `<` only stands within strings.
    let data = serde_json::to_string(data)?.replace('<', "\\u003c");
    let licences = LICENCES.map(|(name, text)| format!("{name}\n\n{text}"));
    let licences = licences
        .join("\n\n")
        .replace('&', "&amp;")
        .replace('<', "&lt;");
    let parts = [
        ("{{style}}", STYLES.join("\n")),
        ("{{licences}}", licences),
        ("{{data}}", data),
        ("{{libraries}}", LIBRARIES.join("\n")),
        ("{{script}}", SCRIPTS.join("\n")),
    ];
    let mut rest = PAGE;
    for (place, part) in parts {
        // Each part is written once and not looked at again, so that nothing in the data is taken for a place.
        let (before, after) = rest.split_once(place).unwrap_or((rest, ""));
        out.write_all(before.as_bytes())?;
        out.write_all(part.as_bytes())?;
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

#[cfg(test)]
mod tests;
