//! Pythons newer than Debian 12's, out of the packages of the next Debian. They come with the C library and all else that they
//! take, and are unpacked into a root of their own; nothing is installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command;

/// Where the packages are from.
const ARCHIVE: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian testing main";
/// The oldest that is fetched: the second number of its version.
const OLDEST: u32 = 13;
/// In the root, top-level directories are links to those of `usr`.
const LINKS: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Unpacks them, unless they are there.
pub(super) fn fetch() -> Result<()> {
    let directory = crate::target_directory().join("newer-pythons");
    // Written last, so that what is there is whole.
    let made = directory.join("made");
    if made.exists() {
        return Ok(());
    }
    fetch_into(&directory).with_context(|| {
        format!(
            "newer Pythons could not be fetched from Debian's archive `testing` into {}",
            directory.display()
        )
    })?;
    fs::write(&made, "").with_context(|| format!("cannot make {}", made.display()))
}

fn fetch_into(directory: &Path) -> Result<()> {
    // What an interrupted run left behind.
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    for part in [
        "lists/partial",
        "cache/archives/partial",
        "root/usr/bin",
        "root/usr/lib",
        "root/usr/lib64",
        "root/usr/sbin",
        "root/proc",
        "root/victims",
    ] {
        fs::create_dir_all(directory.join(part))?;
    }
    let root = directory.join("root");
    for link in LINKS {
        symlink(Path::new("usr").join(link), root.join(link))?;
    }
    // apt as it is set up here, but for what it knows of archives and of installed packages: nothing.
    let path = |part: &str| directory.join(part).display().to_string();
    fs::write(directory.join("sources.list"), format!("{ARCHIVE}\n"))?;
    fs::write(directory.join("status"), "")?;
    fs::write(
        directory.join("apt.conf"),
        format!(
            r#"Dir::State::Lists "{}";
Dir::State::Status "{}";
Dir::Cache "{}";
Dir::Etc::SourceList "{}";
Dir::Etc::SourceParts "-";
APT::Sandbox::User "root";
"#,
            path("lists"),
            path("status"),
            path("cache"),
            path("sources.list"),
        ),
    )?;
    let apt = |program: &str| {
        let mut apt = Command::new(program);
        apt.env("APT_CONFIG", directory.join("apt.conf"));
        apt
    };
    command::run(apt("apt-get").args(["-q", "update"]))?;
    let names = command::captured(apt("apt-cache").args(["pkgnames", "python3."]))?;
    let pythons: Vec<&str> = names
        .lines()
        .filter(|name| minor(name).is_some_and(|minor| minor >= OLDEST))
        .collect();
    ensure!(
        !pythons.is_empty(),
        "it has no python3.{OLDEST} or newer one"
    );
    command::run(
        apt("apt-get")
            .args([
                "-q",
                "-y",
                "--download-only",
                "--no-install-recommends",
                "install",
            ])
            .args(&pythons),
    )?;
    for package in fs::read_dir(directory.join("cache/archives"))? {
        let package = package?.path();
        if package
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            command::run(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(&package)
                    .arg(&root),
            )?;
        }
    }
    fs::remove_dir_all(directory.join("cache"))?;
    Ok(())
}

/// 14 of `python3.14`; other packages are not interpreters.
fn minor(name: &str) -> Option<u32> {
    name.strip_prefix("python3.")?.parse().ok()
}
