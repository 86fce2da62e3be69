//! A display without a screen, for programs with windows.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::patience;
use crate::process::{Running, run};

/// An X server that draws nowhere. It ends when this is dropped.
#[derive(Debug)]
pub struct Display {
    name: String,
    _server: Running,
}

impl Display {
    /// Starts one, with a number that nobody has.
    ///
    /// # Panics
    ///
    /// If there is no Xvfb: `cargo xtask setup` installs it.
    #[track_caller]
    pub fn start() -> Self {
        let mut xvfb = Command::new("Xvfb");
        xvfb.args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "1280x1024x24",
            "-nolisten",
            "tcp",
        ]);
        let mut server = Running::start(xvfb.stdin(Stdio::null()));
        // It says its number once it listens.
        let said = server.stdout_line();
        Self {
            name: format!(":{}", said.trim()),
            _server: server,
        }
    }

    /// Starts a program there.
    #[track_caller]
    pub fn run(&self, command: &mut Command) -> Running {
        Running::start(command.env("DISPLAY", &self.name).stdin(Stdio::null()))
    }

    /// Waits until a window whose title begins so is there.
    ///
    /// # Panics
    ///
    /// If the program ends before, or there is none for long.
    #[track_caller]
    pub fn await_window(&self, title: &str, of: &mut Running) {
        let end = Instant::now() + patience();
        let wanted = format!("\"{title}");
        loop {
            let windows = run(Command::new("xwininfo")
                .args(["-root", "-tree"])
                .env("DISPLAY", &self.name));
            if windows.stdout.contains(&wanted) {
                return;
            }
            assert!(!of.has_ended(), "it ended without a window {title}");
            assert!(
                Instant::now() < end,
                "no window {title} in {}",
                windows.stdout
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Running {
    /// Waits until it has used no processor time for a second, or has ended.
    ///
    /// # Panics
    ///
    /// If it is busy for long.
    #[track_caller]
    pub fn await_idle(&mut self) {
        let end = Instant::now() + patience();
        let mut used = String::new();
        loop {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
            let fields: Vec<&str> = stat
                .rsplit(") ")
                .next()
                .unwrap_or_default()
                .split(' ')
                .collect();
            // utime and stime, the 14th and 15th of all.
            let now = fields
                .get(11..13)
                .map(|times| times.join(" "))
                .unwrap_or_default();
            if self.has_ended() || now == used {
                return;
            }
            assert!(Instant::now() < end, "it is still busy");
            used = now;
            thread::sleep(Duration::from_secs(1));
        }
    }
}
