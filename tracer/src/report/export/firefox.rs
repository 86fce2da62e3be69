//! A profile for <https://profiler.firefox.com> (which reads a file in the browser, and sends it nowhere): memory that was held, by
//! call tree, with its course.
//!
//! Each process has a track of allocations, as the Firefox Profiler calls them, weighted by size: "Retained Memory" is what was
//! live at the end of the chosen range, and a counter of what was resident. Blocks are not told one by one, but what a holder
//! allocated in one [era](crate::live::Timeline) and freed in another, at the beginning of these; there are 64 to 128 eras. What
//! came and went in one era is left out. So the sum of all that comes and goes is what is live at the end.

use std::collections::HashMap;
use std::io::{self, Write};

use fxprof_processed_profile::{
    CategoryColor, CategoryPairHandle, Frame, FrameFlags, FrameInfo, Profile as Firefox,
    ReferenceTimestamp, SamplingInterval, StackHandle, ThreadHandle, Timestamp,
};

use super::super::answer::matches;
use super::super::model::{ProcessProfile, Profile};
use super::super::name::{self, UNKNOWN_STACK};
use super::super::question::Question;
use super::TRUNCATED;
use crate::event::{Nanos, ProcessId, StackIndex};
use crate::live::{Amount, Holder};

/// Writes the course of a recording, of the holders that a question asks for, whatever moment that asks about.
///
/// # Errors
///
/// What `out` says.
pub fn write(profile: &Profile, question: &Question, out: &mut dyn Write) -> io::Result<()> {
    let mut telling = Telling::new(profile);
    let timeline = &profile.timeline;
    let mut told = 0;
    for lives in &timeline.lives {
        let holder = Holder::of(lives.key(), Amount::default());
        if !question.kinds.contains(lives.kind) || !matches(profile, question, &holder) {
            continue;
        }
        let Some(&thread) = telling.threads.get(&lives.process) else {
            continue;
        };
        let stack = telling.stack(thread, lives.stack);
        for life in &lives.lives {
            // It stands for the address: so what goes is known to be what came.
            told += 1;
            let bytes = i64::try_from(life.bytes).unwrap_or(i64::MAX);
            let began = |era: u16| {
                let since = timeline.width.saturating_mul(era.into());
                telling.at(Nanos(timeline.begins.0.saturating_add(since)))
            };
            let came_and_went = [
                Some((began(life.born), bytes)),
                life.gone.map(|gone| (began(gone), -bytes)),
            ];
            for (at, bytes) in came_and_went.into_iter().flatten() {
                telling
                    .firefox
                    .add_allocation_sample(thread, at, stack, told, bytes);
            }
        }
    }
    serde_json::to_writer(out, &telling.firefox)?;
    Ok(())
}

struct Telling<'a> {
    profile: &'a Profile,
    firefox: Firefox,
    threads: HashMap<ProcessId, ThreadHandle>,
    stacks: HashMap<(ThreadHandle, StackIndex), Option<StackHandle>>,
    native: CategoryPairHandle,
    python: CategoryPairHandle,
}

impl<'a> Telling<'a> {
    fn new(profile: &'a Profile) -> Self {
        let main = profile.main_process();
        let product = main.map_or_else(
            || "?".to_owned(),
            |main| name::program(&main.process.command),
        );
        let started = profile.opening.started_unix_ns as f64 / 1e6;
        let mut firefox = Firefox::new(
            &product,
            ReferenceTimestamp::from_millis_since_unix_epoch(started),
            SamplingInterval::from_nanos(profile.timeline.width.max(1)),
        );
        firefox.set_os_name("Linux");
        // Names are there: nothing is to be looked up.
        firefox.set_symbolicated(true);
        let native = firefox
            .add_category("Machine code", CategoryColor::Blue)
            .into();
        let python = firefox.add_category("Python", CategoryColor::Yellow).into();
        let mut telling = Self {
            profile,
            firefox,
            threads: HashMap::new(),
            stacks: HashMap::new(),
            native,
            python,
        };
        for process in &profile.processes {
            telling.process(process);
        }
        telling
    }

    fn at(&self, at: Nanos) -> Timestamp {
        Timestamp::from_nanos_since_reference(self.profile.since_start(at).0)
    }

