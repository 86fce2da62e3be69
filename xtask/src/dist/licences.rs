//! The licences of all that is in the binary: the crates, the C libraries in them, what the page is drawn with, Rust's own
//! library, and glibc.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{command, page};

/// How deep in a crate licences are looked for: the C libraries that crates bring lie that deep.
const DEPTH: usize = 4;

/// Parts that are no crates, and where Debian or rustup keep what they say of themselves.
const GLIBC: &str = "/usr/share/doc/libc6-dev/copyright";
const LESSER_GPL: &str = "/usr/share/common-licenses/LGPL-2.1";

/// One text for all.
pub(super) fn of_all_in_it() -> Result<String> {
    let metadata = command::captured(command::cargo().args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform",
        super::TARGET,
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let mut text =
        "highwater is made of these parts besides its own, each under its own licence.\n"
            .to_owned();
    // Many crates have the very same text: each is printed once, with those that it is of.
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked(&metadata)? {
        let word = |key: &str| package[key].as_str().unwrap_or("?");
        let name = format!("{} {}", word("name"), word("version"));
        text += &format!(
            "\n{name}: {}\n    {}\n",
            word("license"),
            word("repository")
        );
        let manifest = Path::new(word("manifest_path"));
        let root = manifest.parent().unwrap_or(Path::new("/"));
        let mut found = Vec::new();
        find(root, DEPTH, &mut found)?;
        if found.is_empty() {
            text += "    (its package holds no text of its licence)\n";
        }
        for path in found {
            let inside = path.strip_prefix(root).unwrap_or(&path);
            let content = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            let of = format!("{name}: {}", inside.display());
            texts.entry(content).or_default().insert(of);
        }
    }
    for (name, content) in page::licences()? {
        let package = name.split(' ').next().unwrap_or_default();
        text += &format!("\n{name}, in the page\n    https://www.npmjs.com/package/{package}\n");
        texts.entry(content).or_default().insert(name);
    }
    let sysroot = command::captured(Command::new("rustc").args(["--print", "sysroot"]))?;
    let rust = PathBuf::from(sysroot.trim()).join("share/doc/rust");
    text += "\nRust's standard library: MIT OR Apache-2.0\n    https://github.com/rust-lang/rust\n";
    text += "\nThe GNU C library: LGPL-2.1-or-later\n    https://www.gnu.org/software/libc/\n    \
             It is linked statically. To link highwater with another one, build it from its sources: `cargo xtask dist`.\n";
    for (name, path) in [
        ("Rust's standard library: COPYRIGHT", rust.join("COPYRIGHT")),
        ("The GNU C library: copyright", GLIBC.into()),
        ("The GNU C library: LGPL-2.1", LESSER_GPL.into()),
    ] {
        if let Ok(content) = fs::read(&path) {
            let content = String::from_utf8_lossy(&content).into_owned();
            texts.entry(content).or_default().insert(name.to_owned());
        }
    }
    let line = "-".repeat(78);
    for (content, of) in texts {
        let of: Vec<String> = of.into_iter().collect();
        text += &format!(
            "\n{line}\n{}\n{line}\n\n{}\n",
            of.join("\n"),
            content.trim()
        );
    }
    Ok(text)
}

/// The packages whose code is in the binary, ours apart: what is reached from it by ordinary dependencies.
fn linked(metadata: &Value) -> Result<Vec<&Value>> {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let nodes = list(&metadata["resolve"]["nodes"]);
    let packages = metadata["packages"].as_array().context("no packages")?;
    let ours = packages
        .iter()
        .find(|package| package["name"] == "highwater");
    let mut wanted = vec![ours.context("no package highwater")?["id"].clone()];
    let mut seen = BTreeSet::new();
    while let Some(id) = wanted.pop() {
        if !seen.insert(id.to_string()) {
            continue;
        }
        let node = nodes.iter().find(|node| node["id"] == id);
        for dependency in list(&node.context("no such node")?["deps"]) {
            let ordinary = list(&dependency["dep_kinds"])
                .iter()
                .any(|kind| kind["kind"].is_null());
            if ordinary {
                wanted.push(dependency["pkg"].clone());
            }
        }
    }
    let mut linked: Vec<&Value> = packages
        .iter()
        .filter(|package| seen.contains(&package["id"].to_string()))
        // Without a source it is of this workspace.
        .filter(|package| !package["source"].is_null())
        .collect();
    ensure!(
        linked.len() > 10,
        "the graph of packages has almost nothing in it"
    );
    linked.sort_by_key(|package| package["name"].to_string() + &package["version"].to_string());
    Ok(linked)
}

fn find(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_ascii_uppercase();
        if path.is_dir() {
            if depth > 1 && !["TESTS", "EXAMPLES", "BENCHES", "DOC"].contains(&name.as_str()) {
                find(&path, depth - 1, found)?;
            }
        } else if [
            "LICENSE",
            "LICENCE",
            "COPYING",
            "NOTICE",
            "COPYRIGHT",
            "UNLICENSE",
        ]
        .iter()
        .any(|word| name.starts_with(word))
            && !name.ends_with(".RS")
        {
            found.push(path);
        }
    }
    Ok(())
}
