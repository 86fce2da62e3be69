//! The programs that tests run: highwater as cargo built it, and the victims, built here.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// A command that runs the highwater under test.
pub fn highwater() -> Command {
    Command::new(highwater_binary())
}

/// Where the highwater under test is.
pub fn highwater_binary() -> PathBuf {
    if let Some(path) = env::var_os("HIGHWATER") {
        let path = PathBuf::from(path);
        assert!(
            path.is_file(),
            "HIGHWATER names {}, which is no file",
            path.display()
        );
        return path;
    }
    let path = profile_directory().join("highwater");
    assert!(
        path.is_file(),
        "{} is missing: build it with `cargo build -p highwater` in the same profile, or name one in HIGHWATER",
        path.display()
    );
    path
}

/// The Python of the environment that has numpy, memray and pytest.
#[track_caller]
pub fn peers_python() -> PathBuf {
    let python = profile_directory().join("../peers/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run `cargo xtask setup`",
        python.display()
    );
    python
}

/// Where the page of speedscope lies.
#[track_caller]
pub fn speedscope() -> PathBuf {
    let target = profile_directory().join("../speedscope");
    let versions = fs::read_dir(&target).map(|entries| entries.flatten().map(|entry| entry.path()));
    let pages = versions
        .into_iter()
        .flatten()
        .map(|version| version.join("dist/release"));
    pages
        .filter(|page| page.join("index.html").is_file())
        .max()
        .unwrap_or_else(|| {
            panic!(
                "there is no speedscope in {}: `cargo xtask setup` fetches it",
                target.display()
            )
        })
}

/// `target/debug` or its like: this test's executable lies in `deps` in it.
pub(crate) fn profile_directory() -> PathBuf {
    let executable = env::current_exe().expect("this test knows its own path");
    executable
        .parent()
        .and_then(Path::parent)
        .expect("cargo puts tests into target/PROFILE/deps")
        .to_owned()
}

/// Where the built victim of that name is. It is built if it is missing or older than any source of the victims.
#[track_caller]
pub fn victim_program(name: &str) -> PathBuf {
    try_victim_program(name).unwrap_or_else(|reason| panic!("cannot build victim {name}: {reason}"))
}

/// The same for a victim that not every compiler can build; the error is the compiler's.
pub fn try_victim_program(name: &str) -> Result<PathBuf, String> {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    if let Some(directory) = env::var_os("HIGHWATER_VICTIMS") {
        return prebuilt(Path::new(&directory), name);
    }
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(name) {
        return Ok(path.clone());
    }
    let path = build(name)?;
    built.insert(name.to_owned(), path.clone());
    Ok(path)
}

/// A victim that was built elsewhere, for a place without compilers.
fn prebuilt(directory: &Path, name: &str) -> Result<PathBuf, String> {
    let path = directory.join(name);
    if !path.is_file() {
        return Err(format!("{} was not built", path.display()));
    }
    Ok(path)
}

/// Victims that are libraries, and so have no `main`.
const LIBRARIES: &[&str] = &[
    "interposer.so",
    "one_function.so",
    "opened.so",
    "opened_other.so",
    "plt.so",
];

/// The names of all victims, libraries among them.
pub fn victim_names() -> Vec<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("victims");
    let entries = fs::read_dir(&sources)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", sources.display()));
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "c" || extension == "cc")
        })
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        // A part of others.
        .filter(|stem| stem != "backtrace")
        .map(|stem| {
            let library = format!("{stem}.so");
            if LIBRARIES.contains(&library.as_str()) {
                library
            } else {
                stem
            }
        })
        .chain(["static".to_owned()])
        .collect();
    names.sort();
    names
}

/// How a victim is compiled.
struct Recipe {
    source: PathBuf,
    /// What is compiled to an object and linked with it.
    beside: Option<&'static str>,
    /// Victims that are libraries of this one.
    libraries: &'static [&'static str],
    flags: &'static [&'static str],
}

/// Victims walk like programs that keep frame pointers, and every call of the allocator stays a call.
const FLAGS: &[&str] = &[
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fno-builtin",
    "-pthread",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
];

/// The truth about stacks is that of programs as distributions build them; they export what their libraries call.
const STACK_FLAGS: &[&str] = &[
    "-O2",
    "-g",
    "-fomit-frame-pointer",
    "-fno-builtin",
    "-pthread",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-rdynamic",
    "-Wl,-z,lazy",
];

/// The same, with a function of ours in front of the runtime's.
const THROWING_FLAGS: &[&str] = &[
    "-O2",
    "-g",
    "-fomit-frame-pointer",
    "-fno-builtin",
    "-pthread",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Wl,-z,lazy,--wrap=__cxa_allocate_exception",
];

/// The same for a library.
const LIBRARY_FLAGS: &[&str] = &[
    "-O2",
    "-g",
    "-fomit-frame-pointer",
    "-fno-builtin",
    "-fPIC",
    "-shared",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Wl,-z,lazy",
];

const RUST_FLAGS: &[&str] = &[
    "--edition=2024",
    "-O",
    "-g",
    "-C",
    "force-frame-pointers=no",
    "-C",
    "panic=unwind",
];

