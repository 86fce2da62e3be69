//! What a pair of malloc and free costs under each tracer, by depth of the stack and number of threads.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::figures::{self, median};
use super::tracer::{Cost, Tools, Tracer};
use super::verdict::{Limit, Verdict};
use super::victim::{Setting, Shape};
use super::{Part, Plan};

/// All that was measured.
struct Measured {
    settings: Vec<Setting>,
    /// By round. A tracer that failed has none.
    costs: HashMap<(Tracer, Setting), Vec<Cost>>,
    /// Which do not take part, and why.
    absent: Vec<(Tracer, String)>,
}

/// What a ratio is of.
type Measure = fn(&Cost) -> f64;

/// Round by round, each tracer after the other.
pub(super) fn run(tools: &mut Tools, plan: Plan) -> Result<Part> {
    let mut measured = Measured {
        settings: settings(plan),
        costs: HashMap::new(),
        absent: Vec::new(),
    };
    if !tools.record_has("--sample") {
        let reason = "this highwater has no `record --sample`".to_owned();
        measured.absent.push((Tracer::Sampled, reason));
    }
    let (rounds, time) = (if plan.quick { 3 } else { 7 }, plan.stretch());
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for tracer in Tracer::ALL {
            if measured.absent.iter().any(|(absent, _)| *absent == tracer) {
                continue;
            }
            if let Err(error) = measured.round(tools, tracer, time) {
                measured.absent.push((tracer, format!("{error:#}")));
                measured.costs.retain(|(other, _), _| *other != tracer);
            }
        }
    }
    Ok(Part {
        title: "A pair of malloc(64) and free",
        markdown: measured.markdown(rounds),
        json: measured.json(),
        verdicts: measured.verdicts(),
    })
}

fn settings(plan: Plan) -> Vec<Setting> {
    let setting = |depth, threads, shape| Setting {
        depth,
        threads,
        shape,
    };
    let depths: &[u32] = if plan.quick {
        &[10, 30]
    } else {
        &[5, 10, 30, 60]
    };
    let mut settings: Vec<Setting> = depths
        .iter()
        .map(|depth| setting(*depth, 1, Shape::SameStack))
        .collect();
    if plan.quick {
        settings.push(setting(10, 2, Shape::SameStack));
        settings.push(setting(10, 1, Shape::ManyStacks));
    } else {
        settings.extend(depths.iter().map(|it| setting(*it, 2, Shape::SameStack)));
        settings.push(setting(10, 1, Shape::ManyStacks));
        settings.push(setting(30, 1, Shape::ManyStacks));
        settings.push(setting(10, 1, Shape::MixedSizes));
    }
    settings
}

impl Measured {
    fn round(&mut self, tools: &mut Tools, tracer: Tracer, time: Duration) -> Result<()> {
        let mut traced = tools.start(tracer)?;
        traced.settle(&self.settings)?;
        for setting in &self.settings {
            let cost = traced.measure(*setting, time)?;
            let costs = self.costs.entry((tracer, *setting)).or_default();
            costs.push(cost);
        }
        traced.end()
    }

    fn present(&self) -> Vec<Tracer> {
        let is_absent = |tracer| self.absent.iter().any(|(absent, _)| *absent == tracer);
        let all = Tracer::ALL.into_iter();
        all.filter(|tracer| !is_absent(*tracer)).collect()
    }

    fn values(&self, tracer: Tracer, setting: Setting, measure: Measure) -> Vec<f64> {
        self.costs
            .get(&(tracer, setting))
            .into_iter()
            .flatten()
            .map(measure)
            .collect()
    }

    fn ratio(
        &self,
        setting: Setting,
        measure: Measure,
        above: Tracer,
        below: Tracer,
    ) -> Option<f64> {
        figures::median_ratio(
            &self.values(above, setting, measure),
            &self.values(below, setting, measure),
        )
    }

    fn markdown(&self, rounds: u32) -> String {
        let mut text = format!(
            "Medians of {rounds} rounds, in each of which every tracer had its turn; nanoseconds a pair. Ratios are medians \
             of each round's ratio. What a tracer does but once (symbols, tables) is over before. bpftrace takes stacks by frame \
             pointers, of which the program has none: its stacks are short and cost it less than whole ones would.\n\n",
        );
        let tables: [(&str, Measure); 3] = [
            ("Processor time of the program's thread", |it| it.cpu),
            ("Wall-clock time of the program's thread", |it| it.wall),
            (
                "Whole processor time: the program's and that of the tracer's processes",
                whole,
            ),
        ];
        for (title, measure) in tables {
            text += &format!("{title}:\n\n{}\n", self.table(measure));
        }
        text += &format!("Ratios of processor time:\n\n{}\n", self.ratios());
        for (tracer, reason) in &self.absent {
            text += &format!("- {} is not in the tables: {reason}\n", tracer.name());
        }
        text
    }

