//! Everything that highwater makes of a recording.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::process::run;
use crate::program::highwater;

/// What one sink gave.
#[derive(Debug)]
pub struct Sink {
    /// The words that asked for it, or `recording`.
    pub name: String,
    /// What it wrote, unpacked.
    pub bytes: Vec<u8>,
    /// What was said on standard error meanwhile.
    pub said: String,
}

impl Sink {
    /// Whether these bytes are in it or were said.
    pub fn has(&self, bytes: &[u8]) -> bool {
        let within = |all: &[u8]| all.windows(bytes.len()).any(|part| part == bytes);
        within(&self.bytes) || within(self.said.as_bytes())
    }

    /// Its lines, and those that were said.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let both = [&self.bytes[..], self.said.as_bytes()];
        both.into_iter()
            .flat_map(|all| all.split(|&byte| byte == b'\n'))
    }
}

/// Every sink of a recording, and the recording's own entries.
///
/// # Panics
///
/// If one of them fails.
#[track_caller]
pub fn every_sink(recording: &Path) -> Vec<Sink> {
    const VIEWS: [&[&str]; 22] = [
        &["report"],
        &["report", "--verbose"],
        &["report", "--top", "100"],
        &["report", "--json"],
        &["report", "--csv"],
        &["table"],
        &["table", "--json"],
        &["table", "--csv"],
        &["table", "--by", "function", "--csv"],
        &["table", "--by", "module"],
        &["table", "--by", "module", "--csv"],
        &["table", "--by", "thread"],
        &["table", "--by", "thread", "--csv"],
        &["table", "--by", "process"],
        &["tree"],
        &["tree", "--json"],
        &["stats"],
        &["stats", "--csv"],
        &["stats", "--json"],
        &["check", "--max-peak", "1KiB"],
        &["check", "--max-peak", "1KiB", "--json"],
        &["check", "--max-peak", "1KiB", "--github"],
    ];
    let directory = crate::scratch();
    let mut sinks = Vec::new();
    for words in VIEWS {
        let outcome = run(highwater().arg(words[0]).arg(recording).args(&words[1..]));
        let code = if words[0] == "check" { 3 } else { 0 };
        outcome.assert_says(code, &[]);
        sinks.push(Sink {
            name: words.join(" "),
            bytes: outcome.stdout.into_bytes(),
            said: outcome.stderr,
        });
    }
    let mut write = |name: &str, words: &[&str]| {
        let file = directory.path().join(name);
        let outcome = run(highwater()
            .arg(words[0])
            .arg(recording)
            .args(&words[1..])
            .arg("-o")
            .arg(&file));
        outcome.assert_says(0, &["wrote"]);
        let mut bytes = fs::read(&file).expect("it was written");
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let packed = std::mem::take(&mut bytes);
            flate2::read::GzDecoder::new(&packed[..])
                .read_to_end(&mut bytes)
                .expect("it can be unpacked");
        }
        sinks.push(Sink {
            name: format!("{} into {name}", words[0]),
            bytes,
            said: outcome.stderr,
        });
    };
    write("page.html", &["flamegraph"]);
    write("picture.svg", &["flamegraph"]);
    for format in [
        "collapsed",
        "pprof",
        "speedscope",
        "csv",
        "lines",
        "firefox",
        "heaptrack",
    ] {
        write(format, &["export", "--format", format]);
    }
    let junit = directory.path().join("junit.xml");
    let mut check = highwater();
    check.args(["check", "--max-peak", "1KiB", "--junit"]);
    let outcome = run(check.arg(&junit).arg(recording));
    outcome.assert_says(3, &["wrote"]);
    sinks.push(Sink {
        name: "check into junit.xml".to_owned(),
        bytes: fs::read(&junit).expect("it was written"),
        said: outcome.stderr,
    });
    for words in [&["--json"][..], &["--csv"], &[]] {
        let outcome = run(highwater()
            .arg("diff")
            .args([recording, recording])
            .args(words));
        outcome.assert_says(0, &[]);
        sinks.push(Sink {
            name: format!("diff {}", words.join(" ")),
            bytes: outcome.stdout.into_bytes(),
            said: outcome.stderr,
        });
    }
    sinks
}

/// What a recording holds: its own bytes, and after them those of all its chunks, unpacked.
///
/// # Panics
///
/// If it cannot be read.
#[track_caller]
pub fn unpacked(recording: &Path) -> String {
    /// How a frame of zstd begins.
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    /// Longest chunk, bytes.
    const MOST: usize = 64 << 20;
    let bytes = fs::read(recording).expect("it can be read");
    let mut all = bytes.clone();
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(&MAGIC)
            && let Ok(length) = zstd::zstd_safe::find_frame_compressed_size(&bytes[at..])
            && let Ok(chunk) = zstd::bulk::decompress(&bytes[at..at + length], MOST)
        {
            all.extend(chunk);
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}
