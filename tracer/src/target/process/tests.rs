use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use super::*;

/// A child that is killed and reaped when dropped.
pub(in crate::target) struct Running(pub(in crate::target) Child);

impl Running {
    pub(in crate::target) fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the program starts"),
        )
    }

    /// `cat`, known to run its `main`: it has echoed a line.
    pub(in crate::target) fn cat() -> Self {
        let mut cat = Self::start(&mut Command::new("cat"));
        cat.say("ready");
        assert_eq!(cat.line(), "ready");
        cat
    }

    pub(in crate::target) fn say(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(in crate::target) fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        line.trim_end().to_owned()
    }

    pub(in crate::target) fn target(&self) -> Target {
        Target::open(self.0.id()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Compiles a C program; the directory goes when dropped.
pub(in crate::target) fn compile(source: &str, flags: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (source_path, program) = (dir.path().join("fixture.c"), dir.path().join("fixture"));
    fs::write(&source_path, source).unwrap();
    let status = Command::new("cc")
        .arg(&source_path)
        .arg("-o")
        .arg(&program)
        .args(flags)
        .status()
        .unwrap();
    assert!(status.success(), "cc compiles the fixture");
    (dir, program)
}

/// Copies a program by another process: had we its copy open for writing, then so might, for a moment, a child that
/// another test forks, and the copy could not be run (`ETXTBSY`).
pub(in crate::target) fn copy_program(from: &str, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp copies {from}");
}

/// A process whose leader thread has exited while another thread reads standard input.
pub(in crate::target) fn leaderless() -> (tempfile::TempDir, Running) {
    let (dir, program) = compile(
        r#"
        #include <pthread.h>
        #include <stdio.h>
        static pthread_t leader;
        static void *run(void *unused) {
            pthread_join(leader, 0);
            puts("ready"); fflush(stdout);
            getchar();
            return unused;
        }
        int main(void) {
            pthread_t thread;
            leader = pthread_self();
            pthread_create(&thread, 0, run, 0);
            pthread_exit(0);
        }"#,
        &["-pthread"],
    );
    let mut running = Running::start(&mut Command::new(program));
    assert_eq!(running.line(), "ready");
    // The leader is joined just before the kernel turns it into a zombie.
    while !running.target().leader_gone {
        std::thread::yield_now();
    }
    (dir, running)
}

#[test]
fn this_process_is_what_it_says_it_is() {
    let target = Target::open(std::process::id()).unwrap();
    assert_eq!(target.pid, std::process::id());
    assert_eq!(target.live_tid, target.pid);
    assert!(!target.leader_gone);
    let program = std::env::args().next().unwrap();
    assert!(target.command.starts_with(&program), "{}", target.command);
    assert!(target.is_alive());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let age = now - u128::from(target.started_unix_ns);
    assert!(
        age < 3600 * 1_000_000_000,
        "started within the hour, not {age} ns ago"
    );
}

#[test]
fn a_process_that_ended_is_not_alive_even_before_it_is_reaped() {
    let mut cat = Running::cat();
    let target = cat.target();
    assert!(target.is_alive());
    drop(cat.0.stdin.take());
    let status = rustix::process::waitid(
        rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&cat.0)),
        rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
    );
    assert!(status.unwrap().is_some());
    assert!(!target.is_alive(), "a zombie");
    assert!(target.refreshed().is_err());
    cat.0.wait().unwrap();
    assert!(!target.is_alive(), "reaped");
    assert!(matches!(
        Target::open(target.pid),
        Err(TargetError::NoSuchProcess { .. })
    ));
}

#[test]
fn the_same_pid_with_another_start_time_is_another_process() {
    let mut target = Target::open(std::process::id()).unwrap();
    target.start_ticks -= 1;
    assert!(!target.is_alive());
}

#[test]
fn no_process_has_pid_zero() {
    assert!(matches!(
        Target::open(0),
        Err(TargetError::NoSuchProcess { pid: 0 })
    ));
    assert!(matches!(
        Target::open(u32::MAX),
        Err(TargetError::NoSuchProcess { .. })
    ));
}

#[test]
fn a_thread_id_is_told_apart_and_its_process_named() {
    let tid = std::thread::spawn(|| {
        let tid = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .cast_unsigned();
        Target::open(tid).unwrap_err()
    })
    .join()
    .unwrap();
    let TargetError::IsThread { pid, .. } = tid else {
        panic!("{tid}")
    };
    assert_eq!(pid, std::process::id());
}

#[test]
fn a_process_without_its_leader_is_seen_through_another_thread() {
    let (_dir, running) = leaderless();
    let target = running.target();
    assert!(target.is_alive());
    assert_ne!(target.live_tid, target.pid);
    assert!(!fs::read(target.proc_dir().join("maps")).unwrap().is_empty());
    assert!(
        fs::read(process_dir(target.pid).join("maps"))
            .unwrap_or_default()
            .is_empty()
    );
}

#[test]
fn descendants_are_children_and_their_children() {
    let mut shell = Running::start(Command::new("sh").args(["-c", "sh -c 'cat; :'; :"]));
    shell.say("ready");
    assert_eq!(shell.line(), "ready");
    let below = descendants(shell.0.id());
    assert_eq!(below.len(), 2, "a shell and its cat: {below:?}");
    assert_eq!(descendants(below[0]), [below[1]]);
    assert!(descendants(std::process::id()).contains(&below[1]));
}

#[test]
fn command_lines_of_any_bytes_are_shown() {
    use std::os::unix::{ffi::OsStrExt, process::CommandExt};
    let mut cat = Command::new("cat");
    cat.arg0(std::ffi::OsStr::from_bytes(b"\xff odd"));
    let mut cat = Running::start(&mut cat);
    cat.say("ready");
    cat.line();
    assert_eq!(cat.target().command, "\u{fffd} odd");
}

#[test]
fn a_command_that_has_ended_is_called_by_the_words_that_it_was_launched_with() {
    let words = ["true", "and", "more"].map(str::to_owned);
    let running = Running::start(Command::new(&words[0]).args(&words[1..]));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut ended = loop {
        let target = running.target();
        // In the midst of its exec it has none either.
        if target.command == "[true]" {
            break target;
        }
        assert!(std::time::Instant::now() < deadline, "it did not end");
    };
    assert!(!ended.has_command_line());
    ended.was_launched_as(&words);
    assert_eq!(ended.command, "true and more");
}
