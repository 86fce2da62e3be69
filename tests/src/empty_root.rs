//! A root directory that holds the statically linked highwater and nothing else: neither libraries nor anybody's files.

use std::env;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::scratch;

/// The statically linked highwater, built for this once.
///
/// # Panics
///
/// With what cargo said, if it could not be built.
pub fn static_highwater() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["run", "--quiet", "--package", "xtask", "--"])
            .args(["dist", "--for-tests"])
            .output()
            .expect("cargo runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let path = PathBuf::from(said.trim());
        assert!(
            output.status.success() && path.is_file(),
            "no static highwater: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        path
    })
}

/// The directory; removed when this is dropped. What is run in it sees it as `/`.
#[derive(Debug)]
pub struct EmptyRoot(TempDir);

impl EmptyRoot {
    /// A root with that file in it as `/highwater`.
    pub fn of(binary: &Path) -> Self {
        let root = scratch();
        fs::copy(binary, root.path().join("highwater")).expect("the binary can be copied");
        Self(root)
    }

    /// Where it is, seen from outside.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A command that runs highwater in it, in a mount namespace of its own, where of the system outside only these
    /// directories (or files) are to be seen.
    pub fn highwater(&self, mounted: &[&str]) -> Command {
        let text = |path: &Path| {
            CString::new(path.as_os_str().as_bytes()).expect("a path without null bytes")
        };
        let root = text(self.path());
        let mounts: Vec<(CString, CString)> = mounted
            .iter()
            .map(|outside| {
                let inside = self.path().join(outside.trim_start_matches('/'));
                if Path::new(outside).is_dir() {
                    fs::create_dir_all(&inside).expect("a directory can be made");
                } else {
                    let parent = inside.parent().expect("it lies in the root");
                    fs::create_dir_all(parent).expect("a directory can be made");
                    fs::write(&inside, "").expect("a file can be made");
                }
                (text(Path::new(outside)), text(&inside))
            })
            .collect();
        let mut command = Command::new("/highwater");
        let enter = move || {
            // SAFETY: between fork and exec: system calls alone, on strings that were made before.
            unsafe {
                checked(libc::unshare(libc::CLONE_NEWNS))?;
                mount(None, c"/", libc::MS_REC | libc::MS_PRIVATE)?;
                for (outside, inside) in &mounts {
                    mount(Some(outside), inside, libc::MS_REC | libc::MS_BIND)?;
                }
                checked(libc::chroot(root.as_ptr()))?;
                checked(libc::chdir(c"/".as_ptr()))
            }
        };
        // SAFETY: `enter` allocates nothing.
        unsafe { command.pre_exec(enter) };
        command.env_clear();
        command
    }
}

/// # Safety
///
/// As of any system call between fork and exec.
unsafe fn mount(
    source: Option<&CString>,
    target: &std::ffi::CStr,
    flags: libc::c_ulong,
) -> io::Result<()> {
    let source = source.map_or(ptr::null(), |source| source.as_ptr());
    // SAFETY: the strings end in null bytes; no file system's name and no data are needed.
    checked(unsafe { libc::mount(source, target.as_ptr(), ptr::null(), flags, ptr::null()) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
