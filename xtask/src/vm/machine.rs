//! The virtual machine: QEMU that emulates a processor, a kernel, an initramfs, and a serial console to listen to.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::init;

/// How much of a console is shown where a machine came to no good end.
const TAIL: usize = 60;

/// Boots a kernel and hands over each line of its console, until the machine switches itself off.
pub(super) fn boot(
    kernel: &Path,
    initramfs: &Path,
    log: &Path,
    limit: Duration,
    mut hear: impl FnMut(&str),
) -> Result<()> {
    let mut log = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
    let mut machine = Machine(
        qemu(kernel, initramfs)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run qemu-system-x86_64")?,
    );
    let lines = lines_of(&mut machine.0)?;
    let start = Instant::now();
    let end = start + limit;
    let mut said = Vec::new();
    let why = loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                // When it came, in seconds: what takes long is seen from that.
                writeln!(log, "{:7.1} {line}", start.elapsed().as_secs_f64())?;
                if line.contains("Kernel panic - not syncing") {
                    break Some("the kernel panicked".to_owned());
                }
                hear(&line);
                said.push(line);
            }
            Err(RecvTimeoutError::Timeout) => {
                break Some(format!("it did not end within {} s", limit.as_secs()));
            }
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    if let Some(why) = why {
        // What a kernel says of its panic comes after the line that names it.
        while let Ok(line) = lines.recv_timeout(Duration::from_secs(2)) {
            writeln!(log, "{line}")?;
            said.push(line);
        }
        let tail = &said[said.len().saturating_sub(TAIL)..];
        bail!("{why}; the end of its console:\n{}", tail.join("\n"));
    }
    let status = machine.0.wait()?;
    ensure!(status.success(), "QEMU ended with {status}");
    Ok(())
}

fn qemu(kernel: &Path, initramfs: &Path) -> Command {
    // A panic or a restart ends the machine: it is told not to boot again. Of what the kernel says, only errors are wanted.
    // On a busy machine the timer may not tick in the moment in which the kernel looks whether it does.
    let parameters = format!(
        "console=ttyS0 loglevel=4 panic=-1 oops=panic no_timer_check {}=1",
        init::ASKED
    );
    let mut qemu = Command::new("qemu-system-x86_64");
    // One thread emulates both processors, in turn: with one each, QEMU 7.2 may go on with its translation of code that the other has
    // just changed. Linux changes its own code as tracepoints are switched on, a breakpoint first, and one machine in some fifteen
    // met that breakpoint for ever (http://www.uwsg.indiana.edu/hypermail/linux/kernel/2307.0/03869.html is another's report).
    qemu.args(["-accel", "tcg,thread=single", "-cpu", "max"])
        .args(["-smp", "2", "-m", "1536"])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &parameters]);
    qemu
}

/// The lines of its console, read by a thread so that waiting for one can end.
fn lines_of(machine: &mut Child) -> Result<Receiver<String>> {
    let console = machine.stdout.take().context("QEMU has no stdout")?;
    let (sender, lines) = sync_channel(64);
    thread::Builder::new()
        .name("reads the console".to_owned())
        .spawn(move || {
            let mut console = BufReader::new(console);
            let mut line = Vec::new();
            while console
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    break;
                }
                line.clear();
            }
        })?;
    Ok(lines)
}

/// A running QEMU, ended when this is dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
