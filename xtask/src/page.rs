//! `cargo xtask page`: fetches the libraries that the page is drawn with from npm, as their authors published them.
//!
//! They are committed, since highwater is built without a network. `SHA256SUMS` beside them is for `sha256sum -c`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::command;

/// Packages of npm: name, version, and which of its files.
const LIBRARIES: [(&str, &str, &[&str]); 15] = [
    (
        "uplot",
        "1.6.32",
        &["dist/uPlot.iife.min.js", "dist/uPlot.min.css"],
    ),
    ("d3-selection", "3.0.1", &["dist/d3-selection.min.js"]),
    ("d3-format", "3.1.3", &["dist/d3-format.min.js"]),
    ("d3-array", "3.2.5", &["dist/d3-array.min.js"]),
    ("d3-hierarchy", "3.1.3", &["dist/d3-hierarchy.min.js"]),
    ("d3-color", "3.1.1", &["dist/d3-color.min.js"]),
    ("d3-interpolate", "3.0.2", &["dist/d3-interpolate.min.js"]),
    ("d3-time", "3.1.1", &["dist/d3-time.min.js"]),
    ("d3-time-format", "4.1.1", &["dist/d3-time-format.min.js"]),
    ("d3-scale", "4.0.3", &["dist/d3-scale.min.js"]),
    ("d3-ease", "3.0.2", &["dist/d3-ease.min.js"]),
    ("d3-dispatch", "3.0.2", &["dist/d3-dispatch.min.js"]),
    ("d3-timer", "3.0.2", &["dist/d3-timer.min.js"]),
    ("d3-transition", "3.0.2", &["dist/d3-transition.min.js"]),
    (
        "d3-flame-graph",
        "5.0.0",
        &["dist/d3-flamegraph.umd.min.js"],
    ),
];

/// The digests of all other files.
const SUMS: &str = "SHA256SUMS";

fn directory() -> PathBuf {
    crate::repository().join("tracer/src/report/html/vendor")
}

/// Fetches every library and its licence.
pub(crate) fn fetch() -> Result<()> {
    if command::find("npm").is_none() {
        bail!("npm is not on the PATH; it comes with Node.js");
    }
    let packed = crate::target_directory().join("page");
    fs::create_dir_all(&packed)?;
    fs::create_dir_all(directory())?;
    for (name, version, files) in LIBRARIES {
        let archive = command::captured(
            Command::new("npm")
                .args(["pack", "--silent", &format!("{name}@{version}")])
                .current_dir(&packed),
        )?;
        command::run(
            Command::new("tar")
                .args(["-xzf", archive.trim()])
                .current_dir(&packed),
        )?;
        let package = packed.join("package");
        for file in files {
            let to = Path::new(file).file_name().context("a file has a name")?;
            copy(&package.join(file), &directory().join(to))?;
        }
        copy(
            &package.join("LICENSE"),
            &directory().join(format!("{name}.LICENSE")),
        )?;
        fs::remove_dir_all(package)?;
    }
    fs::write(directory().join(SUMS), sums()?)?;
    println!("fetched {} libraries", LIBRARIES.len());
    Ok(())
}

/// The libraries by name and version, each with its licence.
pub(crate) fn licences() -> Result<Vec<(String, String)>> {
    LIBRARIES
        .iter()
        .map(|(name, version, _)| {
            let path = directory().join(format!("{name}.LICENSE"));
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok((format!("{name} {version}"), text))
        })
        .collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("the package has no {}", from.display()))?;
    Ok(())
}

/// As `sha256sum` prints them.
fn sums() -> Result<String> {
    let files = fs::read_dir(directory())?.collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<_> = files.iter().map(fs::DirEntry::file_name).collect();
    names.retain(|name| name != SUMS);
    names.sort();
    let mut text = String::new();
    for name in names {
        for byte in Sha256::digest(fs::read(directory().join(&name))?) {
            write!(text, "{byte:02x}")?;
        }
        writeln!(text, "  {}", name.to_string_lossy())?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_licences_are_what_was_fetched() {
        let committed = fs::read_to_string(directory().join(SUMS)).expect("the sums are there");
        assert_eq!(sums().expect("the files can be read"), committed);
        for (name, _, files) in LIBRARIES {
            let licence = format!("{name}.LICENSE");
            let names = files.iter().map(|file| file.rsplit('/').next().unwrap());
            for file in names.chain([licence.as_str()]) {
                assert!(committed.contains(&format!("  {file}\n")), "{file}");
            }
        }
    }
}
