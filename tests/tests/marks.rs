//! Marks that are too many, and marks of those who have no business here.
//!
//! One test runs at a time: a recorder that begins sweeps the socket that another has left.

use std::fs::{self, File, FileTimes};
use std::io::Read as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use highwater_tests::{
    NOBODY, Recorder, Report, Victim, alone, eventually, highwater, patience, privileged, run,
    scratch,
};

/// Where a recorder listens for marks.
fn socket_of(recorder: &Recorder) -> PathBuf {
    PathBuf::from(format!("/run/highwater/{}.sock", recorder.pid()))
}

/// How many marks of that name a recording has.
fn marks_called(report: &Report, name: &str) -> u64 {
    let marks = report.json()["marks"].as_array().expect("marks");
    marks.iter().filter(|mark| mark["name"] == name).count() as u64
}

#[test]
fn a_process_that_floods_is_cut_short_to_the_mark_and_takes_none_from_others() {
    privileged!();
    let _alone = alone();
    let directory = scratch();
    let mut victim = Victim::start("mark_flood");
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("flood.hwm"));
    victim.tell("flood 2");
    // Both children, and the process itself.
    eventually("the children are followed", || {
        Report::so_far(&directory.path().join("flood.hwm"))
            .is_some_and(|report| report.processes().len() == 3)
    });
    for _ in 0..20 {
        victim.tell("quiet 10");
        thread::sleep(Duration::from_millis(100));
    }
    let made = victim.tell("stop").get("made");
    let report = recorder.interrupt();
    victim.quit();

    let json = report.json();
    let flood = marks_called(&report, "flood");
    let spans = json["marks"].as_array().expect("marks").iter();
    let ended = spans
        .filter(|mark| mark["name"] == "flood" && !mark["ended_ns"].is_null())
        .count() as u64;
    assert_eq!(marks_called(&report, "quiet"), 200);
    // Each mark was kept (an end makes no mark of its own where it ends a span) or is counted. Of those that came while their
    // process was being attached to nothing is known.
    let kept = flood + ended;
    let dropped = report.quality("dropped_marks");
    assert!(
        made >= kept + dropped,
        "{made} made, {kept} kept, {dropped} dropped"
    );
    assert!(dropped > 50_000, "{dropped} of {made}");
    let seconds = report.duration_ns() / 1_000_000_000 + 2;
    assert!(kept <= 2 * 1024 * seconds, "{kept} kept in {seconds} s");
    assert_eq!(report.quality("lost_events"), 0, "no size is wrong");
}

#[test]
fn only_root_and_the_users_of_the_target_may_mark() {
    privileged!();
    let _alone = alone();
    let directory = scratch();
    let by_nobody = |name: &str| run(highwater().args(["mark", name]).uid(NOBODY).gid(NOBODY));
    let file = directory.path().join("of_root.hwm");
    let victim = Victim::start("steady");
    let recorder = Recorder::attach(victim.pid(), &file);
    by_nobody("theirs").assert_says(1, &["another user"]);
    let report = recorder.interrupt();
    assert_eq!(marks_called(&report, "theirs"), 0);
    assert!(report.quality("refused_mark_connections") >= 1);
    victim.quit();

    let file = directory.path().join("of_nobody.hwm");
    let program = highwater_tests::victim_program("steady");
    let victim = Victim::start_command(Command::new(program).uid(NOBODY).gid(NOBODY));
    let recorder = Recorder::attach(victim.pid(), &file);
    by_nobody("theirs").assert_says(0, &[&file.display().to_string()]);
    let report = recorder.interrupt();
    assert_eq!(marks_called(&report, "theirs"), 1);
    victim.quit();
}

/// Connects as another user from a thread of its own, so often at once, and holds the connections while `meanwhile` runs.
fn while_nobody_holds(socket: PathBuf, connections: usize, meanwhile: impl FnOnce()) {
    let holder = thread::spawn(move || {
        // SAFETY: the system call itself (unlike libc's function) changes the user of this thread alone.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, -1, NOBODY, -1) };
        assert_eq!(changed, 0);
        let connect = |_| UnixStream::connect(&socket).expect("everyone may ask");
        (0..connections).map(connect).collect::<Vec<_>>()
    });
    let held = holder.join().expect("it connects");
    meanwhile();
    drop(held);
}

