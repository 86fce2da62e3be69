//! What was measured on: all that tells a machine's kind, nothing that tells which it is.

use std::fs;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::command;

pub(super) struct Machine {
    facts: Vec<(&'static str, String)>,
}

pub(super) fn describe() -> Machine {
    let said = |program: &str, arguments: &[&str]| {
        command::output(Command::new(program).args(arguments))
            .and_then(|text| Some(text.lines().next()?.to_owned()))
            .unwrap_or_else(|| "unknown".to_owned())
    };
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let is_virtual = processors
        .split_ascii_whitespace()
        .any(|flag| flag == "hypervisor");
    Machine {
        facts: vec![
            ("kernel", said("uname", &["-sr"])),
            ("processor", model.unwrap_or("unknown").to_owned()),
            (
                "processors",
                thread::available_parallelism()
                    .map_or(0, usize::from)
                    .to_string(),
            ),
            (
                "virtual machine",
                if is_virtual { "yes" } else { "no" }.to_owned(),
            ),
            ("libc", said("getconf", &["GNU_LIBC_VERSION"])),
            ("bpftrace", said("bpftrace", &["--version"])),
            ("heaptrack", said("heaptrack", &["--version"])),
        ],
    }
}

impl Machine {
    pub(super) fn markdown(&self) -> String {
        let line = |(name, value): &(&str, String)| format!("- {name}: {value}\n");
        self.facts.iter().map(line).collect()
    }

    pub(super) fn json(&self) -> Value {
        let facts = self.facts.iter();
        facts
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect::<serde_json::Map<String, Value>>()
            .into()
    }
}