    fn table(&self, measure: Measure) -> String {
        let tracers = self.present();
        let names = tracers.iter().map(|tracer| tracer.name().to_owned());
        let head: Vec<String> = std::iter::once(String::new()).chain(names).collect();
        let row = |setting: &Setting| {
            let cells = tracers.iter().map(|tracer| {
                median(self.values(*tracer, *setting, measure))
                    .map_or_else(|| "–".to_owned(), figures::whole)
            });
            std::iter::once(setting.to_string()).chain(cells).collect()
        };
        let rows: Vec<Vec<String>> = self.settings.iter().map(row).collect();
        figures::table(&head, &rows)
    }

    fn ratios(&self) -> String {
        let columns: [(&str, Measure, Tracer, Tracer); 5] = [
            (
                "highwater / floor",
                |it| it.cpu,
                Tracer::Exact,
                Tracer::PairFloor,
            ),
            (
                "sampled / entry floor",
                |it| it.cpu,
                Tracer::Sampled,
                Tracer::EntryFloor,
            ),
            (
                "bpftrace, first byte / highwater",
                |it| it.cpu,
                Tracer::BpftraceFirstByte,
                Tracer::Exact,
            ),
            (
                "bpftrace, our placement / highwater",
                |it| it.cpu,
                Tracer::BpftraceSamePlace,
                Tracer::Exact,
            ),
            (
                "highwater / heaptrack, both whole",
                whole,
                Tracer::Exact,
                Tracer::Heaptrack,
            ),
        ];
        let mut head = vec![String::new()];
        head.extend(columns.iter().map(|(title, ..)| (*title).to_owned()));
        let row = |setting: &Setting| {
            let mut row = vec![setting.to_string()];
            row.extend(columns.iter().map(|(_, measure, above, below)| {
                self.ratio(*setting, *measure, *above, *below)
                    .map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
            }));
            row
        };
        let rows: Vec<Vec<String>> = self.settings.iter().map(row).collect();
        figures::table(&head, &rows)
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .settings
            .iter()
            .flat_map(|setting| self.present().into_iter().map(move |it| (it, *setting)))
            .map(|(tracer, setting)| {
                let samples = |measure| self.values(tracer, setting, measure);
                json!({
                    "tracer": tracer.name(),
                    "depth": setting.depth,
                    "threads": setting.threads,
                    "shape": format!("{:?}", setting.shape),
                    "target_cpu_ns": samples(|it| it.cpu),
                    "target_wall_ns": samples(|it| it.wall),
                    "tracer_cpu_ns": samples(|it| it.consumer),
                })
            })
            .collect();
        let absent: Vec<Value> = self
            .absent
            .iter()
            .map(|(tracer, reason)| json!({ "tracer": tracer.name(), "reason": reason }))
            .collect();
        json!({ "measured": rows, "absent": absent })
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let at = |depth| Setting {
            depth,
            threads: 1,
            shape: Shape::SameStack,
        };
        let mut verdicts = vec![
            Verdict {
                what: "exact at depth 10, one thread / the floor".to_owned(),
                limit: Limit::AtMost(1.3),
                found: self.ratio(at(10), |it| it.cpu, Tracer::Exact, Tracer::PairFloor),
            },
            Verdict {
                what: "exact at depth 10 / bpftrace at the first byte".to_owned(),
                limit: Limit::AtMost(1.0 / 15.0),
                found: self.ratio(
                    at(10),
                    |it| it.cpu,
                    Tracer::Exact,
                    Tracer::BpftraceFirstByte,
                ),
            },
            Verdict {
                what: "exact at depth 10 / bpftrace at our placement".to_owned(),
                limit: Limit::AtMost(0.5),
                found: self.ratio(
                    at(10),
                    |it| it.cpu,
                    Tracer::Exact,
                    Tracer::BpftraceSamePlace,
                ),
            },
            Verdict {
                what: "sampled at 512 KiB at depth 10 / the floor of two entries".to_owned(),
                limit: Limit::AtMost(1.1),
                found: self.ratio(at(10), |it| it.cpu, Tracer::Sampled, Tracer::EntryFloor),
            },
        ];
        let deep = self.settings.iter().filter(|setting| {
            setting.depth >= 30 && setting.threads == 1 && setting.shape == Shape::SameStack
        });
        verdicts.extend(deep.map(|setting| Verdict {
            what: format!("exact at depth {} / heaptrack, both whole", setting.depth),
            limit: Limit::AtMost(1.0),
            found: self.ratio(*setting, whole, Tracer::Exact, Tracer::Heaptrack),
        }));
        verdicts
    }
}

fn whole(cost: &Cost) -> f64 {
    cost.cpu + cost.consumer
}