#[test]
fn connections_of_others_neither_end_the_listening_nor_stay_open() {
    privileged!();
    let _alone = alone();
    const CONNECTIONS: usize = 900;
    let directory = scratch();
    let file = directory.path().join("held.hwm");
    let victim = Victim::start("steady");
    let recorder = Recorder::attach(victim.pid(), &file);
    let open = || {
        fs::read_dir(format!("/proc/{}/fd", recorder.pid()))
            .expect("its files")
            .count()
    };
    let before = open();
    while_nobody_holds(socket_of(&recorder), CONNECTIONS, || {
        eventually("they are closed", || open() <= before + 4);
        run(highwater().args(["mark", "meanwhile"])).assert_says(0, &["held.hwm"]);
    });
    run(highwater().args(["mark", "afterwards"])).assert_says(0, &["held.hwm"]);
    let report = recorder.interrupt();
    assert!(report.quality("refused_mark_connections") >= CONNECTIONS as u64);
    for name in ["meanwhile", "afterwards"] {
        assert_eq!(marks_called(&report, name), 1, "{name}");
    }
    victim.quit();
}

#[test]
fn connections_that_say_nothing_are_few_and_end_by_themselves() {
    privileged!();
    let _alone = alone();
    let directory = scratch();
    let victim = Victim::start("steady");
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("silent.hwm"));
    let socket = socket_of(&recorder);
    let silent: Vec<UnixStream> = (0..40)
        .map(|_| UnixStream::connect(&socket).expect("root may connect"))
        .collect();
    eventually("a mark is taken again", || {
        run(highwater().args(["mark", "after"]))
            .stderr
            .contains("silent.hwm")
    });
    // All but the four that one may have at once are closed at once, those four after a second.
    for mut connection in silent {
        let limit = connection.set_read_timeout(Some(patience()));
        limit.expect("it takes a limit");
        // It ends, or breaks.
        let _ = connection.read_to_end(&mut Vec::new());
    }
    let report = recorder.interrupt();
    assert!(report.quality("refused_mark_connections") >= 40);
    victim.quit();
}

#[test]
fn the_socket_of_a_killed_recorder_is_swept_and_no_other_file() {
    privileged!();
    let _alone = alone();
    let directory = scratch();
    let victim = Victim::start("steady");
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("killed.hwm"));
    let dead = socket_of(&recorder);
    eventually("its socket is there", || dead.exists());
    recorder.signal(libc::SIGKILL);
    recorder.wait();
    assert!(dead.exists());
    let alive = dead.with_file_name("test-alive.sock");
    let _ = fs::remove_file(&alive);
    let listening = UnixListener::bind(&alive).expect("a socket");
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    for path in [&dead, &alive] {
        // As `touch -d`: a socket cannot be opened.
        let date = format!(
            "@{}",
            long_ago
                .duration_since(SystemTime::UNIX_EPOCH)
                .expect("a time")
                .as_secs()
        );
        let touched = Command::new("touch")
            .arg("-hd")
            .arg(date)
            .arg(path)
            .status();
        assert!(touched.expect("touch runs").success());
    }
    let plain = dead.with_file_name("test-plain.sock");
    let file = File::create(&plain).expect("a file");
    file.set_times(FileTimes::new().set_modified(long_ago))
        .expect("its time");

    let next = Recorder::attach(victim.pid(), &directory.path().join("next.hwm"));
    eventually("the dead socket is gone", || !dead.exists());
    assert!(alive.exists() && plain.exists());
    let own = socket_of(&next);
    eventually("its own socket is there", || own.exists());
    next.interrupt();
    assert!(!own.exists());
    drop(listening);
    for path in [alive, plain] {
        fs::remove_file(path).expect("it was left alone");
    }
    victim.quit();
}
