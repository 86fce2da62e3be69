//! What will run, and which libc it will map, told before it is started.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{
    elf::{Elf, ElfError},
    refusal::Refusal,
    safety,
};

/// What `execvp(3)` searches without a `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// How many scripts may be each other's interpreters: the kernel's own limit.
const SCRIPT_LEVELS: usize = 4;
/// How much of a script's first line the kernel reads, bytes: `BINPRM_BUF_SIZE`.
const SCRIPT_LINE: u64 = 256;
/// Most files that are prepared for a command.
const MOST_EXPECTED: usize = 512;

/// Where libc is, besides beside the dynamic linker.
const LIBRARY_DIRS: [&str; 4] = ["/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"];

/// Why a command cannot be run, or not be traced from its start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// There is no such command.
    #[error("cannot run {}: no such command was found ({source}); check the spelling, or give its path", name.display())]
    NotFound {
        /// What was asked for.
        name: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is there but cannot be executed.
    #[error("cannot run {}: {source}; is it a program, and executable (`chmod +x`)?", path.display())]
    NotExecutable {
        /// What was found.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It can be run but not traced.
    #[error("{} cannot be traced: {refusal}", path.display())]
    Refused {
        /// The program: the command, or the interpreter of the script that it is.
        path: PathBuf,
        /// Why a probe must not go in.
        refusal: Refusal,
    },
    /// It is not a program that we can read.
    #[error("cannot tell what {} will run: {source}; start it yourself and use `highwater record -p PID`", path.display())]
    Unreadable {
        /// The program: the command, or the interpreter of the script that it is.
        path: PathBuf,
        /// What is wrong.
        source: ElfError,
    },
    /// Scripts that name scripts.
    #[error("cannot run {}: more than {SCRIPT_LEVELS} scripts are each other's interpreters", path.display())]
    TooManyInterpreters {
        /// Path of the command that was to be run.
        path: PathBuf,
    },
    /// The dynamic linker is there but no libc.
    #[error(
        "cannot tell which libc {} will use: there is none beside {} nor in the usual directories; start it yourself \
         and use `highwater record -p PID`",
        path.display(), interpreter.display()
    )]
    NoLibc {
        /// Path of the program that was to be run.
        path: PathBuf,
        /// Its dynamic linker.
        interpreter: PathBuf,
    },
}

impl LaunchError {
    /// The exit code for it, as env(1) has it: 127 not found, 126 found but not executable, 125 our own failure.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } | Self::TooManyInterpreters { .. } => 126,
            Self::Refused { .. } | Self::Unreadable { .. } | Self::NoLibc { .. } => 125,
        }
    }
}

/// Finds the file that a command names, as `execvp(3)` and so env(1) would.
///
/// A name with a slash is a path; another is searched in `path_env` (an empty entry is the working directory), past
/// files that cannot be executed. Relative paths are relative to `cwd`.
///
/// # Errors
///
/// [`LaunchError::NotFound`], or [`LaunchError::NotExecutable`] if nothing better than that was found.
pub fn resolve_command(
    name: &OsStr,
    path_env: Option<&OsStr>,
    cwd: &Path,
) -> Result<PathBuf, LaunchError> {
    let not_found = |source| LaunchError::NotFound {
        name: name.into(),
        source,
    };
    if name.is_empty() {
        return Err(not_found(io::ErrorKind::NotFound.into()));
    }
    if name.as_bytes().contains(&b'/') {
        let path = cwd.join(name);
        return match executable(&path) {
            Ok(()) => Ok(path),
            Err(source) if source.raw_os_error() == Some(libc::ENOENT) => Err(not_found(source)),
            Err(source) => Err(LaunchError::NotExecutable { path, source }),
        };
    }
    let mut denied = None;
    for dir in std::env::split_paths(path_env.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        // Joining an empty directory leaves the working directory.
        let path = cwd.join(dir).join(name);
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                denied.get_or_insert((path, source));
            }
            Err(_) => {}
        }
    }
    match denied {
        Some((path, source)) => Err(LaunchError::NotExecutable { path, source }),
        None => Err(not_found(io::ErrorKind::NotFound.into())),
    }
}

/// Whether a file can be executed, by the error that `execve(2)` would give.
fn executable(path: &Path) -> io::Result<()> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    Ok(access(path, Access::EXEC_OK)?)
}

