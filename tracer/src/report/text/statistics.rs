//! What all blocks were like, as histograms and lists.

use std::io::{self, Write};

use super::super::answer::Answer;
use super::super::model::Profile;
use super::super::rows::{By, Row, rows};
use super::super::statistics::{Count, Statistics};
use super::page::{Page, Style, cut};
use super::{NARROWEST, TextOptions};
use crate::units::{size, time};
use crate::words::printable;

/// How wide the longest bar is.
const BAR: usize = 24;
/// Columns of the rate over time.
const RATE: usize = 60;

/// Writes the statistics; `allocated` is all that was ever asked for.
///
/// # Errors
///
/// What `out` says.
pub fn write_statistics(
    profile: &Profile,
    allocated: &Answer,
    statistics: &Statistics,
    options: &TextOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut page = Page::new(out, options.width.max(NARROWEST), options.colour);
    let Count { blocks, bytes } = statistics.all();
    let seconds = profile.duration_ns() as f64 / 1e9;
    let rate = |count: u64| match seconds {
        0.0 => String::new(),
        seconds => size::thousands((count as f64 / seconds).round() as u64),
    };
    let text = format!(
        "{} allocations of {} in {}: {} and {} a second",
        size::thousands(blocks),
        size::headline(bytes),
        time::duration(profile.duration_ns()),
        rate(blocks),
        size::short((bytes as f64 / seconds.max(1e-9)) as u64)
    );
    page.line(&[(Style::Bold, &text)])?;
    super::subject(&mut page, profile)?;
    let temporary = statistics.temporary();
    let text = format!(
        "{} of them ({}) were temporary: freed before their thread made the next",
        size::thousands(temporary),
        size::percent(temporary, blocks)
    );
    page.line(&[(Style::Plain, &text)])?;
    if profile.sampling.is_some() {
        let text = "These are the samples, not estimates of what they stand for.";
        page.prose(Style::Warning, (0, 0), text)?;
    }
    over_time(&mut page, profile)?;
    let sizes = statistics.sizes();
    let sizes = sizes.iter().map(|of| {
        let sizes = match of.from {
            from if from == of.to => size::short(from),
            from => format!("{} and more", size::short(from)),
        };
        (sizes, of.count)
    });
    histogram(&mut page, "Sizes", &sizes.collect::<Vec<_>>())?;
    let mut lifetimes = statistics.lifetimes();
    lifetimes.retain(|of| of.count.blocks > 0);
    let lifetimes = lifetimes.iter().map(|of| (of.lived.to_owned(), of.count));
    histogram(&mut page, "Lifetimes", &lifetimes.collect::<Vec<_>>())?;
    let functions = statistics.functions();
    let one_allocator = functions
        .iter()
        .all(|(_, calls)| calls.allocator == functions[0].1.allocator);
    let functions = functions.iter().map(|(name, calls)| {
        let allocator = calls.allocator.filter(|_| !one_allocator);
        let name = match allocator {
            Some(allocator) => format!("{name} ({allocator})"),
            None => (*name).to_owned(),
        };
        (printable(&name).into_owned(), calls.count)
    });
    histogram(
        &mut page,
        "Functions called",
        &functions.collect::<Vec<_>>(),
    )?;
    for (by, words) in [(By::Function, "functions"), (By::Module, "modules")] {
        let mut rows = rows(profile, allocated, by);
        top(&mut page, &format!("Top {words} by bytes"), &rows, options)?;
        rows.sort_by_key(|row| std::cmp::Reverse((row.blocks, row.bytes)));
        top(&mut page, &format!("Top {words} by count"), &rows, options)?;
    }
    threads(&mut page, profile, statistics, options)
}

/// How many blocks were allocated when.
fn over_time(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let eras = &profile.timeline.eras;
    let columns = eras.len().min(RATE);
    if columns < 2 {
        return Ok(());
    }
    let sums: Vec<u64> = (0..columns)
        .map(|column| {
            let range = eras.len() * column / columns..eras.len() * (column + 1) / columns;
            let parts = range.len() as u64;
            let sum: u64 = eras[range].iter().map(|era| era.allocations).sum();
            sum / parts.max(1)
        })
        .collect();
    let most = sums.iter().copied().max().unwrap_or(0).max(1);
    let line: String = sums
        .iter()
        .map(|sum| match sum {
            0 => ' ',
            sum => LEVELS[((sum * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
        })
        .collect();
    page.heading("Allocations over time")?;
    let a_second = most as f64 * 1e9 / profile.timeline.width.max(1) as f64;
    let text = format!(
        "  {line}  at most {} a second",
        size::thousands(a_second as u64)
    );
    page.line(&[(Style::Plain, &text)])
}

fn histogram(page: &mut Page<'_>, title: &str, counts: &[(String, Count)]) -> io::Result<()> {
    if counts.iter().all(|(_, count)| count.blocks == 0) {
        return Ok(());
    }
    page.heading(title)?;
    let most = counts.iter().map(|(_, count)| count.blocks).max();
    let most = most.unwrap_or(0).max(1);
    let name_width = counts.iter().map(|(name, _)| name.chars().count()).max();
    let name_width = name_width.unwrap_or(0);
    for (name, count) in counts {
        let bar = "█"
            .repeat((u128::from(count.blocks) * BAR as u128).div_ceil(u128::from(most)) as usize);
        let blocks = size::thousands(count.blocks);
        let text = format!(
            "  {name:>name_width$}  {bar:<BAR$}  {blocks:>13}  {:>11}",
            size::short(count.bytes)
        );
        page.line(&[(Style::Plain, &text)])?;
    }
    Ok(())
}

fn top(page: &mut Page<'_>, title: &str, rows: &[Row], options: &TextOptions) -> io::Result<()> {
    let own: Vec<&Row> = rows.iter().filter(|row| row.blocks > 0).collect();
    if own.is_empty() {
        return Ok(());
    }
    page.heading(title)?;
    for row in own.iter().take(options.most()) {
        let front = format!(
            "  {:>11}  {:>13}  ",
            size::short(row.bytes),
            size::thousands(row.blocks)
        );
        let name = cut(&row.name, page.width.saturating_sub(front.chars().count()));
        page.line(&[(Style::Plain, &front), (Style::Bold, &name)])?;
    }
    Ok(())
}

fn threads(
    page: &mut Page<'_>,
    profile: &Profile,
    statistics: &Statistics,
    options: &TextOptions,
) -> io::Result<()> {
    let threads = statistics.threads();
    page.heading("Threads")?;
    let shown = options.most().min(threads.len());
    for of in &threads[..shown] {
        let name = profile
            .thread_name(of.process, of.tid)
            .map_or_else(String::new, |name| format!("{} ", printable(name)));
        let text = format!(
            "  {:>11}  {:>13} allocations, {} frees, {} temporary  {name}(tid {})",
            size::short(of.count.bytes),
            size::thousands(of.count.blocks),
            size::thousands(of.freed),
            size::thousands(of.temporary),
            of.tid.0
        );
        page.line(&[(Style::Plain, &text)])?;
    }
    match threads.len() - shown {
        0 => Ok(()),
        rest => page.line(&[(Style::Dim, &format!("  and {rest} more threads"))]),
    }
}
