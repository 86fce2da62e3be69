//! This build beside another, figure by figure, in turn: has a change made anything dearer?
//!
//! In each round both builds measure everything; what slowed one round slowed both. The ratio of a figure is the median
//! of its rounds' ratios, and a figure of more than 3 % above the other's is told.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::figures::{self, median};
use super::tracer::{Cost, Tools, Tracer};
use super::verdict::{Limit, Verdict};
use super::victim::{Setting, Shape};
use super::{Part, Plan, attach, blocks};

/// How much dearer a figure may be than the other build's.
const MOST: f64 = 1.03;

/// How long a stretch of pairs is: in a short one, the recorder's own time hangs on when it looked.
const STRETCH: Duration = Duration::from_millis(500);
const QUICK_STRETCH: Duration = Duration::from_millis(150);

/// Values by figure, one a round.
type Rounds = Vec<(String, Vec<f64>)>;

/// Measures both builds; `other` is the path of the other's binary.
pub(super) fn run(tools: &Tools, other: &Path, plan: Plan) -> Result<Part> {
    let other = other
        .canonicalize()
        .with_context(|| format!("cannot find the other build, {}", other.display()))?;
    let mut builds = [
        (tools.with(other.clone()), Rounds::new()),
        (tools.with(tools.highwater.clone()), Rounds::new()),
    ];
    let rounds = if plan.quick { 3 } else { 9 };
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for (tools, figures) in &mut builds {
            measure(tools, plan, figures)?;
        }
    }
    let [(_, others), (_, ours)] = builds;

    let mut rows = Vec::new();
    let mut verdicts = Vec::new();
    for (figure, ours) in &ours {
        let theirs = others
            .iter()
            .find_map(|(name, values)| (name == figure).then_some(values.as_slice()))
            .unwrap_or_default();
        let ratio = figures::median_ratio(ours, theirs);
        let middle = |values: &[f64]| {
            median(values.iter().copied()).map_or_else(|| "–".to_owned(), |it| format!("{it:.1}"))
        };
        rows.push(vec![
            figure.clone(),
            middle(theirs),
            middle(ours),
            ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}")),
        ]);
        verdicts.push(Verdict {
            what: format!("{figure}: this build / the other"),
            limit: Limit::AtMost(MOST),
            found: ratio,
        });
    }
    let head = ["", "other", "this", "this / other"].map(str::to_owned);
    Ok(Part {
        title: "This build and another",
        markdown: format!(
            "The other is {}. Medians of {rounds} rounds, in each of which both had their turn.\n\n{}",
            other.display(),
            figures::table(&head, &rows)
        ),
        json: json!({ "other": others, "this": ours }),
        verdicts,
    })
}

/// One round of one build.
fn measure(tools: &mut Tools, plan: Plan, figures: &mut Rounds) -> Result<()> {
    let mut add =
        |figure: String, value: f64| match figures.iter_mut().find(|(name, _)| *name == figure) {
            Some((_, values)) => values.push(value),
            None => figures.push((figure, vec![value])),
        };
    let stretch = match plan.quick {
        true => QUICK_STRETCH,
        false => STRETCH,
    };
    let setting = |depth, threads, shape| Setting {
        depth,
        threads,
        shape,
    };
    let exact = [
        setting(10, 1, Shape::SameStack),
        setting(30, 1, Shape::SameStack),
        setting(10, 2, Shape::SameStack),
        setting(10, 1, Shape::ManyStacks),
        setting(10, 1, Shape::MixedSizes),
    ];
    let sampled = [setting(10, 1, Shape::SameStack)];
    for (tracer, settings) in [(Tracer::Exact, &exact[..]), (Tracer::Sampled, &sampled[..])] {
        let mut traced = tools.start(tracer)?;
        traced.settle(settings)?;
        for setting in settings {
            let Cost { cpu, consumer, .. } = traced.measure(*setting, stretch)?;
            let name = tracer.name();
            add(format!("{name}, {setting}: the program's ns a pair"), cpu);
            if tracer == Tracer::Exact {
                add(
                    format!("{name}, {setting}: the recorder's ns a pair"),
                    consumer,
                );
            }
        }
        traced.end()?;
    }
    let once = attach::once(tools)?;
    add("attach, ms".to_owned(), once.attach);
    add("detach and answer, ms".to_owned(), once.detach);
    add(
        "recorder's memory, bytes a live block".to_owned(),
        blocks::once(tools, 200_000)?.each(),
    );
    Ok(())
}
