//! Packages of other Debians, unpacked into a root of their own with all that they take; nothing is installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// In the root, top-level directories are links to those of `usr`.
const LINKS: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Unpacks the packages that `choose` takes from a suite of Debian's archive into `root` below `directory`, unless they are there. It is
/// handed what asks the archive, by the name of the program.
pub(super) fn unpack(
    suite: &str,
    directory: &Path,
    choose: impl FnOnce(&dyn Fn(&str) -> Command) -> Result<Vec<String>>,
) -> Result<()> {
    // Written last, so that what is there is whole.
    let made = directory.join("made");
    if made.exists() {
        return Ok(());
    }
    unpack_into(suite, directory, choose).with_context(|| {
        format!(
            "packages could not be fetched from Debian's archive `{suite}` into {}",
            directory.display()
        )
    })?;
    fs::write(&made, "").with_context(|| format!("cannot make {}", made.display()))
}

fn unpack_into(
    suite: &str,
    directory: &Path,
    choose: impl FnOnce(&dyn Fn(&str) -> Command) -> Result<Vec<String>>,
) -> Result<()> {
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
    let archive = format!(
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {suite} main\n"
    );
    fs::write(directory.join("sources.list"), archive)?;
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
    let packages = choose(&apt)?;
    command::run(
        apt("apt-get")
            .args([
                "-q",
                "-y",
                "--download-only",
                "--no-install-recommends",
                "install",
            ])
            .args(&packages),
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
