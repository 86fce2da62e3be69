//! `highwater report FILE --json`, as far as tests ask of it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::process::run;
use crate::program::highwater;
use crate::python::PythonFrame;
use crate::victim::Truth;

/// A report of schema 1.
#[derive(Clone, Debug)]
pub struct Report(Value);

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// `exited`, `signal`, `oom-killed`, …
    pub reason: String,
    /// Exit code, if it exited.
    pub code: Option<u64>,
    /// Signal, if one killed it.
    pub signal: Option<u64>,
}

/// A traced process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its identity in the recording.
    pub id: u64,
    /// The pid of the process.
    pub pid: u32,
    /// The identity of the process that made it, or that it was.
    pub parent: Option<u64>,
    /// Its command line.
    pub command: String,
    /// How it ended, or was let go.
    pub exit: Option<Exit>,
}

/// A stack with what it held.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The process's number in the report.
    pub process: u64,
    /// What kind of memory: `heap`, `mapping`, …
    pub kind: String,
    /// Names of the functions on its stack, leaf first; unresolved ones are `?`.
    pub functions: Vec<String>,
    /// The frames of its stack, leaf first; an inlined function is none.
    pub frames: Vec<Frame>,
    /// The Python functions on its stack, leaf first.
    pub python: Vec<PythonFrame>,
    /// Whether its stack goes on beyond its last frame.
    pub truncated: bool,
    /// How many bytes were held.
    pub bytes: u64,
    /// How many blocks were held.
    pub blocks: u64,
}

/// Where a return address lies: a file, and the offset in it. Code of no file has an address instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file's path; `None` for code of no file.
    pub module: Option<String>,
    /// Bytes from the start of the file, or the address.
    pub offset: u64,
}

/// A frame of a stack.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where it returns to.
    pub place: Place,
    /// The function's name, `?` if unresolved.
    pub function: String,
}

/// Who held what at one moment.
#[derive(Clone, Debug)]
pub struct Holding {
    /// When, from the start of the recording.
    pub at_ns: u64,
    /// Bytes held by all, heap and mappings.
    pub bytes: u64,
    /// Blocks held by all, and ranges.
    pub blocks: u64,
    /// Bytes of every kind of memory; `None` for what the recording knows nothing of.
    pub by_kind: BTreeMap<String, Option<u64>>,
    /// Who held them, the largest first.
    pub holders: Vec<Holder>,
}

impl Holding {
    /// Bytes and blocks of all stacks that pass through that function.
    pub fn through(&self, function: &str) -> (u64, u64) {
        self.holders
            .iter()
            .filter(|holder| holder.functions.iter().any(|name| name == function))
            .fold((0, 0), |(bytes, blocks), holder| {
                (bytes + holder.bytes, blocks + holder.blocks)
            })
    }

    /// Bytes of a kind of memory.
    #[track_caller]
    pub fn of(&self, kind: &str) -> u64 {
        self.by_kind
            .get(kind)
            .copied()
            .flatten()
            .unwrap_or_else(|| panic!("no kind {kind} in {:?}", self.by_kind))
    }

    /// Bytes of a kind of memory that the stacks through that function hold.
    pub fn of_through(&self, kind: &str, function: &str) -> u64 {
        self.holders
            .iter()
            .filter(|holder| holder.kind == kind)
            .filter(|holder| holder.functions.iter().any(|name| name == function))
            .map(|holder| holder.bytes)
            .sum()
    }

    /// Bytes and blocks of the heap.
    pub fn heap(&self) -> (u64, u64) {
        self.holders
            .iter()
            .filter(|holder| holder.kind == "heap")
            .fold((0, 0), |(bytes, blocks), holder| {
                (bytes + holder.bytes, blocks + holder.blocks)
            })
    }

    /// Panics unless the holders, sorted as they should be, add up to the whole.
    #[track_caller]
    pub fn assert_adds_up(&self) {
        let bytes: u64 = self.holders.iter().map(|holder| holder.bytes).sum();
        let blocks: u64 = self.holders.iter().map(|holder| holder.blocks).sum();
        assert_eq!(
            (bytes, blocks),
            (self.bytes, self.blocks),
            "sum of the holders"
        );
        assert!(
            self.holders
                .is_sorted_by_key(|holder| std::cmp::Reverse(holder.bytes)),
            "holders are listed largest first"
        );
    }
}

impl Report {
    /// The report of a recording.
    #[track_caller]
    pub fn of(file: &Path) -> Self {
        Self::with(file, &[])
    }