/// Tells which libc a command will map.
///
/// Scripts are followed to the program that interprets them. A prediction: `LD_LIBRARY_PATH`, a run path, or a program
/// that executes another one may lead elsewhere.
///
/// # Errors
///
/// [`LaunchError::Refused`] if what will run cannot be traced, or why nothing can be told.
pub fn predict_libc(command: &Path) -> Result<PathBuf, LaunchError> {
    let program = follow_scripts(command)?;
    let unreadable = |source| LaunchError::Unreadable {
        path: program.clone(),
        source,
    };
    let refused = |refusal| LaunchError::Refused {
        path: program.clone(),
        refusal,
    };
    let file = open(&program)?;
    let elf = Elf::open(&file).map_err(|error| match safety::foreign(&error) {
        Some(refusal) => refused(refusal),
        None => unreadable(error),
    })?;
    if let Some(refusal) = safety::examine_program(&elf) {
        return Err(refused(refusal));
    }
    let interpreter = elf.interpreter().ok_or_else(|| refused(Refusal::NoLibc))?;
    let interpreter_name = interpreter.file_name().unwrap_or_default().as_bytes();
    if interpreter_name.starts_with(b"ld-musl-") {
        return Err(refused(Refusal::Musl));
    }
    // What the process will map has no symbolic links left in its path.
    let real_interpreter = fs::canonicalize(&interpreter).unwrap_or_else(|_| interpreter.clone());
    let beside = real_interpreter.parent().map(Path::to_owned);
    beside
        .into_iter()
        .chain(LIBRARY_DIRS.map(PathBuf::from))
        .filter_map(|dir| fs::canonicalize(dir.join("libc.so.6")).ok())
        .find(|path| is_glibc(path))
        .ok_or_else(|| LaunchError::NoLibc {
            path: program.clone(),
            interpreter,
        })
}

/// The files that a command will map, most likely: the program, its dynamic linker, and the libraries that these ask for, looked
/// for where they say and in the usual places. For preparing what is worth having early; what is missing here is merely found
/// later.
pub fn expect_files(command: &Path) -> Vec<(PathBuf, File)> {
    let Ok(program) = follow_scripts(command) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    let mut wanted = vec![program];
    while let Some(path) = wanted.pop() {
        let Ok(path) = fs::canonicalize(path) else {
            continue;
        };
        if files.len() >= MOST_EXPECTED || !seen.insert(path.clone()) {
            continue;
        }
        let Ok(file) = open(&path) else { continue };
        if let Ok(elf) = Elf::open(&file) {
            wanted.extend(elf.interpreter());
            let (names, own) = elf.needed();
            let beside = path.parent().unwrap_or(Path::new("/"));
            let own: Vec<PathBuf> = own
                .split(|&byte| byte == b':')
                .filter(|dir| !dir.is_empty())
                .map(|dir| in_place_of_origin(dir, beside))
                .collect();
            for name in names {
                let name = Path::new(OsStr::from_bytes(&name)).to_owned();
                let found = own
                    .iter()
                    .cloned()
                    .chain(LIBRARY_DIRS.map(PathBuf::from))
                    .map(|dir| dir.join(&name))
                    .find(|path| path.exists());
                wanted.extend(found);
            }
        }
        files.push((path, file));
    }
    files
}

/// A directory of `DT_RUNPATH`, where `$ORIGIN` is the directory of the file itself.
fn in_place_of_origin(dir: &[u8], origin: &Path) -> PathBuf {
    for token in [&b"$ORIGIN"[..], b"${ORIGIN}"] {
        if let Some(rest) = dir.strip_prefix(token) {
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            return origin.join(OsStr::from_bytes(rest));
        }
    }
    PathBuf::from(OsStr::from_bytes(dir))
}

fn is_glibc(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| {
        Elf::open(&file)
            .and_then(|elf| elf.exports("gnu_get_libc_version"))
            .unwrap_or(false)
    })
}

/// The program that the kernel would run for a command: itself, or its interpreter's interpreter ...
fn follow_scripts(command: &Path) -> Result<PathBuf, LaunchError> {
    let mut program = command.to_owned();
    for _ in 0..=SCRIPT_LEVELS {
        let mut start = Vec::new();
        open(&program)?
            .take(SCRIPT_LINE)
            .read_to_end(&mut start)
            .map_err(|source| LaunchError::Unreadable {
                path: program.clone(),
                source: source.into(),
            })?;
        if start.starts_with(b"\x7fELF") {
            return Ok(program);
        }
        program = match script_interpreter(&start) {
            Some(interpreter) => interpreter,
            // `execvp(3)` hands what the kernel does not know to the shell.
            None => PathBuf::from("/bin/sh"),
        };
    }
    Err(LaunchError::TooManyInterpreters {
        path: command.to_owned(),
    })
}

fn open(path: &Path) -> Result<File, LaunchError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LaunchError::NotFound {
            name: path.to_owned(),
            source,
        },
        // It may be executable all the same.
        _ => LaunchError::Unreadable {
            path: path.to_owned(),
            source: source.into(),
        },
    };
    // Opening a pipe would wait for its other end.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(LaunchError::NotExecutable {
            path: path.to_owned(),
            source: io::Error::from_raw_os_error(libc::EACCES),
        });
    }
    File::open(path).map_err(failed)
}

/// The path after `#!`, as the kernel reads it
/// (<https://github.com/torvalds/linux/blob/v6.12/fs/binfmt_script.c#L34>).
fn script_interpreter(start: &[u8]) -> Option<PathBuf> {
    let line = start.strip_prefix(b"#!")?;
    let line = line.split(|&byte| byte == b'\n').next()?;
    let path = line
        .split(|&byte| matches!(byte, b' ' | b'\t' | 0))
        .find(|part| !part.is_empty())?;
    Some(PathBuf::from(OsString::from_vec(path.to_vec())))
}

#[cfg(test)]
mod tests;
