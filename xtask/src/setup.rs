//! `cargo xtask setup`: installs what a fresh Debian 12 machine lacks to build and test highwater.
//!
//! Runs before every other task that needs it, so it has to be quiet and quick where nothing is to do.

mod archive;
mod c_library;
mod pythons;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::toolchain::{self, BPF_LINKER_VERSION, LLVM_PREFIX, Toolchain};

/// What the BPF object takes. Debian keeps `rustc-web` current for the browsers it ships.
const BPF_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];

/// What the target programs of demo and tests take, and crates with C in them.
const C_PACKAGES: [&str; 4] = ["gcc", "g++", "make", "libc6-dev"];

/// What opens the pages that we make; the package is named as its program.
const BROWSER: &str = "chromium";

/// What reads our exports and manual, runs the examples of `contrib/`, is traced (Python), or debugs what is traced: programs,
/// and the packages that they are in.
const CONSUMERS: [(&str, &str); 9] = [
    ("go", "golang-go"),
    ("heaptrack_print", "heaptrack"),
    ("heaptrack_gui", "heaptrack-gui"),
    ("Xvfb", "xvfb"),
    ("xwininfo", "x11-utils"),
    ("ctest", "cmake"),
    ("python3", "python3"),
    ("gdb", "gdb"),
    ("groff", "groff-base"),
];

/// speedscope is a page; its package needs no others.
const SPEEDSCOPE: &str = "speedscope@1.25.0";

/// What Python programs are held against, and what runs tests in Python, in an environment of its own.
const PEERS: [&str; 3] = ["memray==1.20.0", "numpy==2.4.6", "pytest==9.2.0"];

/// What boots other kernels.
const MACHINE_PACKAGES: [&str; 1] = ["qemu-system-x86"];

/// What `bench` measures beside us, what unpacks their files, and what it measures them on; programs that are named as their packages.
const COMPARED: [&str; 6] = ["bpftrace", "heaptrack", "zstd", "sqlite3", "perl", "git"];

/// One of the files of `libc6-dev`.
const C_LIBRARY: &str = "/usr/include/stdlib.h";

/// Installs everything that is missing, or says what to run where that takes root.
pub(crate) fn run() -> Result<()> {
    if !can_build_bpf() {
        install_packages(&[BPF_PACKAGES, C_PACKAGES].concat())?;
    }
    if Toolchain::find().is_none() {
        bail!(
            "the package rustc-web is older than Rust {}: the archive debian-security has a newer one, or use\n{OTHER_ROUTE}",
            env!("CARGO_PKG_RUST_VERSION")
        );
    }
    for_programs()?;
    if command::find(BROWSER).is_none() {
        install_packages(&[BROWSER])?;
    }
    for_exports()?;
    for_python_peers()?;
    pythons::fetch()?;
    c_library::fetch()?;
    install_lints()?;
    install_linker()
}

/// Installs what the bundled target programs take, and nothing for BPF.
pub(crate) fn for_programs() -> Result<()> {
    let compilers = ["gcc", "g++", "make"];
    if compilers.iter().all(|it| command::find(it).is_some()) && Path::new(C_LIBRARY).exists() {
        return Ok(());
    }
    install_packages(&C_PACKAGES)
}

/// Makes the environment with the tools for Python that highwater is held against.
fn for_python_peers() -> Result<()> {
    let environment = crate::target_directory().join("peers");
    // Written last, so that what is there is whole.
    let made = environment.join(PEERS.join("-"));
    if made.exists() {
        return Ok(());
    }
    let make = || {
        let mut python = Command::new("python3");
        command::run(python.args(["-m", "venv", "--clear"]).arg(&environment))
    };
    // Debian has what makes environments in a package of its own.
    if make().is_err() {
        install_packages(&["python3-venv"])?;
        make()?;
    }
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    command::run(
        Command::new(environment.join("bin/python"))
            .args(install)
            .args(PEERS),
    )
    .context("memray, numpy and pytest could not be fetched from PyPI")?;
    fs::write(&made, "").with_context(|| format!("cannot make {}", made.display()))
}

/// Installs the interpreter of Python programs.
pub(crate) fn for_python() -> Result<()> {
    if command::find("python3").is_none() {
        install_packages(&["python3"])?;
    }
    Ok(())
}

