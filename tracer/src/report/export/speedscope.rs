//! speedscope's own format: <https://www.speedscope.app>, from a file or as a page of one's own.
//!
//! One file has several profiles that share their frames: bytes and blocks of what was held, and of all that was ever asked
//! for. The format: <https://github.com/jlfwong/speedscope/blob/main/src/lib/file-format-spec.ts>.

use std::collections::HashMap;
use std::io::{self, Write};

use serde::Serialize;

use super::super::answer::Answer;
use super::super::model::Profile;
use super::super::name::{self, UNKNOWN_STACK};
use super::TRUNCATED;
use crate::live::Holder;
use crate::words;

#[derive(Serialize)]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: &'static str,
    name: String,
    #[serde(rename = "activeProfileIndex")]
    active: usize,
    profiles: Vec<Sampled<'a>>,
    shared: Shared,
}

#[derive(Serialize)]
struct Shared {
    frames: Vec<Frame>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct Frame {
    name: String,
    /// The source file, or the file that the code was mapped from.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

impl Frame {
    fn named(name: String) -> Self {
        Self {
            name,
            file: None,
            line: None,
        }
    }
}

/// A profile: stacks, root first, each with what it weighs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sampled<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    samples: Vec<&'a [usize]>,
    weights: Vec<u64>,
}

#[derive(Default)]
struct Frames {
    list: Vec<Frame>,
    by_frame: HashMap<Frame, usize>,
}

impl Frames {
    fn index(&mut self, frame: Frame) -> usize {
        let next = self.list.len();
        *self.by_frame.entry(frame).or_insert_with_key(|frame| {
            self.list.push(frame.clone());
            next
        })
    }

    /// The frames of a holder, root first.
    fn stack(&mut self, profile: &Profile, holder: &Holder) -> Vec<usize> {
        let mut stack = Vec::new();
        if profile.processes.len() > 1
            && let Some(process) = profile.process(holder.process)
        {
            let process = &process.process;
            let program = name::program(&process.command);
            stack.push(self.index(Frame::named(format!("{program} (pid {})", process.pid))));
        }
        if profile.is_truncated(holder.stack) {
            stack.push(self.index(Frame::named(TRUNCATED.to_owned())));
        }
        let frames = profile.frames(holder.stack).unwrap_or_default();
        if frames.is_empty() {
            stack.push(self.index(Frame::named(UNKNOWN_STACK.to_owned())));
        }
        for frame in frames.iter().rev() {
            let module = || frame.module.map(|module| module.path.to_string_lossy());
            let file = frame.file.map(Into::into).or_else(module);
            stack.push(self.index(Frame {
                name: frame.label(),
                file: file.map(|file| words::printable(&file).into_owned()),
                line: frame.file.and(frame.line),
            }));
        }
        stack
    }
}

/// Writes what was held and what was allocated. The weights of a profile add up to the answer's bytes or blocks.
///
/// # Errors
///
/// What `out` says.
pub fn write(
    profile: &Profile,
    held: &Answer,
    allocated: &Answer,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut frames = Frames::default();
    let mut stacks_of = |answer: &Answer| {
        let holders = answer.holders.iter();
        let mut stacks: Vec<(Vec<usize>, [u64; 2])> = holders
            .map(|holder| {
                let stack = frames.stack(profile, holder);
                (stack, [holder.bytes, holder.blocks])
            })
            .collect();
        // Neighbours that share callers share their boxes.
        stacks.sort();
        stacks
    };
    let stacks = [stacks_of(held), stacks_of(allocated)];
    let mut profiles = Vec::new();
    for (answer, stacks) in [held, allocated].into_iter().zip(&stacks) {
        for (which, unit) in ["bytes", "none"].into_iter().enumerate() {
            let weighing = stacks.iter().filter(|(_, weights)| weights[which] > 0);
            let (samples, weights): (Vec<&[usize]>, Vec<u64>) = weighing
                .map(|(stack, weights)| (&stack[..], weights[which]))
                .unzip();
            profiles.push(Sampled {
                kind: "sampled",
                name: format!("{}, {}", answer.words, ["bytes", "blocks"][which]),
                unit,
                start_value: 0,
                end_value: weights
                    .iter()
                    .fold(0, |sum: u64, one| sum.saturating_add(*one)),
                samples,
                weights,
            });
        }
    }
    let subject = profile.main_process().map_or_else(String::new, |main| {
        let program = name::program(&main.process.command);
        format!("{program} (pid {})", main.process.pid)
    });
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        exporter: concat!("highwater@", env!("CARGO_PKG_VERSION")),
        name: subject,
        active: 0,
        profiles,
        shared: Shared {
            frames: frames.list,
        },
    };
    serde_json::to_writer(&mut *out, &file)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::super::question::When;
    use super::super::super::script::{Script, answer};
    use super::*;

    #[test]
    fn each_profile_adds_up_and_its_stacks_begin_at_the_root() {
        let mut script = Script::launched("/bin/app");
        script.stack(1, &["keep@src/keep.c:7", "main"]);
        script.stack(2, &["pass", "main"]);
        script.allocate(0, 1, 1, 1000);
        script.allocate(0, 2, 2, 30);
        script.free_last(0, 3);
        script.allocate(0, 4, 1, 500);
        let profile = script.closed();
        let of = |when| answer(&profile, when);
        let (held, allocated) = (of(When::Peak), of(When::Allocated));
        let mut out = Vec::new();
        write(&profile, &held, &allocated, &mut out).expect("a Vec takes all");
        let file: Value = serde_json::from_slice(&out).expect("it is JSON");
        let wanted = [held.bytes, held.blocks, allocated.bytes, allocated.blocks];
        for (profile, wanted) in file["profiles"].as_array().unwrap().iter().zip(wanted) {
            let weights = profile["weights"].as_array().unwrap().iter();
            let sum: u64 = weights.map(|weight| weight.as_u64().unwrap()).sum();
            assert_eq!((sum, profile["endValue"].as_u64()), (wanted, Some(wanted)));
        }
        let frame = |sample: usize, depth: usize| {
            let index = &file["profiles"][2]["samples"][sample][depth];
            &file["shared"]["frames"][index.as_u64().unwrap() as usize]
        };
        assert_eq!(frame(0, 0)["name"], "main");
        assert_eq!(frame(0, 1)["name"], "keep");
        assert_eq!(
            (&frame(0, 1)["file"], &frame(0, 1)["line"]),
            (&"src/keep.c".into(), &7.into())
        );
        // A function without a source file has that of its code.
        assert_eq!(frame(1, 1)["file"], "/usr/bin/server");
    }
}
