//! `cargo xtask ebpf`: builds the BPF object from source and puts it where the package `highwater` includes it.
//!
//! The object is committed, so it has to be the same wherever it is built: paths are mapped away, crate ids come from
//! names ([`crate_ids`]), DWARF is stripped. What is left for the verifier's log is BTF with the text of the source
//! lines (that is why the compiler embeds the sources: bpf-linker would otherwise look for them under the mapped paths).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection};

use crate::toolchain::{self, Toolchain};
use crate::{command, crate_ids, repository, setup, source_hash};

/// Says whether the committed object is older than its sources; if so, that is an error.
pub(crate) fn check() -> Result<()> {
    if let Some(why) = source_hash::staleness(repository())? {
        bail!(
            "the BPF object {} {why}; run `cargo xtask ebpf` and commit what it writes",
            source_hash::OBJECT
        );
    }
    println!("{} is what its sources make", source_hash::OBJECT);
    Ok(())
}

/// Builds the object and seals it with the hash of its sources.
pub(crate) fn build() -> Result<()> {
    let sources = repository().join("tracer-ebpf");
    ensure!(
        sources.join("Cargo.toml").is_file(),
        "there is no BPF crate to build: {} is missing",
        sources.display()
    );
    let (Some(toolchain), Some(linker), Some(objcopy)) = (
        Toolchain::find(),
        toolchain::bpf_linker(),
        toolchain::llvm_objcopy(),
    ) else {
        bail!(
            "this machine cannot build for BPF yet; run `cargo xtask setup`, or:\n{}",
            setup::instructions()
        );
    };
    let target_directory = crate::target_directory().join("ebpf");
    command::run(&mut cargo_build(
        &toolchain,
        &linker,
        &sources,
        &target_directory,
    )?)?;

    let built = target_directory.join("bpfel-unknown-none/release/highwater-ebpf");
    let stripped = target_directory.join("highwater.bpf.o");
    command::run(
        Command::new(objcopy)
            .arg("--strip-debug")
            .args([&built, &stripped]),
    )?;
    let object =
        fs::read(&stripped).with_context(|| format!("cannot read {}", stripped.display()))?;
    inspect(&object).with_context(|| format!("{} is not as it should be", stripped.display()))?;

    let committed = repository().join(source_hash::OBJECT);
    let changed = fs::read(&committed).ok().as_ref() != Some(&object);
    if changed {
        write(&committed, &object)?;
    }
    // Only now, as cargo may have brought the lock file up to date.
    let seal = source_hash::seal(repository())?;
    let seal_file = repository().join(source_hash::SEAL);
    if fs::read_to_string(&seal_file).ok().as_ref() != Some(&seal) {
        write(&seal_file, seal.as_bytes())?;
    }
    println!(
        "{}: {} bytes, {}",
        source_hash::OBJECT,
        object.len(),
        if changed { "written" } else { "unchanged" }
    );
    Ok(())
}

/// The build itself, in a target directory of its own and free of what cargo and rustup told the cargo that runs us.
fn cargo_build(
    toolchain: &Toolchain,
    linker: &Path,
    sources: &Path,
    target_directory: &Path,
) -> Result<Command> {
    let mut cargo = Command::new(toolchain.cargo());
    for (name, _) in env::vars_os() {
        if is_of_outer_cargo(&name) {
            cargo.env_remove(name);
        }
    }
    cargo
        .current_dir(sources)
        .args(["build", "--release", "--target", "bpfel-unknown-none"])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(target_directory)
        // Stable compilers take unstable options under this name; nightly ones do not mind.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", toolchain.rustc())
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain, linker)?);
    if crate::in_ci() {
        cargo.arg("--locked");
    }
    crate_ids::ask_for(&mut cargo)?;
    Ok(cargo)
}

fn is_of_outer_cargo(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    // rustup's proxies and `cargo run` add the libraries of their own toolchain.
    let is_added = ["LD_LIBRARY_PATH", "RUSTUP_TOOLCHAIN", "CARGO"].contains(&name);
    let is_a_setting = name.starts_with("RUST") && name.contains("FLAGS")
        || [
            "RUSTC_",
            "CARGO_BUILD_",
            "CARGO_PROFILE_",
            "CARGO_ENCODED_",
            "CARGO_TARGET_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    is_added || is_a_setting
}

/// The flags, joined as `CARGO_ENCODED_RUSTFLAGS` wants them.
fn rustflags(toolchain: &Toolchain, linker: &Path) -> Result<OsString> {
    let mut flags: Vec<OsString> = [
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        // DWARF 5 has room for the sources that `embed-source` puts into it.
        "-Cdwarf-version=5",
        "-Zembed-source=yes",
    ]
    .map(OsString::from)
    .into();
    let mut flag = OsString::from("-Clinker=");
    flag.push(linker);
    flags.push(flag);
    for (from, to) in mapped_paths(toolchain)? {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    Ok(flags.join(OsStr::new("\x1f")))
}

/// What the paths that would end up in the object are called there. Of two that match, rustc takes the later.
fn mapped_paths(toolchain: &Toolchain) -> Result<Vec<(PathBuf, &'static str)>> {
    let rust = toolchain.sources();
    // Debian's is a link, and the compiler names some files by what it leads to.
    let mut paths = vec![(fs::canonicalize(&rust)?, "/rust"), (rust, "/rust")];
    if let Some(home) = toolchain::cargo_home() {
        // One folder for each registry, named for it and for a hash of its address.
        let registries = fs::read_dir(home.join("registry/src"));
        paths.push((home, "/cargo"));
        for registry in registries.into_iter().flatten() {
            paths.push((registry?.path(), "/registry"));
        }
    }
    paths.push((repository().to_owned(), "/highwater"));
    Ok(paths)
}

/// Makes sure that the object has what the loader needs, and nothing of this machine.
fn inspect(bytes: &[u8]) -> Result<()> {
    let object = object::File::parse(bytes).context("it is no ELF file")?;
    let names: Vec<&str> = object.sections().filter_map(|s| s.name().ok()).collect();
    for needed in [".BTF", ".BTF.ext", "license"] {
        ensure!(names.contains(&needed), "it has no section {needed}");
    }
    if let Some(debug) = names.iter().find(|name| name.contains(".debug_")) {
        bail!("its section {debug} was not stripped");
    }
    for place in [Some(repository().to_owned()), toolchain::cargo_home()]
        .into_iter()
        .flatten()
    {
        let prefix = place.join("").into_os_string().into_encoded_bytes();
        ensure!(
            !bytes.windows(prefix.len()).any(|window| window == prefix),
            "it names {}, a path of this machine",
            place.display()
        );
    }
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // In one step: a build that runs meanwhile sees the old or the new.
    let draft = path.with_extension("new");
    fs::write(&draft, content)
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
