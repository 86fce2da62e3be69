//! What was probably meant by a command line that makes no sense.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::words::printable;

/// What is said where nothing was asked.
pub(super) const NOTHING_ASKED: &str = "\
highwater: who held the memory at the high-water mark?

    sudo highwater record -p PID         # attach; Ctrl-C ends it, and the answer is shown
    sudo highwater record -- COMMAND     # launch a command, and trace it from its start
    highwater report                     # the newest recording here, once more

`highwater --help` lists all verbs; `highwater VERB --help` has examples of each.
";

/// Most processes listed.
const MOST_LISTED: usize = 5;
/// Most characters shown of a command line.
const MOST_SHOWN: usize = 90;
/// Most processes between one and the one that it comes from.
const MOST_ANCESTORS: usize = 64;
/// Most bytes read of a command line.
const MOST_READ: u64 = 4096;

/// A process's number, or the name of the one process that is called so; the error says which have that name.
///
/// A server and the processes that it made count as one, since those are followed with it. The name is the program's, or that which
/// the kernel has for it; others that have the word somewhere in their names are listed, and not taken.
pub(super) fn pid(text: &str) -> Result<u32, String> {
    if let Ok(pid) = text.parse() {
        return Ok(pid);
    }
    let number = text.strip_prefix(['-', '+']).unwrap_or(text);
    if number.is_empty() || number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("no process has that number".to_owned());
    }
    let named = running(text);
    let called = named.iter().filter(|process| process.is_called_so);
    let pids: Vec<u32> = called.map(|process| process.pid).collect();
    if let Some(ancestor) = common_ancestor(&pids, parent) {
        return Ok(ancestor);
    }
    if named.is_empty() {
        return Err("that is no pid, and no process of that name is running either".to_owned());
    }
    let mut said = match pids.len() {
        0 => "no process is called just so. With the word in their names are running:".to_owned(),
        _ => "more than one process has that name:".to_owned(),
    };
    for Named { pid, command, .. } in named.iter().take(MOST_LISTED) {
        said.push_str(&format!("\n{pid:>9}  {command}"));
    }
    if named.len() > MOST_LISTED {
        said.push_str(&format!(
            "\n{:>9}  and {} more",
            "",
            named.len() - MOST_LISTED
        ));
    }
    if let Some(Named { pid, .. }) = named.first() {
        said.push_str(&format!("\n\nSo: highwater record -p {pid}"));
    }
    Err(said)
}

/// The one of these processes that all others come from.
fn common_ancestor(pids: &[u32], parent: impl Fn(u32) -> Option<u32>) -> Option<u32> {
    let comes_from = |pid: u32, ancestor: u32| {
        let line = std::iter::successors(Some(pid), |&pid| parent(pid));
        line.take(MOST_ANCESTORS).any(|pid| pid == ancestor)
    };
    let is_common = |ancestor: &u32| pids.iter().all(|&pid| comes_from(pid, *ancestor));
    pids.iter().copied().find(is_common)
}

/// The pid of a process's parent.
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().filter(|&parent: &u32| parent != 0)
}

/// A process that has a word in its names.
struct Named {
    pid: u32,
    /// Its command line, printable.
    command: String,
    /// The word is its program's name, or the kernel's for it.
    is_called_so: bool,
}

/// Processes of a name: those whose program, script or name for the kernel is just that, or else those that have the word in it.
fn running(name: &str) -> Vec<Named> {
    let wanted = file_name(name);
    let own = std::process::id();
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid.filter(|&pid: &u32| pid != own) else {
            continue;
        };
        let words = command_line(&entry.path());
        // A process of the kernel has none.
        if !words.is_empty() {
            let comm = fs::read(entry.path().join("comm")).unwrap_or_default();
            let comm = String::from_utf8_lossy(&comm).trim_end().to_owned();
            // An interpreter's script is the second word.
            let script = words.get(1).map(|word| file_name(word));
            processes.push((pid, [file_name(&words[0]), comm], script, words.join(" ")));
        }
    }
    processes.sort_unstable_by_key(|(pid, ..)| *pid);
    let with = |is: &dyn Fn(&str) -> bool| -> Vec<Named> {
        let found = processes.iter().filter(|(_, names, script, _)| {
            let mut names = names.iter().chain(script);
            names.any(|name| is(name))
        });
        found
            .map(|(pid, names, _, line)| Named {
                pid: *pid,
                command: printable(line).chars().take(MOST_SHOWN).collect(),
                is_called_so: names.contains(&wanted),
            })
            .collect()
    };
    let exactly = with(&|name| name == wanted);
    match exactly.is_empty() {
        true => with(&|name| name.contains(&wanted)),
        false => exactly,
    }
}

/// The words of a process's command line.
fn command_line(process: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    // It may have ended just now.
    if let Ok(file) = File::open(process.join("cmdline")) {
        let _ = file.take(MOST_READ).read_to_end(&mut bytes);
    }
    let words = bytes
        .split(|&byte| byte == 0)
        .filter(|word| !word.is_empty());
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

fn file_name(path: &str) -> String {
    let name = path.trim_end_matches('/').rsplit('/').next();
    name.unwrap_or(path).to_owned()
}

/// The command line with the `--` that was left out before the command to launch.
pub(super) fn with_dashes(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let words: Vec<String> = arguments
        .iter()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let (options, command) = match error.kind() {
        ErrorKind::UnknownArgument if words.first()? == "record" => {
            let unknown = text(ContextKind::InvalidArg).filter(|word| !word.starts_with('-'))?;
            let at = words.iter().skip(1).position(|word| word == unknown)? + 1;
            words.split_at(at)
        }
        // The verb was left out, too. A verb with a slip in it is clap's.
        ErrorKind::InvalidSubcommand if error.get(ContextKind::SuggestedSubcommand).is_none() => {
            (&["record".to_owned()][..], &words[..])
        }
        _ => return None,
    };
    let attaches = |word: &String| word.starts_with("-p") || word.starts_with("--pid");
    if options.iter().any(attaches) {
        return None;
    }
    let words = options
        .iter()
        .map(String::as_str)
        .chain(["--"])
        .chain(command.iter().map(String::as_str));
    let shown: Vec<String> = words.map(quoted).collect();
    Some(format!("highwater {}", shown.join(" ")))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", printable(word).replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_pid_and_nothing_else_is() {
        assert_eq!(pid("1"), Ok(1));
        for text in ["", "-1", "99999999999", "no-such-program-anywhere"] {
            assert!(pid(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_and_its_workers_are_one_and_two_servers_are_not() {
        let parent = |pid| match pid {
            11 | 12 => Some(10),
            13 => Some(12),
            10 | 20 => Some(1),
            _ => None,
        };
        assert_eq!(common_ancestor(&[10, 11, 13], parent), Some(10));
        assert_eq!(common_ancestor(&[13], parent), Some(13));
        assert_eq!(common_ancestor(&[10, 11, 20], parent), None);
        assert_eq!(common_ancestor(&[11, 12], parent), None);
        assert_eq!(common_ancestor(&[], parent), None);
    }

    #[test]
    fn words_are_shown_as_a_shell_takes_them() {
        assert_eq!(quoted("x.py"), "x.py");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("\x1b[2J"), "'\\x1b[2J'");
    }
}
