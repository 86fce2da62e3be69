//! What else is resident than traced blocks: what malloc keeps, and what was there before attach.

use std::io;

use super::super::makeup::Kept;
use super::super::model::Profile;
use super::books::FAR;
use super::page::{Page, Style};
use crate::record::{ChunkSum, HeldBefore, Makeup, SizeClass};
use crate::units::size;

/// Less than this part of RSS, or than so many bytes, is not worth a line of the first screen.
const PART: u64 = 10;
const LEAST: u64 = 1 << 20;

/// Most sizes that are listed.
const SIZES: usize = 12;

/// What malloc keeps of what was freed, if that is much.
pub(super) fn kept(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let (peak, end) = (&profile.memory.peak, &profile.memory.end);
    let near = peak
        .at
        .is_some_and(|at| at.0.abs_diff(profile.peak.at.0) <= FAR);
    let moments = [(end, "at the end", true), (peak, "at the peak", near)];
    let found = moments.into_iter().find_map(|(memory, when, near)| {
        let malloc = memory.malloc.filter(|_| near)?;
        let much = malloc.bytes >= LEAST.max(memory.rss? / PART);
        much.then_some((malloc, when))
    });
    let Some((malloc, when)) = found else {
        return Ok(());
    };
    let text = format!("{} {when}{}", freed(&malloc), given_back(&malloc));
    page.prose(Style::Plain, (0, 2), &text)
}

/// `236.0 MiB freed and kept by malloc in 16 arenas`
fn freed(malloc: &Kept) -> String {
    let arenas = match malloc.arenas {
        1 => "1 arena".to_owned(),
        arenas => format!("{} arenas", size::thousands(arenas)),
    };
    let at_least = match malloc.unread_arenas {
        0 => "",
        _ => "at least ",
    };
    let kept = size::short(malloc.bytes);
    format!("{at_least}{kept} freed and kept by malloc in {arenas}")
}

/// How much of it the program could get rid of, and what was not read.
fn given_back(malloc: &Kept) -> String {
    let (all, back) = (malloc.bytes, malloc.trimmable);
    let mut text = match back {
        _ if back >= all / 10 * 9 => " (malloc_trim would give it back)".to_owned(),
        _ if back < all / 10 => {
            " (in pieces between blocks in use: malloc_trim would not help)".to_owned()
        }
        _ => format!(" (malloc_trim would give back {})", size::short(back)),
    };
    if malloc.unread_arenas > 0 {
        text += &format!(
            "; {} in {} of them could not be read",
            size::short(malloc.unread),
            malloc.unread_arenas
        );
    }
    text
}

/// What was there before attach, of all processes.
#[derive(Default)]
struct Before {
    used: ChunkSum,
    held: HeldBefore,
    kept: Kept,
    thread_stacks: u64,
}

fn looked_at(profile: &Profile) -> Option<Before> {
    let looked: Vec<&Makeup> = profile
        .processes
        .iter()
        .filter_map(|process| process.before.as_ref())
        .collect();
    if looked.is_empty() {
        return None;
    }
    let mut sum = Before::default();
    for makeup in looked {
        let malloc = makeup.malloc.as_ref();
        let held = makeup.before.as_ref();
        let used = malloc.map(|malloc| malloc.used);
        let mapped = held.map(|held| held.mapped);
        for chunks in [used, mapped].into_iter().flatten() {
            add(&mut sum.used, chunks);
        }
        if let Some(malloc) = malloc {
            sum.kept = sum.kept.plus(Kept::of(malloc));
        }
        sum.thread_stacks = sum
            .thread_stacks
            .saturating_add(makeup.thread_stacks.unwrap_or(0));
        let Some(held) = held else { continue };
        for class in &held.sizes {
            let sizes = &mut sum.held.sizes;
            match sizes.iter_mut().find(|known| known.least == class.least) {
                Some(known) => {
                    known.chunks = known.chunks.saturating_add(class.chunks);
                    known.bytes = known.bytes.saturating_add(class.bytes);
                }
                None => sizes.push(*class),
            }
        }
        add(&mut sum.held.mapped, held.mapped);
        sum.held.mappings.extend(held.mappings.iter().cloned());
    }
    sum.held.sizes.sort_by_key(|class| class.least);
    let mappings = &mut sum.held.mappings;
    mappings.sort_by_key(|mapping| std::cmp::Reverse(mapping.resident));
    Some(sum)
}

