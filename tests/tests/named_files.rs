//! Files that a target names: what it may not read itself does not reach a recording or a report.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use highwater_tests::{
    CPython, Recorder, Victim, every_cpython, every_sink, open_to_all, privileged, python_victim,
    scratch, unpacked,
};

/// In each text that must not be seen.
const SECRET: &str = "canary";
/// In the text that may be seen.
const PUBLIC: &str = "what everybody may read";

fn text(line: &str) -> String {
    format!("# first\n# {line}\n# third\n")
}

fn write(path: &Path, line: &str, mode: u32) {
    fs::create_dir_all(path.parent().expect("it has a directory")).expect("it can be made");
    fs::write(path, text(line)).expect("it can be written");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode can be set");
}

/// A Python of Debian's, which a root needs no more than /usr and /lib for.
fn python() -> CPython {
    let mut pythons = every_cpython();
    pythons.retain(|python| python.words("named_files.py")[0] == "/usr/bin/python3");
    pythons.pop().expect("Debian's own Python is here")
}

#[test]
fn no_byte_of_what_a_target_may_not_read_comes_of_its_file_names() {
    privileged!();
    python();
    let directory = scratch();
    open_to_all(directory.path());
    let jail = directory.path().join("jail");
    let outside = directory.path().join("outside.py");
    write(&outside, &format!("{SECRET} outside, by a link"), 0o644);
    write(
        &directory.path().join("secret.py"),
        &format!("{SECRET} outside, by its name"),
        0o600,
    );
    let at = |name: &str| jail.join(name.trim_start_matches('/'));
    write(&at("/app/app.py"), PUBLIC, 0o644);
    write(&at("/app/secret.py"), &format!("{SECRET} of root"), 0o600);
    write(&at("/app/newer.py"), "as it was", 0o644);
    write(&at("/app/replaced.py"), "as it was", 0o644);
    // Covered by another mount in the target's namespace.
    write(
        &at("/private/mod.py"),
        &format!("{SECRET} below a mount"),
        0o644,
    );
    write(&at("/own/mod.py"), "in its own mount", 0o644);
    symlink(&outside, at("/app/absolute_link.py")).expect("a link can be made");
    symlink("../../outside.py", at("/app/upward_link.py")).expect("a link can be made");
    symlink("secret.py", at("/app/link.py")).expect("a link can be made");
    let fifo = CString::new(at("/app/fifo.py").as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the name is a C string.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o666) }, 0);
    fs::copy(python_victim("named_files.py"), at("/app/main.py")).expect("it can be copied");
    for name in ["usr", "lib", "lib64", "proc", "dev"] {
        fs::create_dir_all(jail.join(name)).expect("it can be made");
    }
    let names: Vec<String> = [
        "/app/app.py",
        directory
            .path()
            .join("secret.py")
            .to_str()
            .expect("it is text"),
        "/app/secret.py",
        "app/secret.py",
        "secret.py",
        "app.py",
        "/app/../../outside.py",
        "/../outside.py",
        "/app/absolute_link.py",
        "/app/upward_link.py",
        "/app/link.py",
        "/app/fifo.py",
        "/dev/zero",
        "/dev/null",
        "/proc/self/mem",
        "/proc/self/environ",
        "/proc/self/root/app/secret.py",
        "/app/newer.py",
        "/app/replaced.py",
        "/private/mod.py",
    ]
    .map(str::to_owned)
    .to_vec();
    let script = "for d in usr lib lib64 dev; do mount --bind /$d $0/$d; done; mount -t proc proc $0/proc; \
        mount --bind $0/own $0/private; \
        exec chroot $0 /usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups /usr/bin/python3 -I /app/main.py \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-ec", script])
        .arg(&jail)
        .args(&names);
    let mut victim = Victim::start_command(&mut command);
    // Its start is known to a clock tick.
    sleep(Duration::from_millis(50));
    write(&at("/app/newer.py"), &format!("{SECRET} newer"), 0o644);
    write(
        &at("/app/replaced.new"),
        &format!("{SECRET} replaced"),
        0o644,
    );
    let touched = Command::new("touch")
        .args(["-d", "2020-01-01"])
        .arg(at("/app/replaced.new"))
        .status();
    assert!(touched.expect("touch runs").success());
    fs::rename(at("/app/replaced.new"), at("/app/replaced.py")).expect("it can be renamed");

    let file = directory.path().join("recording.hwm");
    let mut command = Recorder::command(victim.pid(), &file, &[]);
    command.env(
        "HIGHWATER_TEST",
        format!("\n{SECRET} of the recorder's own environment"),
    );
    let mut recorder = Recorder::start_command(&file, &mut command);
    recorder.await_words("tracing");
    victim.tell("hold");
    let report = recorder.interrupt();
    victim.quit();

    for name in &names {
        let seen = report.peak().holders.iter().any(|holder| {
            let held_there = holder
                .python
                .iter()
                .any(|frame| frame.file == *name && frame.line == Some(2));
            held_there && holder.bytes >= 100_000
        });
        assert!(seen, "nothing is held in {name}");
    }
    let unpacked = unpacked(&file);
    assert!(unpacked.contains(PUBLIC), "what may be read is not there");
    assert!(
        unpacked.contains("in its own mount"),
        "its own mount is not seen"
    );
    assert!(
        !unpacked.contains(SECRET),
        "{}",
        lines_with(&unpacked, SECRET)
    );
    assert!(!unpacked.contains("as it was"));
    let sinks = every_sink(&file);
    assert!(sinks.iter().any(|sink| sink.has(PUBLIC.as_bytes())));
    for sink in sinks {
        assert!(!sink.has(SECRET.as_bytes()), "{}", sink.name);
    }
}

