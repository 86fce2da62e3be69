use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    process::Command,
};

use super::*;
use crate::target::process::tests::Running;

const SECRET: &str = "what only root may read";
const PUBLIC: &str = "what everybody may read";

/// A root directory in which `/secret` is root's own and `/public` is everybody's, beside a file outside of it.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("inside")).unwrap();
        fs::write(root.path().join("outside"), PUBLIC).unwrap();
        for path in ["", "inside", "outside"] {
            set_mode(&root.path().join(path), 0o755);
        }
        let new = Self(root);
        for (name, text, mode) in [("secret", SECRET, 0o600), ("public", PUBLIC, 0o644)] {
            fs::write(new.path(name), text).unwrap();
            set_mode(&new.path(name), mode);
        }
        new
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("inside").join(name)
    }

    /// Files as a process names them that has these rights, and whose program begins now.
    fn with(&self, rights: Rights) -> NamedFiles {
        let files = NamedFiles::below(&self.path(""), SystemTime::now());
        files.seen.lock().unwrap().rights = vec![rights];
        files
    }

    fn own(&self) -> NamedFiles {
        NamedFiles::below(&self.path(""), SystemTime::now())
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn rights(status: &str) -> Rights {
    Rights::of(status.as_bytes(), true).unwrap()
}

fn nobody() -> Rights {
    rights(
        "Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534\nGroups:\t \nCapEff:\t0\n",
    )
}

fn text(files: &NamedFiles, name: &str) -> Result<String, String> {
    let text = files.read_text(Path::new(name), 1 << 20);
    text.map(|text| String::from_utf8(text).unwrap())
        .map_err(|error| error.to_string())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn only_what_its_process_may_read_is_read_for_it() {
    let root = Root::new();
    assert_eq!(text(&root.own(), "/secret").as_deref(), Ok(SECRET));
    if !is_root() {
        return;
    }
    let files = root.with(nobody());
    assert_eq!(text(&files, "/public").as_deref(), Ok(PUBLIC));
    let refused = "its process may not read it";
    assert_eq!(text(&files, "/secret").unwrap_err(), refused);
    symlink("secret", root.path("link")).unwrap();
    let files = root.with(nobody());
    assert_eq!(text(&files, "/link").unwrap_err(), refused);
    fs::create_dir(root.path("closed")).unwrap();
    fs::write(root.path("closed/in"), PUBLIC).unwrap();
    set_mode(&root.path("closed"), 0o700);
    assert_eq!(
        text(&root.with(nobody()), "/closed/in").unwrap_err(),
        refused
    );
    // This thread has what it had.
    assert_eq!(text(&root.own(), "/secret").as_deref(), Ok(SECRET));
}

#[test]
fn groups_and_access_lists_decide_as_for_the_process_itself() {
    if !is_root() {
        return;
    }
    let root = Root::new();
    std::os::unix::fs::chown(root.path("secret"), Some(0), Some(4711)).unwrap();
    set_mode(&root.path("secret"), 0o640);
    let ids = "Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534\n";
    let member = rights(&format!("{ids}Groups:\t12 4711 \nCapEff:\t0\n"));
    assert_eq!(text(&root.with(member), "/secret").as_deref(), Ok(SECRET));
    let reader = rights(&format!("{ids}Groups:\t\nCapEff:\t4\n"));
    assert_eq!(text(&root.with(reader), "/secret").as_deref(), Ok(SECRET));
    // Root without its capabilities is a user like others.
    let weak = rights("Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t\nCapEff:\t0\n");
    std::os::unix::fs::chown(root.path("secret"), Some(4711), Some(4711)).unwrap();
    assert!(text(&root.with(weak), "/secret").is_err());
    deny_to_nobody(&root.path("public"));
    assert!(text(&root.with(nobody()), "/public").is_err());
}

/// Gives a file that everybody may read an access list by which one user may not, which its mode does not show.
fn deny_to_nobody(path: &Path) {
    // `struct posix_acl_xattr_entry` of `linux/posix_acl_xattr.h`: tag, permissions, id.
    const NO_ID: u32 = u32::MAX;
    let entries = [
        (0x01u16, 6u16, NO_ID), // its owner
        (0x02, 0, 65534),       // one user
        (0x04, 4, NO_ID),       // its group
        (0x10, 4, NO_ID),       // the most that users and groups named here get
        (0x20, 4, NO_ID),       // all others
    ];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "system.posix_acl_access", &list, flags).unwrap();
}

#[test]
fn rights_gained_after_a_file_was_named_do_not_open_it() {
    if !is_root() {
        return;
    }
    let root = Root::new();
    let files = root.with(nobody());
    files.seen.lock().unwrap().rights.push(Rights::our_own());
    assert!(text(&files, "/secret").is_err());
    assert_eq!(text(&files, "/public").as_deref(), Ok(PUBLIC));
}

#[test]
fn no_name_leads_out_of_the_root() {
    let root = Root::new();
    symlink(root.0.path().join("outside"), root.path("absolute")).unwrap();
    symlink("../outside", root.path("upwards")).unwrap();
    symlink("/public", root.path("within")).unwrap();
    let files = root.own();
    for name in [
        "/absolute",
        "/upwards",
        "/../outside",
        "/x/../../outside",
        "public",
        "./public",
    ] {
        assert!(text(&files, name).is_err(), "{name}");
    }
    for name in ["/within", "/../public", "/../../public"] {
        assert_eq!(text(&files, name).as_deref(), Ok(PUBLIC), "{name}");
    }
}

#[test]
fn what_stores_no_text_is_not_opened() {
    let root = Root::new();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.path("fifo"), Mode::RUSR).unwrap();
    assert_eq!(
        text(&root.own(), "/fifo").unwrap_err(),
        "not a regular file"
    );
    assert_eq!(text(&root.own(), "/").unwrap_err(), "not a regular file");
    let machine = NamedFiles::below(Path::new("/"), SystemTime::now());
    for name in [
        "/dev/zero",
        "/dev/null",
        "/proc/self/mem",
        "/proc/self/environ",
        "/sys/kernel/uevent_seqnum",
    ] {
        assert!(text(&machine, name).is_err(), "{name}");
    }
    for name in [
        "/proc/self/fd/0",
        "/proc/self/root/etc/passwd",
        "/proc/self/exe",
        "/dev/stdin",
    ] {
        assert!(
            machine.open(Path::new(name), Wanted::Any).is_err(),
            "{name}"
        );
    }
    assert!(root.own().read_text(Path::new("/public"), 3).is_err());
}