fn add(sum: &mut ChunkSum, chunks: ChunkSum) {
    sum.chunks = sum.chunks.saturating_add(chunks.chunks);
    sum.bytes = sum.bytes.saturating_add(chunks.bytes);
}

/// In one line what was there before attach, where that is most of the memory.
pub(super) fn before(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let peak = &profile.memory.peak;
    let is_most = peak
        .before_attach
        .zip(peak.held())
        .is_some_and(|(before, held)| before > held / 2);
    let Some(sum) = looked_at(profile).filter(|sum| is_most && sum.used.bytes >= LEAST) else {
        return Ok(());
    };
    let mut text = format!("Before attach: {}", in_use(&sum.used));
    let most = sum.held.sizes.iter().max_by_key(|class| class.bytes);
    if let Some(class) = most.filter(|_| sum.used.chunks > 1) {
        text += &format!(
            ", {} of it in those of {}",
            size::short(class.bytes),
            bounds(class)
        );
    }
    if sum.kept.bytes >= LEAST {
        text += &format!("; {} freed and kept", size::short(sum.kept.bytes));
    }
    if sum.kept.unread > 0 {
        text += &format!("; {} could not be read", size::short(sum.kept.unread));
    }
    page.prose(Style::Plain, (0, 2), &text)
}

fn in_use(used: &ChunkSum) -> String {
    let chunks = match used.chunks {
        1 => "1 block".to_owned(),
        chunks => format!("{} blocks", size::thousands(chunks)),
    };
    format!("{} in {chunks} of malloc", size::short(used.bytes))
}

/// `64 to 127 bytes`, `1 KiB to 2 KiB`.
fn bounds(class: &SizeClass) -> String {
    let (least, next) = (class.least, class.least.saturating_mul(2));
    match least {
        0..1024 => format!("{least} to {} bytes", next.saturating_sub(1)),
        _ => format!("{} to {}", whole(least), whole(next)),
    }
}

/// A power of two that is a whole number of its unit.
fn whole(bytes: u64) -> String {
    match bytes {
        0x4000_0000.. => format!("{} GiB", bytes >> 30),
        0x10_0000.. => format!("{} MiB", bytes >> 20),
        _ => format!("{} KiB", bytes >> 10),
    }
}

/// All that is known of what was there before attach.
pub(super) fn all_before(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let Some(sum) = looked_at(profile) else {
        return Ok(());
    };
    page.heading("Held before attach, by malloc's own chunks and by mapping")?;
    let mut row = |bytes: u64, indent: usize, text: &str| {
        let front = format!("  {:>9}  {}", size::short(bytes), " ".repeat(indent));
        page.line(&[(Style::Plain, &front), (Style::Plain, text)])
    };
    if sum.used.chunks > 0 {
        let chunks = size::thousands(sum.used.chunks);
        row(
            sum.used.bytes,
            0,
            &format!("{chunks} chunks of malloc in use"),
        )?;
    }
    let mut largest = sum.held.sizes.clone();
    largest.sort_by_key(|class| std::cmp::Reverse(class.bytes));
    largest.truncate(SIZES);
    for class in sum
        .held
        .sizes
        .iter()
        .filter(|class| largest.contains(class))
    {
        let text = format!("{} of {}", size::thousands(class.chunks), bounds(class));
        row(class.bytes, 2, &text)?;
    }
    if sum.kept.free > 0 {
        let text = format!("freed and kept{}", given_back(&sum.kept));
        row(sum.kept.bytes, 0, &text)?;
    }
    if sum.thread_stacks > 0 {
        row(sum.thread_stacks, 0, "stacks of threads")?;
    }
    for mapping in &sum.held.mappings {
        let named = match mapping.name.is_empty() {
            true => String::new(),
            false => format!(" {}", mapping.name),
        };
        let length = size::short(mapping.length);
        let text = format!("of {length} mapped at {:#x}{named}", mapping.start);
        row(mapping.resident, 0, &text)?;
    }
    Ok(())
}
