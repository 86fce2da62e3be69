use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};

use super::*;

/// A root directory with a perf map in it.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("tmp")).unwrap();
        Self(root)
    }

    fn map(&self) -> PathBuf {
        self.0.path().join("tmp/perf-7.map")
    }

    fn write(&self, text: &str) {
        fs::write(self.map(), text).unwrap();
    }

    fn append(&self, text: &str) {
        let mut file = OpenOptions::new().append(true).open(self.map()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn source(&self) -> PerfMapSource {
        PerfMapSource {
            files: Arc::new(NamedFiles::below(self.0.path(), SystemTime::now())),
            ns_pid: 7,
            owner: rustix::process::geteuid().as_raw(),
            started: SystemTime::now(),
        }
    }

    fn names(&self) -> JitNames {
        JitNames::new(self.source())
    }
}

/// Asks for one address, looks, and returns its name.
fn name(names: &mut JitNames, address: u64) -> Option<String> {
    let now = Instant::now();
    names.ask(FrameIndex(0), address, now);
    let looked = names.look(now, usize::MAX);
    names.waiting.clear();
    looked
        .names
        .first()
        .map(|names| names.functions[0].function.clone())
}

#[test]
fn what_is_not_in_the_map_yet_is_named_once_it_is() {
    let root = Root::new();
    let mut names = root.names();
    let now = Instant::now();
    names.ask(FrameIndex(3), 0x1010, now);
    assert_eq!(names.due(), Some(now));
    assert!(names.look(now, usize::MAX).names.is_empty());
    assert_eq!(names.due(), Some(now + LOOK_AGAIN_EVERY));
    root.write("1000 20 half");
    assert!(names.look(now, usize::MAX).names.is_empty());
    root.append(" and half\n");
    let looked = names.look(now, usize::MAX);
    assert_eq!(looked.names[0].frame, FrameIndex(3));
    assert_eq!(looked.names[0].functions[0].function, "half and half");
    assert_eq!((names.due(), looked.nameless), (None, 0));
}

#[test]
fn a_return_to_right_behind_the_code_is_a_return_into_it() {
    let root = Root::new();
    root.write("1000 20 first\n1020 20 second\n");
    let mut names = root.names();
    assert_eq!(name(&mut names, 0x1020).as_deref(), Some("first"));
    assert_eq!(name(&mut names, 0x1000).as_deref(), Some("first"));
    assert_eq!(name(&mut names, 0x1040).as_deref(), Some("second"));
    assert_eq!(name(&mut names, 0x1041), None);
}

#[test]
fn a_map_that_was_replaced_or_written_anew_is_read_from_its_beginning() {
    let root = Root::new();
    root.write("1000 20 first\n");
    let mut names = root.names();
    assert_eq!(name(&mut names, 0x1010).as_deref(), Some("first"));
    // Shorter, then longer, in place; then another file.
    root.write("1000 20 b\n");
    assert_eq!(name(&mut names, 0x1010).as_deref(), Some("b"));
    root.write("2000 20 not what was there\n3000 20 c\n");
    assert_eq!(name(&mut names, 0x1010), None);
    assert_eq!(name(&mut names, 0x3010).as_deref(), Some("c"));
    fs::rename(root.map(), root.0.path().join("old")).unwrap();
    root.write("1000 20 d\n");
    assert_eq!(name(&mut names, 0x1010).as_deref(), Some("d"));
    assert_eq!(name(&mut names, 0x3010), None);
}

#[test]
fn a_map_that_was_removed_is_read_to_its_end() {
    let root = Root::new();
    root.write("1000 20 first\n");
    let mut writer = OpenOptions::new().append(true).open(root.map()).unwrap();
    let mut names = root.names();
    assert_eq!(name(&mut names, 0x1010).as_deref(), Some("first"));
    fs::remove_file(root.map()).unwrap();
    writer.write_all(b"2000 20 second\n").unwrap();
    assert_eq!(name(&mut names, 0x2010).as_deref(), Some("second"));
}

#[test]
fn at_the_end_what_was_written_last_counts_and_the_rest_is_nameless() {
    let root = Root::new();
    let mut names = root.names();
    let now = Instant::now();
    names.ask(FrameIndex(0), 0x1010, now);
    names.ask(FrameIndex(1), 0x5000, now);
    root.write("1000 20 late\nnonsense\n");
    let looked = names.look_finally(now, usize::MAX);
    assert_eq!((looked.names.len(), looked.nameless), (1, 1));
    assert_eq!((names.due(), names.bytes()), (None, 0));
    assert_eq!(names.counts().malformed, 1);
}

#[test]
fn a_map_of_another_user_is_not_trusted() {
    let root = Root::new();
    root.write("1000 20 first\n");
    let owner = fs::metadata(root.map()).unwrap().uid();
    let mut names = root.names();
    let source = names.source.as_mut().unwrap();
    // Root's files are always trusted; as root, the file is given to somebody else.
    if owner == 0 {
        std::os::unix::fs::chown(root.map(), Some(12_345), None).unwrap();
    } else {
        source.owner = owner + 1;
    }
    assert_eq!(name(&mut names, 0x1010), None);
    assert!(names.refused_file);
}

#[test]
fn a_map_of_an_earlier_process_is_not_taken_for_this_ones() {
    let root = Root::new();
    root.write("1000 20 first\n");
    let hour = Duration::from_secs(3600);
    let map = OpenOptions::new().append(true).open(root.map()).unwrap();
    map.set_modified(SystemTime::now() - hour).unwrap();
    let mut names = root.names();
    assert_eq!(name(&mut names, 0x1010), None);
    assert!(names.refused_file);
    // The process writes its own.
    root.write("1000 20 second\n");
    assert_eq!(name(&mut names, 0x1010).as_deref(), Some("second"));
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let root = Root::new();
    let refuses = |root: &Root| {
        let mut names = root.names();
        assert_eq!(name(&mut names, 0x1010), None);
        assert!(names.refused_file);
        fs::remove_file(root.map()).unwrap();
    };
    let fifo = FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, root.map(), fifo, Mode::RUSR, 0).unwrap();
    refuses(&root);
    fs::write(root.0.path().join("elsewhere"), "1000 20 first\n").unwrap();
    std::os::unix::fs::symlink("../elsewhere", root.map()).unwrap();
    refuses(&root);
}

#[test]
fn no_link_leads_out_of_the_root() {
    let outside = Root::new();
    outside.write("1000 20 outside\n");
    let root = Root::new();
    fs::remove_dir(root.0.path().join("tmp")).unwrap();
    let link = |to: &Path| {
        let _ = fs::remove_file(root.0.path().join("tmp"));
        std::os::unix::fs::symlink(to, root.0.path().join("tmp")).unwrap();
    };
    link(&outside.0.path().join("tmp"));
    assert_eq!(name(&mut root.names(), 0x1010), None);
    // An absolute link within the root is one from that root.
    fs::create_dir(root.0.path().join("other")).unwrap();
    link(Path::new("/other"));
    fs::write(root.0.path().join("other/perf-7.map"), "1000 20 inside\n").unwrap();
    assert_eq!(name(&mut root.names(), 0x1010).as_deref(), Some("inside"));
}

#[test]
fn no_more_than_the_most_wait() {
    let root = Root::new();
    let mut names = root.names();
    let now = Instant::now();
    for frame in 0..MOST_WAITING as u32 + 5 {
        names.ask(FrameIndex(frame), 0x1010, now);
    }
    assert_eq!(names.look(now, usize::MAX).nameless, 5);
    assert_eq!(names.waiting.len(), MOST_WAITING);
}
