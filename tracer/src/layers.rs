//! Who may use whom: the imports of this crate, held against the table of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each part, and what it may use. A part comes after those that it uses, so that there can be no circle.
const LAYERS: [(&str, &[&str]); 19] = [
    ("units", &[]),
    ("words", &[]),
    ("own_memory", &[]),
    ("priority", &[]),
    ("event", &[]),
    ("peak", &["event"]),
    ("fork_map", &[]),
    ("live", &["event", "fork_map", "peak"]),
    ("record", &["event", "fork_map", "live"]),
    ("model", &["event", "live", "record", "units"]),
    ("follow", &["event", "record"]),
    ("target", &["units"]),
    ("unwind", &["target"]),
    (
        "probe",
        &["event", "own_memory", "priority", "target", "unwind"],
    ),
    ("symbol", &["own_memory", "priority", "record", "target"]),
    (
        "report",
        &["event", "live", "model", "peak", "record", "units", "words"],
    ),
    (
        "session",
        &[
            "event",
            "follow",
            "live",
            "model",
            "own_memory",
            "priority",
            "probe",
            "record",
            "symbol",
            "target",
            "units",
            "unwind",
            "words",
        ],
    ),
    (
        "cli",
        &[
            "event", "follow", "live", "model", "probe", "record", "report", "session", "target",
            "units", "words",
        ],
    ),
    ("main", &["cli"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("the sources can be listed").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The parts that a source names behind `crate::`, its tests left out.
fn used(text: &str) -> BTreeSet<String> {
    let product = text.split("#[cfg(test)]\nmod tests {").next();
    let mut used = BTreeSet::new();
    for after in product.unwrap_or_default().split("crate::").skip(1) {
        let Some(list) = after.strip_prefix('{') else {
            let end = after.find(|c: char| !c.is_alphanumeric() && c != '_');
            used.insert(after[..end.unwrap_or(after.len())].to_owned());
            continue;
        };
        let mut depth = 0;
        let mut word = String::new();
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => used.extend([std::mem::take(&mut word)]),
                c if depth == 0 => word.push(c),
                _ => {}
            }
        }
        used.extend([word]);
    }
    let parts = used.iter().map(|word| {
        let part = word.trim().split("::").next();
        part.unwrap_or_default().to_owned()
    });
    parts.filter(|part| !part.is_empty()).collect()
}

/// Test code may use what it likes: what it needs is built from above.
fn is_test(path: &Path) -> bool {
    let named = |name: &str| path.iter().any(|part| part == name);
    let own = ["script.rs", "naive.rs", "fixture.rs", "layers.rs"];
    named("tests") || named("tests.rs") || own.into_iter().any(named)
}

#[test]
fn imports_are_read_whatever_they_look_like() {
    let text = "use crate::{\n    event::{Event, Nanos},\n    live,\n};\nuse crate::units::size;\nlet a = crate::record::b();\n\
                #[cfg(test)]\nmod tests {\n    use crate::cli;\n}\n";
    let expected = ["event", "live", "record", "units"].map(str::to_owned);
    assert_eq!(used(text), BTreeSet::from(expected));
}

#[test]
fn parts_use_only_what_the_table_lets_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let allowed = BTreeMap::from(LAYERS);
    let mut upward = Vec::new();
    for path in files.iter().filter(|path| !is_test(path)) {
        let inside = path.strip_prefix(&root).expect("it lies there");
        let first = inside.iter().next().and_then(|first| first.to_str());
        let part = first.unwrap_or_default().trim_end_matches(".rs");
        if part == "lib" {
            continue;
        }
        let may = allowed
            .get(part)
            .unwrap_or_else(|| panic!("{part} is not in the table"));
        let text = fs::read_to_string(path).expect("sources are text");
        for other in used(&text) {
            // A word that is no part is a macro, or a name of the root.
            if other != part && allowed.contains_key(&*other) && !may.contains(&&*other) {
                upward.push(format!("{} uses {other}", inside.display()));
            }
        }
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn no_part_uses_one_that_comes_after_it() {
    for (at, (part, may)) in LAYERS.iter().enumerate() {
        for used in *may {
            let before = LAYERS[..at].iter().any(|(earlier, _)| earlier == used);
            assert!(before, "{part} uses {used}, which comes after it");
        }
    }
}

#[test]
fn the_table_of_the_architecture_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let text = fs::read_to_string(path).expect("it lies beside the crates");
    for (part, may) in LAYERS.iter().filter(|(part, _)| *part != "main") {
        let row = text
            .lines()
            .find(|line| {
                let name = line.strip_prefix(&format!("| `{part}"));
                name.is_some_and(|rest| rest.starts_with("/`") || rest.starts_with(".rs`"))
            })
            .unwrap_or_else(|| panic!("{part} has no row"));
        let uses = row.trim_end_matches('|').trim_end().rsplit('|').next();
        let listed: BTreeSet<&str> = uses
            .unwrap_or_default()
            .split('`')
            .skip(1)
            .step_by(2)
            .collect();
        assert_eq!(listed, may.iter().copied().collect(), "{part}");
    }
}