#[test]
fn text_that_changed_after_the_program_began_is_not_its_text() {
    let root = Root::new();
    let pass = || thread::sleep(3 * START_IS_WITHIN);
    let files = root.own();
    assert_eq!(text(&files, "/public").as_deref(), Ok(PUBLIC));
    symlink("public", root.path("current")).unwrap();
    let files = root.own();
    assert_eq!(text(&files, "/current").as_deref(), Ok(PUBLIC));
    pass();
    // A deploy that switches a link to what was there before.
    fs::remove_file(root.path("current")).unwrap();
    symlink("secret", root.path("current")).unwrap();
    assert!(text(&files, "/current").is_err());
    // A file put in the place of another, with times of long ago.
    fs::write(root.path("new"), PUBLIC).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(86400);
    let new = File::options().write(true).open(root.path("new")).unwrap();
    new.set_modified(long_ago).unwrap();
    fs::rename(root.path("new"), root.path("public")).unwrap();
    assert_eq!(text(&files, "/public").unwrap_err(), CHANGED);
    let file = files.open(Path::new("/public"), Wanted::Any).unwrap();
    assert!(
        file.metadata().unwrap().modified().unwrap()
            < SystemTime::now() - Duration::from_secs(3600)
    );
}

#[test]
fn a_name_that_is_a_link_is_not_followed_where_others_may_write() {
    let root = Root::new();
    symlink("public", root.path("link")).unwrap();
    assert!(root.own().open(Path::new("/link"), Wanted::NoLink).is_err());
    assert!(
        root.own()
            .open(Path::new("/public"), Wanted::NoLink)
            .is_ok()
    );
}

#[test]
fn a_forked_process_has_the_program_of_the_one_that_forked_it() {
    let mut shell = Command::new("sh");
    // A shell forks for what is in parentheses, and waits there for a program of its own.
    shell.args(["-c", "sleep 0.2; (sleep 20; true) & cat"]);
    let running = Running::start(&mut shell);
    let parent = running.target();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let child = loop {
        let child = crate::target::descendants(parent.pid)
            .into_iter()
            .filter_map(|pid| Target::open(pid).ok())
            // Not the one that is about to become the first program, in the same tick as the shell was made.
            .find(|child| {
                child.command.starts_with("sh ") && child.start_ticks > parent.start_ticks
            });
        if let Some(child) = child {
            break child;
        }
        assert!(std::time::Instant::now() < deadline, "no child came");
    };
    let between = |one: u64, other: u64| Duration::from_nanos(one.abs_diff(other));
    let began = child.program_began_unix_ns();
    assert!(between(began, parent.started_unix_ns) < START_IS_WITHIN);
    let ours = Target::open(std::process::id()).unwrap();
    assert!(parent.program_began_unix_ns() > ours.started_unix_ns);
}

#[test]
fn the_files_of_a_process_are_opened_in_its_own_root() {
    let running = Running::cat();
    let files = NamedFiles::of(&running.target()).unwrap();
    let file = files.open(Path::new("/etc/passwd"), Wanted::Any).unwrap();
    assert_eq!(
        inode(&file.metadata().unwrap()),
        inode(&fs::metadata("/etc/passwd").unwrap())
    );
    drop(running);
    // It has ended; its root is held.
    files.open(Path::new("/etc/passwd"), Wanted::Any).unwrap();
}