/// Installs what the exports are held against.
fn for_exports() -> Result<()> {
    let is_missing = |program: &str| command::find(program).is_none();
    let missing = CONSUMERS.iter().filter(|(program, _)| is_missing(program));
    let mut packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    let speedscope = crate::target_directory().join("speedscope");
    let fetched = speedscope.join(SPEEDSCOPE);
    if !fetched.exists() && is_missing("npm") {
        packages.push("npm");
    }
    if !packages.is_empty() {
        install_packages(&packages)?;
    }
    if fetched.exists() {
        return Ok(());
    }
    // Unpacked beside its place, so that what is there is whole.
    let fresh = speedscope.join("fresh");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))?;
    }
    fs::create_dir_all(&fresh).with_context(|| format!("cannot make {}", fresh.display()))?;
    command::run(
        Command::new("npm")
            .args(["pack", SPEEDSCOPE, "--silent"])
            .current_dir(&fresh),
    )
    .with_context(|| format!("{SPEEDSCOPE} could not be fetched from the npm registry"))?;
    let archive = format!("{}.tgz", SPEEDSCOPE.replace('@', "-"));
    command::run(
        Command::new("tar")
            .args(["-xzf", &archive])
            .current_dir(&fresh),
    )?;
    fs::rename(fresh.join("package"), &fetched)
        .with_context(|| format!("cannot make {}", fetched.display()))?;
    fs::remove_dir_all(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))
}

/// Installs what the virtual machines of other kernels take.
pub(crate) fn for_machines() -> Result<()> {
    if command::find("qemu-system-x86_64").is_some() {
        return Ok(());
    }
    install_packages(&MACHINE_PACKAGES)
}

/// Installs the tools that highwater is measured beside.
pub(crate) fn for_comparison() -> Result<()> {
    for program in COMPARED {
        if command::find(program).is_none() {
            install_packages(&[program])?;
        }
    }
    Ok(())
}

fn can_build_bpf() -> bool {
    // The linker is built against the packaged LLVM, unless it is there already.
    let llvm = || Path::new(LLVM_PREFIX).join("lib/libLLVM.so").exists();
    Toolchain::find().is_some()
        && toolchain::llvm_objcopy().is_some()
        && (llvm() || toolchain::bpf_linker().is_some())
}

fn install_packages(packages: &[&str]) -> Result<()> {
    if command::find("apt-get").is_none() || !crate::is_root()? {
        bail!(
            "this machine lacks {}; run\n{}",
            packages.join(", "),
            instructions()
        );
    }
    // A mirror that cannot be reached is no reason to stop if the others have what we need.
    if let Err(error) = update_package_lists() {
        eprintln!("xtask: {error:#}; trying with the package lists that are there");
    }
    command::run(
        apt_get()
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages),
    )
}

/// Learns anew which packages the archives have.
pub(crate) fn update_package_lists() -> Result<()> {
    command::run(apt_get().arg("update"))
}

fn apt_get() -> Command {
    let mut apt_get = Command::new("apt-get");
    apt_get
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
    apt_get
}

/// rustup's minimal profile comes without them, but for proxies on the `PATH` that only say so.
fn install_lints() -> Result<()> {
    let cargo = command::cargo();
    let cargo = Path::new(cargo.get_program());
    let lies_beside_cargo = |tool: &str| cargo.with_file_name(tool).is_file();
    if lies_beside_cargo("cargo-fmt") && lies_beside_cargo("cargo-clippy") {
        return Ok(());
    }
    command::run(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))
        .context("the lints need rustfmt and clippy")
}

fn install_linker() -> Result<()> {
    if toolchain::bpf_linker().is_some() {
        return Ok(());
    }
    command::run(&mut linker_install()).with_context(|| {
        format!(
            "bpf-linker {BPF_LINKER_VERSION} could not be installed; all it takes is\n{}",
            instructions()
        )
    })?;
    if toolchain::bpf_linker().is_none() {
        bail!("bpf-linker was installed but does not run; try `bpf-linker --version`");
    }
    Ok(())
}

/// By the toolchain of the host. In the root directory, where no project configures cargo.
fn linker_install() -> Command {
    let mut cargo = command::cargo();
    cargo
        .current_dir("/")
        .env("LLVM_PREFIX", LLVM_PREFIX)
        .env_remove("CARGO_TARGET_DIR")
        .args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION])
        .args(["--locked", "--force"])
        .args(["--no-default-features", "--features", "llvm-22"]);
    cargo
}

const OTHER_ROUTE: &str = "  rustup toolchain install nightly --component rust-src
  and a bpf-linker whose LLVM is at least as new as that nightly's, and llvm-objcopy";

/// The commands that set a machine up by hand.
pub(crate) fn instructions() -> String {
    format!(
        "  sudo apt-get update
  sudo apt-get install -y --no-install-recommends {} {}
  LLVM_PREFIX={LLVM_PREFIX} cargo install bpf-linker --version {BPF_LINKER_VERSION} --locked --force --no-default-features --features llvm-22
or, on a machine without these packages,
{OTHER_ROUTE}
  and gcc, g++, make, {BROWSER}, {}",
        BPF_PACKAGES.join(" "),
        [&C_PACKAGES[..], &[BROWSER], &CONSUMERS.map(|(_, package)| package), &["npm"], &MACHINE_PACKAGES].concat().join(" "),
        CONSUMERS.map(|(program, _)| program).join(", "),
    )
}
