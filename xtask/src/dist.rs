//! `cargo xtask dist`: highwater as one static binary, with what belongs beside it, in a tarball.
//!
//! The tarball depends on the sources, the toolchain and this machine's glibc alone: paths are mapped away, entries are sorted and
//! have the time of the commit (or `SOURCE_DATE_EPOCH`) and no owner.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use object::Object;
use sha2::{Digest, Sha256};

use crate::{command, ebpf, repository, setup, source_hash};

mod licences;

/// The target of the binary.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The shells that completions are made for, and what these files are called.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "highwater.bash"),
    ("zsh", "_highwater"),
    ("fish", "highwater.fish"),
];

/// Builds all of it into `target/dist/`.
pub(crate) fn run() -> Result<()> {
    setup::for_programs()?;
    if source_hash::staleness(repository())?.is_some() {
        setup::run()?;
        ebpf::build()?;
    }
    let directory = crate::target_directory().join("dist");
    let binary = command::section("build the static binary", || {
        build(&["--release", "--config", "profile.release.strip='debuginfo'"])
    })?;
    let name = format!("highwater-{}-x86_64-linux", env!("CARGO_PKG_VERSION"));
    let staged = directory.join(&name);
    if staged.exists() {
        fs::remove_dir_all(&staged)
            .with_context(|| format!("cannot remove {}", staged.display()))?;
    }
    command::section("put together what belongs beside it", || {
        fill(&staged, &binary)
    })?;
    // Where the Dockerfile takes it from.
    fs::copy(&binary, directory.join("highwater"))?;
    let tarball = directory.join(format!("{name}.tar.gz"));
    command::section("pack", || pack(&directory, &name, &tarball))?;
    let packed = fs::read(&tarball)?;
    println!(
        "{}: {} bytes, sha256 {}\nto make an image of it: docker build -t highwater {}",
        tarball.display(),
        packed.len(),
        hexadecimal(&Sha256::digest(&packed)),
        repository().display(),
    );
    Ok(())
}

/// The same binary for the tests: unoptimised, which takes the compiler a third of the time.
pub(crate) fn build_for_tests() -> Result<PathBuf> {
    build(&[
        "--config",
        "profile.dev.opt-level=0",
        "--config",
        "profile.dev.package.\"*\".opt-level=0",
        "--config",
        "profile.dev.debug=false",
    ])
}

/// Builds highwater so that it needs nothing of the system but the kernel. The path of the binary.
///
/// In a directory of its own, as the flags differ from those of all other builds.
pub(crate) fn build(options: &[&str]) -> Result<PathBuf> {
    let directory = crate::target_directory().join("static");
    let home = env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=highwater", repository().display()),
        format!("--remap-path-prefix={}=cargo", home.display()),
    ];
    command::run(
        command::cargo()
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .args(["build", "--package", "highwater", "--bin", "highwater"])
            .args(["--target", TARGET, "--target-dir"])
            .arg(&directory)
            .args(options),
    )?;
    let profile = if options.contains(&"--release") {
        "release"
    } else {
        "debug"
    };
    let binary = directory.join(TARGET).join(profile).join("highwater");
    ensure_static(&binary)?;
    Ok(binary)
}

/// That nothing else is loaded to run it.
fn ensure_static(binary: &Path) -> Result<()> {
    let data = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let elf = object::read::elf::ElfFile64::<object::Endianness>::parse(&*data)?;
    let interpreter = elf
        .elf_program_headers()
        .iter()
        .any(|header| header.p_type.get(elf.endian()) == object::elf::PT_INTERP);
    ensure!(
        !interpreter,
        "{} asks for a dynamic linker",
        binary.display()
    );
    if let Some(library) = elf.import_libraries()?.next() {
        let library = String::from_utf8_lossy(library?.name()).into_owned();
        bail!("{} needs {library}", binary.display());
    }
    Ok(())
}

fn fill(staged: &Path, binary: &Path) -> Result<()> {
    let make = |name: &str| -> Result<PathBuf> {
        let directory = staged.join(name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(directory)
    };
    let (completions, pages) = (make("completions")?, make("man/man1")?);
    fs::copy(binary, staged.join("highwater"))?;
    for (shell, file) in COMPLETIONS {
        let script = command::captured(Command::new(binary).args(["completions", shell]))?;
        fs::write(completions.join(file), script)?;
    }
    command::run(
        Command::new(binary)
            .args(["man", "-o"])
            .arg(&pages)
            .stderr(Stdio::null()),
    )?;
    for file in ["README.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(repository().join(file), staged.join(file))
            .with_context(|| format!("cannot copy {file}"))?;
    }
    fs::write(staged.join("THIRD-PARTY.txt"), licences::of_all_in_it()?)?;
    Ok(())
}

/// Packs a directory, always to the same bytes.
fn pack(directory: &Path, name: &str, tarball: &Path) -> Result<()> {
    let commit = || {
        command::output(Command::new("git").current_dir(repository()).args([
            "log",
            "-1",
            "--format=%ct",
        ]))
    };
    let time = env::var("SOURCE_DATE_EPOCH").ok().or_else(commit);
    let time = time.unwrap_or_else(|| "0".to_owned());
    let plain = tarball.with_extension("");
    command::run(
        Command::new("tar")
            .current_dir(directory)
            .args(["--create", "--format=gnu", "--sort=name"])
            .args(["--owner=0", "--group=0", "--numeric-owner"])
            .args(["--mode=u+rw,go=rX", &format!("--mtime=@{time}")])
            .arg("--file")
            .arg(&plain)
            .arg(name),
    )?;
    // Neither its name nor the time is written into it.
    command::run(Command::new("gzip").args(["-9", "-n", "-f"]).arg(&plain))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