fn lines_with(text: &str, word: &str) -> String {
    let lines = text.lines().filter(|line| line.contains(word));
    lines.collect::<Vec<_>>().join("\n")
}

/// A tree of processes: the worker was forked after a deploy, and runs what its parent had read before it.
#[test]
fn a_worker_forked_after_a_deploy_has_no_lines_of_the_new_text() {
    privileged!();
    let directory = scratch();
    let script = directory.path().join("app.py");
    let old = "import os, sys\n\
        def work():\n    return bytearray(1_000_000)\n\
        print('READY', flush=True)\n\
        for line in sys.stdin:\n    if line.split() == ['fork']:\n        pid = os.fork()\n        if pid == 0:\n            \
        sys.stdin.readline()\n            held = work()\n            print('DONE hold', flush=True)\n            sys.stdin.readline()\n            os._exit(0)\n        \
        print('TRUTH', f'child={pid}', flush=True)\n        print('DONE fork', flush=True)\n        os.waitpid(pid, 0)\n";
    fs::write(&script, old).expect("it can be written");
    let mut victim = Victim::start_command(Command::new("/usr/bin/python3").arg("-I").arg(&script));
    sleep(Duration::from_millis(50));
    let deployed: PathBuf = directory.path().join("app.py.new");
    fs::write(
        &deployed,
        format!("# licence\n# {SECRET}\n# {SECRET}\n{old}"),
    )
    .expect("it can be written");
    fs::rename(&deployed, &script).expect("it can be renamed");
    sleep(Duration::from_millis(50));
    let child = victim.tell("fork").get("child");
    let file = directory.path().join("recording.hwm");
    let recorder = Recorder::attach(u32::try_from(child).expect("a pid"), &file);
    victim.tell("hold");
    let report = recorder.interrupt();
    let work = report
        .peak()
        .holders
        .into_iter()
        .flat_map(|holder| holder.python);
    let mut work = work.filter(|frame| frame.function == "work");
    assert_eq!(
        work.next().and_then(|frame| frame.line),
        Some(3),
        "the line number stays"
    );
    let unpacked = unpacked(&file);
    assert!(
        !unpacked.contains(SECRET),
        "{}",
        lines_with(&unpacked, SECRET)
    );
    for sink in every_sink(&file) {
        assert!(!sink.has(SECRET.as_bytes()), "{}", sink.name);
    }
}
