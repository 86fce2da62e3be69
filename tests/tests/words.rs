//! Words that a target chooses: none of them acts on a terminal, forges a line or a frame, or is a formula.

use std::fs;
use std::path::Path;
use std::process::Command;

use highwater_tests::{
    MemoryCgroup, Recorder, Sink, Victim, every_sink, highwater, privileged, python_victim, run,
    scratch, unpacked,
};

/// Sets the title, clears the screen, in 8 bits too, ends its line, begins a formula, closes a script, turns text around.
const WORD: &str = "\x1b]0;OWNED\x07\x1b[2J\u{9b}31m\r\nFORGED\t</script><script>alert(1)</script>\u{202e}\u{2028}\u{200b}x";
/// What of it no sink may have as it is.
const RAW: [&str; 8] = [
    "\x1b]", "\x1b[2J", "\x07", "\u{9b}", "\u{202e}", "\u{2028}", "\u{200b}", "\u{1b}",
];

fn library(directory: &Path) -> std::path::PathBuf {
    let source = directory.join("take.c");
    fs::write(
        &source,
        "#include <stdlib.h>\nvoid *take(int n) { void *p = malloc(n); return (char *)p + 0; }\n",
    )
    .expect("it can be written");
    // A name has no slash.
    let library = directory.join(WORD.replace('/', "|"));
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-g", "-O0", "-o"])
        .arg(&library)
        .arg(&source)
        .status();
    assert!(built.expect("cc runs").success());
    library
}

/// pprof's is a binary file: some of these bytes are lengths in it.
fn is_binary(sink: &Sink) -> bool {
    sink.name.ends_with("pprof")
}

#[test]
fn no_word_of_a_target_reaches_a_sink_as_it_is() {
    privileged!();
    let directory = scratch();
    let library = library(directory.path());
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg("-I")
        .arg(python_victim("chosen_words.py"))
        .arg(WORD)
        .arg(&library);
    let mut victim = Victim::start_command(&mut command);

    let mut sinks = Vec::new();
    // The kernel takes no newline in the name of a cgroup.
    let name = format!("{}{}", std::process::id(), WORD.replace(['/', '\n'], "|"));
    let cgroup = MemoryCgroup::named(&name, 48 << 20);
    match &cgroup {
        Ok(cgroup) => {
            cgroup.add(victim.pid());
            // There is too little room in it, which is said with its name.
            let file = directory.path().join("refused.hwm");
            let refused = run(&mut cgroup.run(&Recorder::command(victim.pid(), &file, &[])));
            refused.assert_says(1, &["too little room"]);
            sinks.push(Sink {
                name: "record in a cgroup".to_owned(),
                bytes: refused.stdout.into_bytes(),
                said: refused.stderr,
            });
        }
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "CI is set, but {reason}");
            eprintln!("without a cgroup: {reason}");
        }
    }
    for options in [&[][..], &["--json"]] {
        let outcome = run(highwater()
            .arg("doctor")
            .args(["-p", &victim.pid().to_string()])
            .args(options));
        outcome.assert_says(0, &[]);
        sinks.push(Sink {
            name: format!("doctor {}", options.join(" ")),
            bytes: outcome.stdout.into_bytes(),
            said: outcome.stderr,
        });
    }
    let file = directory.path().join("recording.hwm");
    let mut command = Recorder::command(victim.pid(), &file, &[]);
    command.env("RUST_LOG", "highwater=debug");
    let mut recorder = Recorder::start_command(&file, &mut command);
    let said = recorder.await_line("highwater: tracing");
    victim.tell("hold");
    recorder.signal(libc::SIGINT);
    let outcome = recorder.wait();
    outcome.assert_says(0, &[]);
    victim.quit();
    sinks.push(Sink {
        name: "record".to_owned(),
        bytes: outcome.stdout.into_bytes(),
        said: format!("{said}\n{}", outcome.stderr),
    });
    // The recording has the words as they were.
    assert!(unpacked(&file).contains(WORD));
    sinks.extend(every_sink(&file));
    for sink in &sinks {
        for raw in RAW {
            if !(is_binary(sink) && raw.len() == 1) {
                assert!(!sink.has(raw.as_bytes()), "{} has {raw:?}", sink.name);
            }
        }
        let is_markup = sink.name.ends_with("html") || sink.name.ends_with("svg");
        assert!(!(is_markup && sink.has(b"<script>alert")), "{}", sink.name);
        for line in sink.lines() {
            assert!(
                !line.starts_with(b"FORGED"),
                "{} has a forged line",
                sink.name
            );
        }
        let text = String::from_utf8_lossy(&sink.bytes);
        if sink.name.contains("csv") {
            assert_no_formulas(&sink.name, &text);
        }
        if sink.name.ends_with("collapsed") {
            assert!(
                !text
                    .split([';', '\n'])
                    .any(|frame| frame.starts_with("forged_frame")),
                "{text}"
            );
        }
    }
    let of_cgroup = cgroup
        .is_ok()
        .then_some(("record in a cgroup", "OWNED\\x07"));
    let others = [
        ("doctor ", "OWNED\\x07"),
        ("doctor --json", "OWNED\\u0007"),
        ("record", "OWNED\\x07"),
        ("report --verbose", "\\x1b]0;OWNED\\x0"),
        ("report --json", "OWNED\\u0007"),
        ("report --csv", "OWNED\\x07"),
        ("table --by thread", "x"),
        ("table --by module", "\\x1b]0;"),
        ("tree", "\\x1b]0;"),
        ("flamegraph into page.html", "OWNED\\\\x07"),
        ("flamegraph into picture.svg", "OWNED"),
        ("export into collapsed", "OWNED"),
        ("export into pprof", "OWNED\\x07"),
        ("export into speedscope", "OWNED\\\\x07"),
        ("export into heaptrack", "OWNED\\x07"),
    ];
    for (name, word) in others.into_iter().chain(of_cgroup) {
        let sink = sinks
            .iter()
            .find(|sink| sink.name == name)
            .unwrap_or_else(|| panic!("no sink {name}"));
        assert!(
            sink.has(word.as_bytes()),
            "the word did not come to {name}: {}",
            String::from_utf8_lossy(&sink.bytes)
        );
    }
}

fn assert_no_formulas(name: &str, text: &str) {
    let mut cells = Vec::new();
    let mut quoted = false;
    let mut cell = String::new();
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' | '\n' if !quoted => cells.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    assert!(
        cells.iter().any(|cell| cell.starts_with("'=")) || !text.contains('='),
        "{name}: {text}"
    );
    for cell in cells {
        let begins = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
        assert!(
            !begins || cell.parse::<f64>().is_ok(),
            "{name} has the formula {cell:?}"
        );
    }
}