/// How the victim of that name is compiled, from the sources in that directory.
fn recipe(name: &str, sources: &Path) -> Recipe {
    let recipe = |source: &str, beside, libraries, flags| Recipe {
        source: sources.join(source),
        beside,
        libraries,
        flags,
    };
    match name {
        "static" => recipe(
            "steady.c",
            None,
            &[],
            &["-O1", "-g", "-static", "-pthread", "-D_GNU_SOURCE"],
        ),
        // Needs the compiler's and linker's 32-bit modes, but no 32-bit libc.
        "elf32" => recipe(
            "elf32.c",
            None,
            &[],
            &[
                "-m32",
                "-O1",
                "-nostdlib",
                "-static",
                "-fno-pie",
                "-no-pie",
                "-fno-stack-protector",
            ],
        ),
        "unwound_stacks" => recipe(
            "unwound_stacks.cc",
            Some("backtrace.c"),
            &[],
            THROWING_FLAGS,
        ),
        _ => {
            let stem = name.trim_end_matches(".so");
            let source = ["c", "cc", "rs"]
                .map(|extension| sources.join(stem).with_extension(extension))
                .into_iter()
                .find(|source| source.is_file())
                .unwrap_or_else(|| sources.join(stem).with_extension("c"));
            let libraries: &[&str] = match name {
                "whole_stack" => &["plt.so"],
                _ => &[],
            };
            let (beside, flags) = if name.ends_with(".so") {
                (None, LIBRARY_FLAGS)
            } else if source
                .extension()
                .is_some_and(|extension| extension == "rs")
            {
                (Some("backtrace.c"), RUST_FLAGS)
            } else if STACK_VICTIMS.contains(&name) {
                (Some("backtrace.c"), STACK_FLAGS)
            } else {
                (None, FLAGS)
            };
            Recipe {
                source,
                beside,
                libraries,
                flags,
            }
        }
    }
}

/// The victims that tell the truth about their stacks.
const STACK_VICTIMS: &[&str] = &[
    "alternating_stacks",
    "counting_registers",
    "coroutine",
    "deep_stack",
    "moving_frames",
    "opened_code",
    "own_stacks",
    "probed_frames",
    "signal_frames",
    "thread_stacks",
    "whole_stack",
];

fn build(name: &str) -> Result<PathBuf, String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("victims");
    let directory = profile_directory().join("victims");
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    // Test executables may run at the same time; the lock goes with the file.
    let lock = File::create(directory.join(".lock")).map_err(|error| format!("lock: {error}"))?;
    lock.lock().map_err(|error| format!("lock: {error}"))?;
    build_in(&directory, &sources, name)
}

/// Builds a victim into a directory, and its libraries before it.
fn build_in(directory: &Path, sources: &Path, name: &str) -> Result<PathBuf, String> {
    let recipe = recipe(name, sources);
    let program = directory.join(name);
    if modified(&program) > newest(sources)? {
        return Ok(program);
    }
    let mut linked = Vec::new();
    for library in recipe.libraries {
        build_in(directory, sources, library)?;
        linked.push(OsString::from(format!("-l:{library}")));
    }
    if !linked.is_empty() {
        // Found beside the victim wherever that lies: the machines of `cargo xtask vm` have it elsewhere.
        let mut place = OsString::from("-L");
        place.push(directory);
        linked.extend([place, "-Wl,-rpath,$ORIGIN".into()]);
    }
    // A victim may be running from the old file: the new one takes its name, not its place.
    let fresh = directory.join(format!("{name}.new"));
    if let Some(source) = recipe.beside {
        let object = directory.join(format!("{name}.o"));
        let mut command = Command::new("cc");
        command
            .args(STACK_FLAGS)
            .arg("-c")
            .arg(sources.join(source));
        compile(command.arg("-o").arg(&object))?;
        linked.push(object.into());
    }
    let extension = recipe.source.extension().and_then(|name| name.to_str());
    let mut command = match extension {
        Some("rs") => Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())),
        Some("cc") => Command::new("c++"),
        _ => Command::new("cc"),
    };
    command.args(recipe.flags).arg(&recipe.source);
    if extension == Some("rs") {
        for file in linked {
            command
                .arg("-C")
                .arg(format!("link-arg={}", Path::new(&file).display()));
        }
    } else {
        command.args(linked);
    }
    compile(command.arg("-o").arg(&fresh))?;
    fs::rename(&fresh, &program).map_err(|error| format!("{}: {error}", fresh.display()))?;
    Ok(program)
}

/// Runs a compiler; the error is what it said.
fn compile(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {said}"))
}

/// When a file was last written; long ago if it does not exist.
fn modified(path: &Path) -> SystemTime {
    path.metadata()
        .and_then(|metadata| metadata.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// When any of the sources was last written, this recipe included.
fn newest(sources: &Path) -> Result<SystemTime, String> {
    let entries =
        fs::read_dir(sources).map_err(|error| format!("{}: {error}", sources.display()))?;
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/program.rs");
    let times = entries
        .flatten()
        .map(|entry| modified(&entry.path()))
        .chain([modified(&recipe)]);
    times
        .max()
        .ok_or_else(|| format!("{} is empty", sources.display()))
}
