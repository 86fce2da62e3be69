//! Examples of each verb, for its help and its manual page.

/// A command, and what it is for.
pub(super) type Example = (&'static str, &'static str);

/// Examples of a verb; of highwater itself where none is named.
pub(super) fn of(verb: Option<&str>) -> &'static [Example] {
    match verb {
        None => &[
            (
                "sudo highwater record -p 1234",
                "attach to a process; Ctrl-C ends it, and the answer is shown",
            ),
            (
                "sudo highwater record -- ./server --port 80",
                "launch a command, and trace it from its start",
            ),
            (
                "highwater report",
                "the answer of the newest recording here",
            ),
            (
                "highwater flamegraph server.hwm",
                "write server.html: flame graph, table, course over time",
            ),
        ],
        Some("record") => &[
            (
                "sudo highwater record -p 1234 --duration 30s",
                "attach, and stop after half a minute",
            ),
            (
                "sudo highwater record -p nginx",
                "attach to a server and the processes that it made",
            ),
            (
                "sudo highwater record --unit nginx --duration 5m",
                "every process of a service, those that it will make too",
            ),
            (
                "sudo highwater record --container 3f2a91",
                "every process in a container, by the first digits of its id",
            ),
            (
                "sudo highwater record --system --exclude cc1 --duration 1m",
                "the whole machine but compilers, for a minute",
            ),
            (
                "sudo highwater record -o x.hwm -- python3 x.py",
                "launch a command, and choose the recording's name",
            ),
            (
                "sudo highwater record -p 1234 --aggregate --sample 512KiB",
                "for days, and cheaply",
            ),
        ],
        Some("report") => &[
            (
                "highwater report",
                "who held the memory at the peak, in the newest recording here",
            ),
            (
                "highwater report x.hwm --at end",
                "what is still there at the end",
            ),
            (
                "highwater report x.hwm --growing",
                "who holds more and more",
            ),
            (
                "highwater report x.hwm --between +10s..+20s",
                "what came in ten seconds, and stayed",
            ),
            (
                "highwater report x.hwm --focus parse --json",
                "of one function, for a script",
            ),
        ],
        Some("flamegraph") => &[
            ("highwater flamegraph x.hwm", "write the page x.html"),
            (
                "highwater flamegraph x.hwm -o peak.svg --inverted",
                "a picture; who asked for the memory first",
            ),
        ],
        Some("mark") => &[
            (
                "highwater mark warm",
                "name this moment in each recording under way",
            ),
            ("highwater mark --begin import", "a span begins"),
            ("highwater mark --end import", "and ends"),
            (
                "highwater report x.hwm --between import",
                "what it left behind",
            ),
        ],
        Some("table") => &[
            (
                "highwater table x.hwm --by function",
                "own and total bytes of each function",
            ),
            (
                "highwater table x.hwm --by process --csv",
                "of each process, for a spreadsheet",
            ),
        ],
        Some("tree") => &[
            (
                "highwater tree x.hwm",
                "from main to who asked for the memory",
            ),
            (
                "highwater tree x.hwm --inverted --min 1MiB",
                "the other way around, nothing below 1 MiB",
            ),
        ],
        Some("stats") => &[
            (
                "highwater stats x.hwm",
                "sizes, lifetimes, rates, who allocates most often",
            ),
            ("highwater stats x.hwm --json", "the same for a script"),
        ],
        Some("diff") => &[
            (
                "highwater diff before.hwm after.hwm",
                "which stacks hold more at the peak, which less",
            ),
            (
                "highwater diff before.hwm after.hwm --at end -o diff.html",
                "at the end, as a page",
            ),
        ],
        Some("check") => &[
            (
                "highwater check --max-peak 200MB -- ./tests",
                "run a command; exit status 3 if it held more",
            ),
            (
                "highwater check --max-peak 200MB --junit memory.xml -- ./tests",
                "the same as a test result, for most CI",
            ),
            (
                "highwater check new.hwm --baseline old.hwm --max-growth 5%",
                "no more than it was, and a twentieth",
            ),
            (
                "highwater check x.hwm --mark request --max-live-at-end 0",
                "no request leaves anything behind",
            ),
        ],
        Some("export") => &[
            (
                "highwater export x.hwm --format pprof",
                "write x.pb.gz, for `go tool pprof`",
            ),
            (
                "highwater export x.hwm --format firefox",
                "write x.firefox.json, for profiler.firefox.com",
            ),
            (
                "highwater export x.hwm --format lines -o -",
                "CSV, a row a line of source",
            ),
            (
                "highwater export x.hwm --format collapsed -o -",
                "lines of stacks, to standard output",
            ),
        ],
        Some("doctor") => &[
            ("sudo highwater doctor", "can this machine trace at all"),
            (
                "sudo highwater doctor -p 1234",
                "can this process be traced, and at what cost",
            ),
        ],
        Some("man") => &[
            ("highwater man | man -l -", "read it at once"),
            (
                "highwater man -o /usr/local/share/man/man1",
                "install all pages",
            ),
        ],
        Some(_) => &[],
    }
}

/// As they stand below a verb's help.
pub(super) fn shown(verb: Option<&str>) -> Option<String> {
    let examples = of(verb);
    let lines = examples
        .iter()
        .map(|(command, what)| format!("\n  {command}\n      {what}"));
    (!examples.is_empty()).then(|| format!("Examples:{}", lines.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_a_command_line_that_we_take() {
        let command = super::super::command();
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let verbs: Vec<Option<&str>> = verbs
            .map(|verb| Some(verb.get_name()))
            .chain([None])
            .collect();
        for verb in verbs {
            for (example, what) in of(verb) {
                let words = example.replace("-p nginx", "-p 1234");
                let words = words.split(" | ").next().unwrap_or_default();
                let words = words.trim_start_matches("sudo ").split(' ');
                if let Err(error) = command.clone().try_get_matches_from(words) {
                    panic!("{example}: {error}");
                }
                assert!(
                    example.len() <= 76 && what.len() <= 72,
                    "{example} is too long for help"
                );
            }
        }
    }
}
