//! Files that views write: of the one who called, readable by nobody else, whole or not there.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater_tests::{
    NOBODY, Recorder, Victim, highwater, highwater_binary, privileged, run, scratch,
};

fn recording(directory: &Path) -> PathBuf {
    let file = directory.join("recording.hwm");
    let mut victim = Victim::start("eight_sites");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("rise");
    recorder.interrupt();
    victim.quit();
    file
}

/// The views that write a file, and the name that each is to have.
const VIEWS: [(&[&str], &str); 10] = [
    (&["flamegraph"], "page.html"),
    (&["flamegraph"], "picture.svg"),
    (&["export", "--format", "collapsed"], "stacks.txt"),
    (&["export", "--format", "pprof"], "profile.pb.gz"),
    (&["export", "--format", "speedscope"], "speedscope.json"),
    (&["export", "--format", "csv"], "holders.csv"),
    (&["export", "--format", "lines"], "lines.csv"),
    (&["export", "--format", "firefox"], "firefox.json"),
    (&["export", "--format", "heaptrack"], "heaptrack.zst"),
    (&["diff"], "difference.html"),
];

fn view(words: &[&str], recording: &Path, output: &Path) -> Command {
    let mut command = highwater();
    command.arg(words[0]).arg(recording);
    if words[0] == "diff" {
        let empty = recording.with_file_name("empty.hwm");
        command.arg(if empty.exists() { &empty } else { recording });
    }
    command.args(&words[1..]).arg("-o").arg(output);
    command
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it can be listed");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("it can be read").file_name();
    entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect()
}

#[test]
fn what_a_view_writes_is_its_callers_alone() {
    privileged!();
    let directory = scratch();
    let recording = recording(directory.path());
    for (words, name) in VIEWS {
        let file = directory.path().join(name);
        let mut command = Command::new("sh");
        let view = view(words, &recording, &file);
        command
            .args(["-c", "umask 000; exec \"$@\"", "sh"])
            .arg(view.get_program())
            .args(view.get_args());
        command
            .env("SUDO_USER", "nobody")
            .env("SUDO_UID", NOBODY.to_string())
            .env("SUDO_GID", NOBODY.to_string());
        run(&mut command).assert_says(0, &["wrote"]);
        let metadata = fs::metadata(&file).expect("it was written");
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600, "{name}");
        assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY), "{name}");
        assert!(metadata.len() > 0);
    }
    let names = names_in(directory.path());
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
}

#[test]
fn a_view_that_fails_leaves_no_file_and_spoils_none() {
    privileged!();
    let directory = scratch();
    let recording = recording(directory.path());
    let small = directory.path().join("small");
    fs::create_dir(&small).expect("it can be made");
    let mut failed = 0;
    for (words, name) in VIEWS {
        // A disk on which there is room for a part of it.
        let script = "mount -t tmpfs -o size=4k,nr_inodes=8 tmpfs \"$0\"; \"$@\"; echo \"$? $(ls -A \"$0\")\"";
        let view = view(words, &recording, &small.join(name));
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", script])
            .arg(&small)
            .arg(view.get_program())
            .args(view.get_args());
        let outcome = run(&mut command);
        // What is small may have had room.
        let left = if outcome.stdout.starts_with('0') {
            name
        } else {
            ""
        };
        assert_eq!(outcome.stdout.trim()[1..].trim(), left, "{outcome:#?}");
        failed += usize::from(left.is_empty());
    }
    assert!(failed >= 3, "{failed} of the views had no room");
    // Nothing to draw: the page of before stays as it is.
    let picture = directory.path().join("picture.svg");
    fs::write(&picture, "of before").expect("it can be written");
    let mut nothing = view(
        &["flamegraph", "--focus", "nobody_is_called_so"],
        &recording,
        &picture,
    );
    run(&mut nothing).assert_says(1, &["nothing"]);
    assert_eq!(
        fs::read_to_string(&picture).expect("it is there"),
        "of before"
    );
    let names = names_in(directory.path());
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
}

#[test]
fn a_view_that_is_killed_leaves_no_file() {
    privileged!();
    let directory = scratch();
    let recording = recording(directory.path());
    let out = directory.path().join("out");
    fs::create_dir(&out).expect("it can be made");
    let mut killed = 0;
    for (words, name) in VIEWS {
        let view = view(words, &recording, &out.join(name));
        let mut command = Command::new("sh");
        // Whoever writes more than a block is killed by SIGXFSZ.
        command
            .args(["-c", "ulimit -f 1; exec \"$@\"", "sh"])
            .arg(view.get_program())
            .args(view.get_args());
        let ended = command.output().expect("it runs").status;
        if ended.success() {
            fs::remove_file(out.join(name)).expect("what is small was written");
        }
        killed += usize::from(ended.signal() == Some(libc::SIGXFSZ));
        assert_eq!(names_in(&out), Vec::<String>::new(), "{name}: {ended}");
    }
    assert!(killed >= 3, "{killed} of the views were killed");
}

#[test]
fn a_page_does_not_go_where_a_link_leads_and_a_pipe_stays_one() {
    privileged!();
    let directory = scratch();
    let recording = recording(directory.path());
    let other = directory.path().join("other");
    fs::write(&other, "somebody's").expect("it can be written");
    let page = directory.path().join("page.html");
    symlink(&other, &page).expect("a link can be made");
    run(&mut view(&["flamegraph"], &recording, &page)).assert_says(0, &["wrote"]);
    assert_eq!(
        fs::read_to_string(&other).expect("it is there"),
        "somebody's"
    );
    assert!(fs::symlink_metadata(&page).expect("it is there").is_file());
    let mut command = Command::new("sh");
    let script = "ln -s /dev/stdout \"$1/out.html\"; \"$0\" flamegraph \"$2\" -o \"$1/out.html\" | grep -c '</html>'; test -L \"$1/out.html\"";
    command
        .args(["-c", script])
        .arg(highwater_binary())
        .arg(directory.path())
        .arg(&recording);
    let outcome = run(&mut command);
    assert_eq!((outcome.code(), outcome.stdout.trim()), (0, "1"));
}