    /// The same, with further options.
    #[track_caller]
    pub fn with(file: &Path, options: &[&str]) -> Self {
        let outcome = run(highwater()
            .arg("report")
            .arg(file)
            .arg("--json")
            .args(options));
        outcome.assert_says(0, &[]);
        let value: Value = serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|error| panic!("the report is no JSON: {error}: {outcome:#?}"));
        assert_eq!(value["schema"], 1, "schema of {value:#}");
        Self(value)
    }

    /// The report of a recording that is still being written, if there is enough of it.
    pub fn so_far(file: &Path) -> Option<Self> {
        let outcome = run(highwater().arg("report").arg(file).arg("--json"));
        serde_json::from_str(&outcome.stdout).ok().map(Self)
    }

    /// The document itself.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// A number of `totals`.
    #[track_caller]
    pub fn total(&self, name: &str) -> u64 {
        number(&self.0["totals"], name)
    }

    /// A number of `quality`.
    #[track_caller]
    pub fn quality(&self, name: &str) -> u64 {
        number(&self.0["quality"], name)
    }

    /// Whether the recording was finished in order.
    #[track_caller]
    pub fn is_complete(&self) -> bool {
        self.0["quality"]["complete"]
            .as_bool()
            .unwrap_or_else(|| panic!("no quality.complete in {:#}", self.0["quality"]))
    }

    /// A size of `memory`, bytes: `memory("attach", "rss")`.
    #[track_caller]
    pub fn memory(&self, moment: &str, name: &str) -> u64 {
        number(&self.0["memory"][moment], name)
    }

    /// How long was recorded.
    #[track_caller]
    pub fn duration_ns(&self) -> u64 {
        number(&self.0, "duration_ns")
    }

    /// The peak of all processes together.
    #[track_caller]
    pub fn peak(&self) -> Holding {
        self.holding(&self.0["peak"])
    }

    /// What was live at the end.
    #[track_caller]
    pub fn end(&self) -> Holding {
        self.holding(&self.0["end"])
    }

    /// The peak of one process.
    #[track_caller]
    pub fn process_peak(&self, process: u64) -> Holding {
        let peak = list(&self.0, "process_peaks")
            .iter()
            .find(|peak| peak["process"] == process)
            .unwrap_or_else(|| panic!("no process_peaks of {process}"));
        self.holding(peak)
    }

    /// Every traced process, in the order in which tracing them began.
    #[track_caller]
    pub fn processes(&self) -> Vec<Process> {
        list(&self.0, "processes")
            .iter()
            .map(|process| Process {
                id: number(process, "id"),
                pid: u32::try_from(number(process, "pid")).expect("a pid fits 32 bits"),
                parent: process["parent"].as_u64(),
                command: process["command"].as_str().unwrap_or_default().to_owned(),
                exit: process["exit"]["reason"].as_str().map(|reason| Exit {
                    reason: reason.to_owned(),
                    code: process["exit"]["code"].as_u64(),
                    signal: process["exit"]["signal"].as_u64(),
                }),
            })
            .collect()
    }

    /// The only traced process.
    #[track_caller]
    pub fn only_process(&self) -> Process {
        let mut processes = self.processes();
        assert_eq!(processes.len(), 1, "processes: {processes:#?}");
        processes.remove(0)
    }

    /// Panics unless the recording is complete and nothing was lost or left out, but for the counters named.
    #[track_caller]
    pub fn assert_saw_all_but(&self, excused: &[&str]) {
        // Some excused counters make a recording incomplete in its own eyes; it must have been finished in any case.
        let excuse = excused.iter().any(|name| self.quality(name) > 0);
        assert!(
            self.is_complete() || excuse && !self.0["quality"]["ended_by"].is_null(),
            "incomplete: {:#}",
            self.0["quality"]
        );
        let counters = [
            "lost_events",
            "truncated_stacks",
            "lost_allocations",
            "lost_frees",
            "lost_process_events",
            "no_walk_buffer",
            "threads_full",
            "calls_too_deep",
            "missed_returns",
            "unpaired_returns",
            "unsafe_returns",
            "unreadable_results",
            "stack_collisions",
            "malformed_events",
        ];
        let found: BTreeMap<&str, u64> = counters
            .into_iter()
            .filter(|name| !excused.contains(name))
            .map(|name| (name, self.0["quality"][name].as_u64().unwrap_or(0)))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert!(found.is_empty(), "not everything was seen: {found:?}");
        // The counter that must be there for its zero to mean anything.
        if !excused.contains(&"lost_events") {
            assert_eq!(self.quality("lost_events"), 0, "lost events");
        }
    }

    /// Panics unless the recording is complete and nothing was lost or left out.
    #[track_caller]
    pub fn assert_saw_all(&self) {
        self.assert_saw_all_but(&[]);
    }

    /// Panics unless the recording was finished and nothing was lost or left out, but for what children did before their probes were
    /// in: the kernel lets nobody probe them sooner.
    #[track_caller]
    pub fn assert_saw_all_but_first_moments(&self) {
        let quality = &self.0["quality"];
        assert!(!quality["ended_by"].is_null(), "unfinished: {quality:#}");
        for unseen in list(quality, "unseen") {
            let text = unseen["text"].as_str().unwrap_or_default();
            let grave = !matches!(unseen["affects"].as_str(), Some("nothing" | "names"));
            let late = text.contains("before its probes were in place");
            assert!(late || !grave, "not everything was seen: {text}");
        }
    }

    /// Panics unless the totals are those that a victim told, which were all in the window of the recording.
    #[track_caller]
    pub fn assert_totals(&self, truth: &Truth) {
        for name in ["allocations", "allocated_bytes", "frees", "freed_bytes"] {
            assert_eq!(
                self.total(name),
                truth.get(name),
                "{name}: {:#} against {truth:?}",
                self.0["totals"]
            );
        }
    }

    /// Panics unless what is live at the end is what a victim told.
    #[track_caller]
    pub fn assert_end(&self, truth: &Truth) {
        let end = self.end();
        end.assert_adds_up();
        assert_eq!(
            (end.bytes, end.blocks),
            (truth.get("live_bytes"), truth.get("live_blocks")),
            "bytes and blocks live at the end"
        );
    }

    /// Panics unless the peak is what a victim told.
    #[track_caller]
    pub fn assert_peak(&self, truth: &Truth) {
        let peak = self.peak();
        peak.assert_adds_up();
        assert_eq!(
            (peak.bytes, peak.blocks),
            (truth.get("peak_bytes"), truth.get("peak_blocks")),
            "bytes and blocks at the peak"
        );
    }

    /// The same of the heap alone, for programs that map memory as well: whatever is loaded anew does.
    #[track_caller]
    pub fn assert_heap_at_end(&self, truth: &Truth) {
        let end = self.end();
        end.assert_adds_up();
        assert_eq!(
            end.heap(),
            (truth.get("live_bytes"), truth.get("live_blocks")),
            "bytes and blocks of the heap at the end"
        );
    }

    /// The same of the peak.
    #[track_caller]
    pub fn assert_heap_at_peak(&self, truth: &Truth) {
        let peak = self.peak();
        peak.assert_adds_up();
        assert_eq!(
            peak.heap(),
            (truth.get("peak_bytes"), truth.get("peak_blocks")),
            "bytes and blocks of the heap at the peak"
        );
    }

    #[track_caller]
    fn holding(&self, value: &Value) -> Holding {
        let holders = list(value, "holders")
            .iter()
            .map(|holder| Holder {
                process: number(holder, "process"),
                kind: holder["kind"].as_str().unwrap_or_default().to_owned(),
                functions: self.functions(&holder["stack"]),
                frames: self.frames(&holder["stack"]),
                python: self.python(&holder["stack"]),
                truncated: list(&self.0, "truncated_stacks").contains(&holder["stack"]),
                bytes: number(holder, "bytes"),
                blocks: number(holder, "blocks"),
            })
            .collect();
        Holding {
            at_ns: number(value, "at_ns"),
            bytes: number(value, "bytes"),
            blocks: number(value, "blocks"),
            by_kind: serde_json::from_value(value["by_kind"].clone())
                .unwrap_or_else(|error| panic!("by_kind of {value:#}: {error}")),
            holders,
        }
    }

    /// The names on a stack, leaf first; none where there is no stack.
    fn functions(&self, stack: &Value) -> Vec<String> {
        self.stack(stack).map(function).collect()
    }

    /// The frames of a stack, leaf first; none where there is no stack.
    fn frames(&self, stack: &Value) -> Vec<Frame> {
        self.stack(stack)
            .filter(|frame| frame["inlined"] != true)
            .map(|frame| Frame {
                place: Place {
                    module: frame["module"].as_str().map(str::to_owned),
                    offset: frame["offset"].as_u64().unwrap_or_default(),
                },
                function: function(frame),
            })
            .collect()
    }

    /// The Python functions of a stack, leaf first.
    fn python(&self, stack: &Value) -> Vec<PythonFrame> {
        self.stack(stack)
            .filter(|frame| frame["kind"] == "python")
            .map(|frame| PythonFrame {
                file: frame["file"].as_str().unwrap_or_default().to_owned(),
                line: frame["line"].as_u64(),
                function: function(frame),
            })
            .collect()
    }

    /// What `frames` says of a stack, leaf first.
    fn stack(&self, stack: &Value) -> impl Iterator<Item = &Value> {
        let index = |value: &Value| value.as_u64().and_then(|index| usize::try_from(index).ok());
        let frames = index(stack).map(|stack| &self.0["stacks"][stack]);
        frames
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(index)
            .map(|frame| &self.0["frames"][frame])
    }
}

/// The name of a frame's function.
fn function(frame: &Value) -> String {
    frame["function"].as_str().unwrap_or("?").to_owned()
}

#[track_caller]
fn number(value: &Value, name: &str) -> u64 {
    value[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no number {name} in {value:#}"))
}

#[track_caller]
fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name]
        .as_array()
        .unwrap_or_else(|| panic!("no list {name} in {value:#}"))
}
