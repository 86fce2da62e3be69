//! Debian's kernels, out of their packages. Nothing is installed: the machine that this runs on keeps its own kernel.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{command, setup};

/// A kernel to boot.
pub(super) struct Kernel {
    /// As in "6.1".
    pub(super) series: String,
    /// Its compressed image.
    pub(super) image: PathBuf,
}

impl Kernel {
    /// The newest kernel of a series that the archives have; once fetched, it stays in `directory`.
    pub(super) fn fetch(series: &str, directory: &Path) -> Result<Self> {
        let image = directory.join(format!("vmlinuz-{series}"));
        if !image.is_file() {
            fetch_into(series, directory, &image).with_context(|| {
                format!("cannot get Debian's kernel {series}; Debian 12 and its archive debian-security have it")
            })?;
        }
        Ok(Self {
            series: series.to_owned(),
            image,
        })
    }
}

fn fetch_into(series: &str, directory: &Path, image: &Path) -> Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg-deb", "tar"] {
        ensure!(command::find(program).is_some(), "there is no {program}");
    }
    // The package lists may be missing, or too old to name what the archive has.
    if try_to_fetch(series, directory, image).is_err() {
        setup::update_package_lists()?;
        try_to_fetch(series, directory, image)?;
    }
    Ok(())
}

fn try_to_fetch(series: &str, directory: &Path, image: &Path) -> Result<()> {
    let package = newest_package(series)?;
    println!("{series}: {package}");
    let download = directory.join(format!("package-{series}"));
    // What an interrupted download left behind.
    if download.exists() {
        fs::remove_dir_all(&download)?;
    }
    fs::create_dir_all(&download)?;
    command::run(
        Command::new("apt-get")
            .args(["-q", "download", &package])
            .current_dir(&download),
    )?;
    let package = fs::read_dir(&download)?
        .next()
        .context("apt-get downloaded nothing")??
        .path();
    unpack_image(&package, image)?;
    fs::remove_dir_all(&download)?;
    Ok(())
}

/// The cloud flavour: it has all that tracing takes, and a third of the drivers.
fn newest_package(series: &str) -> Result<String> {
    let prefix = format!("linux-image-{series}.");
    let names = command::output(Command::new("apt-cache").args(["pkgnames", &prefix]))
        .context("apt-cache names no packages")?;
    names
        .lines()
        .filter_map(|name| Some((version(name.strip_prefix("linux-image-")?)?, name)))
        .max()
        .map(|(_, name)| name.to_owned())
        .with_context(|| format!("no package is named {prefix}...-cloud-amd64"))
}

/// The numbers in `6.1.0-56-cloud-amd64` or `6.12.117+deb12-cloud-amd64`; `None` for another flavour.
fn version(name: &str) -> Option<Vec<u32>> {
    let numbers = name.strip_suffix("-cloud-amd64")?;
    numbers
        .split(['.', '-', '+'])
        .map(|part| part.trim_start_matches("deb").parse().ok())
        .collect()
}

/// Takes the kernel out of its package, and nothing of its modules.
fn unpack_image(package: &Path, image: &Path) -> Result<()> {
    let mut reader = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let archive = reader.stdout.take().context("dpkg-deb has no stdout")?;
    let draft = image.with_extension("new");
    let unpacked = Command::new("tar")
        .args([
            "--extract",
            "--to-stdout",
            "--wildcards",
            "./boot/vmlinuz-*",
        ])
        .stdin(archive)
        .stdout(File::create(&draft)?)
        .status()
        .context("cannot run tar")?;
    let read = reader.wait()?;
    if !unpacked.success() || !read.success() {
        bail!("{} has no kernel in it", package.display());
    }
    fs::rename(&draft, image)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(version("6.1.0-9-cloud-amd64") < version("6.1.0-56-cloud-amd64"));
        assert!(version("6.12.99+deb12-cloud-amd64") < version("6.12.117+deb12-cloud-amd64"));
    }

    #[test]
    fn other_flavours_have_no_version() {
        assert_eq!(version("6.1.0-56-amd64"), None);
        assert_eq!(version("6.1.0-56-cloud-amd64-dbg"), None);
        assert_eq!(version("6.1.0-56-cloud-amd64-unsigned"), None);
    }
}
