//! The page: a flame graph of any moment, under the timeline that it is picked on, in one file that asks nobody for
//! anything.
//!
//! The recording's figures are embedded as JSON; the page's own script draws them. A content security policy
//! forbids the page every request, and all text goes in as text, so a name from a hostile binary stays a name.

mod data;
mod trie;

use std::io::{self, Write};

use super::flamegraph::Order;
use super::model::Profile;
use super::question::Question;

const PAGE: &str = include_str!("html/page.html");
const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

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
    let data = serde_json::to_string(&data::Data::of(profile, question, order))?;
    // Within a script element only `</script` and `<!--` mean anything, and in JSON `<` only stands within strings.
    let data = data.replace('<', "\\u003c");
    let parts = [
        ("{{style}}", STYLE),
        ("{{data}}", &data),
        ("{{script}}", SCRIPT),
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
