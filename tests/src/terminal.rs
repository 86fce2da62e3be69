//! What a program writes to a terminal.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::ptr;

/// What the command writes to a terminal that is so many columns wide, lines ending in `\n`. Panics unless it succeeds.
pub fn on_terminal(command: &mut Command, columns: u16) -> String {
    let size = libc::winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let (mut ours, mut its) = (-1, -1);
    // SAFETY: the two descriptors are written, the name and the settings may be null, and the size lives until the call is over.
    let answer = unsafe { libc::openpty(&mut ours, &mut its, ptr::null_mut(), ptr::null(), &size) };
    assert_eq!(answer, 0, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: both were just opened, and nobody else has them.
    let (ours, its) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(its)) };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(its)
        .spawn()
        .expect("the command runs");
    // The command keeps the other side of the terminal as long as it is not replaced.
    command.stdout(Stdio::null());
    let (mut ours, mut written) = (File::from(ours), Vec::new());
    let mut part = [0; 4096];
    loop {
        match ours.read(&mut part) {
            Ok(0) => break,
            Ok(length) => written.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Nobody writes any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
            Err(error) => panic!("the terminal: {error}"),
        }
    }
    let status = child.wait().expect("the command ends");
    let text = String::from_utf8(written).expect("UTF-8");
    assert!(status.success(), "{command:?}: {status}\n{text}");
    text.replace("\r\n", "\n")
}