    fn process(&mut self, process: &ProcessProfile) {
        let known = &process.process;
        let program = name::program(&known.command);
        let began = self.at(Nanos(known.from_ns));
        let handle = self.firefox.add_process(&program, known.pid, began);
        let ended = process
            .ended
            .as_ref()
            .map_or(self.profile.ended, |end| end.at);
        let ended = self.at(ended);
        self.firefox.set_process_end_time(handle, ended);
        let thread = self.firefox.add_thread(handle, known.pid, began, true);
        self.firefox.set_thread_name(thread, &program);
        self.firefox.set_thread_end_time(thread, ended);
        self.firefox.add_initial_visible_thread(thread);
        if self.threads.is_empty() {
            self.firefox.add_initial_selected_thread(thread);
        }
        self.threads.insert(known.id, thread);
        let samples = process
            .samples
            .iter()
            .filter_map(|sample| Some((sample.at, sample.rss?)));
        let counter = self
            .firefox
            .add_counter(handle, "malloc", "Memory", "Resident memory (RSS)");
        let mut before = 0.0;
        for (at, rss) in samples {
            let at = self.at(at);
            self.firefox
                .add_counter_sample(counter, at, rss as f64 - before, 0);
            before = rss as f64;
        }
    }

    /// The profile's number of a stack, whose frames it adds from the root on.
    fn stack(&mut self, thread: ThreadHandle, stack: StackIndex) -> Option<StackHandle> {
        if let Some(known) = self.stacks.get(&(thread, stack)) {
            return *known;
        }
        let profile = self.profile;
        let frames = profile.frames(stack).unwrap_or_default();
        let mut labels = Vec::with_capacity(frames.len() + 1);
        if profile.is_truncated(stack) {
            labels.push((self.native, TRUNCATED.to_owned()));
        }
        if frames.is_empty() {
            labels.push((self.native, UNKNOWN_STACK.to_owned()));
        }
        for frame in frames.iter().rev() {
            let category = if frame.kind.is_managed() {
                self.python
            } else {
                self.native
            };
            labels.push((category, frame.label_and_place()));
        }
        let frames: Vec<FrameInfo> = labels
            .into_iter()
            .map(|(category_pair, label)| FrameInfo {
                frame: Frame::Label(self.firefox.intern_string(&label)),
                category_pair,
                flags: FrameFlags::empty(),
            })
            .collect();
        let handle = self.firefox.intern_stack_frames(thread, frames.into_iter());
        self.stacks.insert((thread, stack), handle);
        handle
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::super::script::Script;
    use super::*;

    #[test]
    fn what_comes_and_goes_adds_up_to_the_end_and_to_each_holder() {
        let mut script = Script::launched("/bin/app");
        script.stack(1, &["inner<keep@src/keep.c:7", "main"]);
        script.stack(2, &["py:load@/srv/app.py:12", "main"]);
        script.memory(0, 0, 40_960);
        script.allocate(0, 1, 1, 1000);
        script.allocate(0, 20, 2, 500);
        script.free_last(0, 40);
        script.allocate(0, 41, 1, 7);
        script.memory(0, 50, 81_920);
        let profile = script.closed();
        let mut out = Vec::new();
        write(&profile, &Question::default(), &mut out).unwrap();
        let json: Value = serde_json::from_slice(&out).unwrap();
        let thread = &json["threads"][0];
        let told = &thread["nativeAllocations"];
        let weights: Vec<i64> = told["weight"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_i64().unwrap())
            .collect();
        assert_eq!(told["weightType"], "bytes");
        assert_eq!(weights.iter().sum::<i64>() as u64, profile.end.bytes);
        assert!(
            weights.contains(&500) && weights.contains(&-500),
            "{weights:?}"
        );
        let text = String::from_utf8(out).unwrap();
        for name in [
            "keep (src/keep.c:7)",
            "load (srv/app.py:12)",
            "main",
            "/bin/app",
        ] {
            let name = name.trim_start_matches("/bin/");
            assert!(text.contains(&format!("\"{name}\"")), "no {name} in {text}");
        }
        assert_eq!(json["counters"][0]["category"], "Memory");
        let version = json["meta"]["preprocessedProfileVersion"].as_u64();
        assert!(version.is_some_and(|version| version >= 48), "{version:?}");
    }
}
