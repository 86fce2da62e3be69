//! The directories in which recorders have their sockets, and the sockets in them.

use std::{
    fs::{self, DirBuilder, DirEntry},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType,
    sockopt::{Timeout, set_socket_timeout},
};

/// Where root's recorders have their sockets.
const OF_ROOT: &str = "/run/highwater";
/// How the names of sockets end.
const ENDING: &str = ".sock";
/// A socket that nobody answers is left alone so long: its recorder may be about to listen.
const YOUNG: Duration = Duration::from_secs(2);
/// Recorders of the same pid, of other pid namespaces, that may share a directory.
const NAMES: u32 = 16;

/// Where recorders have their sockets, root's first.
pub(super) fn directories() -> Vec<PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(|of| PathBuf::from(of).join("highwater"));
    std::iter::once(PathBuf::from(OF_ROOT)).chain(own).collect()
}

/// The sockets in a directory.
pub(super) fn sockets_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(is_socket)
        .map(|entry| entry.path())
        .collect()
}

fn is_socket(entry: &DirEntry) -> bool {
    let named = entry.file_name().to_string_lossy().ends_with(ENDING);
    // Of the entry itself: a symbolic link is none.
    named && entry.file_type().is_ok_and(|kind| kind.is_socket())
}

/// Connects, and gives up after `patience`, also where the other side has no room for one more.
pub(super) fn connect(socket: &Path, patience: Duration) -> io::Result<UnixStream> {
    let stream = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    for which in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&stream, which, Some(patience))?;
    }
    rustix::net::connect(&stream, &SocketAddrUnix::new(socket)?)?;
    Ok(UnixStream::from(stream))
}

/// Listens at a new socket in the first directory that can be used.
pub(super) fn bind() -> io::Result<(UnixListener, PathBuf)> {
    let mut last = io::Error::other("there is no directory for it");
    for directory in directories() {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory);
        match made
            .and_then(|()| check(&directory))
            .and_then(|()| bind_in(&directory))
        {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_in(directory: &Path) -> io::Result<(UnixListener, PathBuf)> {
    sweep(directory);
    let pid = std::process::id();
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for number in 0..NAMES {
        let name = match number {
            0 => format!("{pid}{ENDING}"),
            number => format!("{pid}-{number}{ENDING}"),
        };
        let socket = directory.join(name);
        match UnixListener::bind(&socket) {
            Ok(listener) => {
                // Everyone may ask; who asks decides whether there is an answer.
                fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
                return Ok((listener, socket));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Whether nobody but us can have put anything into the directory, or the directory there.
fn check(directory: &Path) -> io::Result<()> {
    let is = fs::symlink_metadata(directory)?;
    let ours = is.uid() == rustix::process::geteuid().as_raw();
    if is.is_dir() && ours && is.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{} is not a directory that we alone may write to",
        directory.display()
    )))
}

/// Removes the sockets of recorders that were killed: those that nobody listens at. Does nothing in a directory that is not ours.
pub(super) fn sweep(directory: &Path) {
    if check(directory).is_err() {
        return;
    }
    for socket in sockets_in(directory) {
        if is_dead(&socket) {
            log::info!("{}: its recorder is gone; removed", socket.display());
            // Another recorder may have done so.
            let _ = fs::remove_file(&socket);
        }
    }
}

fn is_dead(socket: &Path) -> bool {
    let made = fs::symlink_metadata(socket).and_then(|is| is.modified());
    let old = made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age >= YOUNG));
    // One that has no room for us is not dead.
    let asked = || connect(socket, Duration::from_millis(1));
    old && asked().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    /// Puts a file's last change into the past.
    fn age(path: &Path) {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
        let then = SystemTime::now() - Duration::from_secs(60);
        let since = then.duration_since(SystemTime::UNIX_EPOCH).expect("a time");
        let then = Timespec {
            tv_sec: since.as_secs() as i64,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: then,
            last_modification: then,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("its time is set");
    }

    #[test]
    fn only_sockets_that_nobody_listens_at_are_swept() {
        let scratch = tempfile::tempdir().expect("a directory");
        let directory = scratch.path();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("its mode");
        let at = |name: &str| directory.join(name);
        drop(UnixListener::bind(at("1.sock")).expect("it listens"));
        let _alive = UnixListener::bind(at("2.sock")).expect("it listens");
        drop(UnixListener::bind(at("3.sock")).expect("it listens"));
        fs::write(at("4.sock"), "no socket").expect("a file");
        std::os::unix::fs::symlink(at("1.sock"), at("5.sock")).expect("a link");
        drop(UnixListener::bind(at("other")).expect("it listens"));
        for name in ["1.sock", "2.sock", "4.sock", "5.sock", "other"] {
            age(&at(name));
        }

        sweep(directory);
        let mut left: Vec<_> = fs::read_dir(directory)
            .expect("the directory")
            .map(|entry| entry.expect("a name").file_name().into_string())
            .map(|name| name.expect("text"))
            .collect();
        left.sort();
        // The third is too young.
        assert_eq!(left, ["2.sock", "3.sock", "4.sock", "5.sock", "other"]);
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_left_alone() {
        let scratch = tempfile::tempdir().expect("a directory");
        let directory = scratch.path();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).expect("its mode");
        let socket = directory.join("1.sock");
        drop(UnixListener::bind(&socket).expect("it listens"));
        age(&socket);
        sweep(directory);
        assert!(socket.exists());
        assert!(check(directory).is_err());
        let link = directory.join("link");
        std::os::unix::fs::symlink("/", &link).expect("a link");
        assert!(check(&link).is_err());
    }
}
