//! A memory cgroup with a limit, of version 1 or 2.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// A memory cgroup, removed when this is dropped (its processes must have ended by then).
#[derive(Debug)]
pub struct MemoryCgroup {
    path: PathBuf,
}

impl MemoryCgroup {
    /// Makes a cgroup with that limit, or says why it cannot be done here.
    pub fn with_limit(bytes: u64) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "highwater-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self::named(&name, bytes)
    }

    /// The same, of that name.
    pub fn named(name: &str, bytes: u64) -> Result<Self, String> {
        let (parent, limits) = hierarchy()?;
        let path = parent.join(name);
        fs::create_dir(&path)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        let cgroup = Self { path };
        for &(file, required) in limits {
            let file = cgroup.path.join(file);
            match fs::write(&file, bytes.to_string()) {
                Err(error) if required => {
                    return Err(format!("cannot write {}: {error}", file.display()));
                }
                // Without swap accounting there is no limit on swap to set.
                Ok(()) | Err(_) => {}
            }
        }
        Ok(cgroup)
    }

    /// Makes a cgroup of version 2 of that name, without a limit, or says why that cannot be done here.
    pub fn of_version_2(name: &str) -> Result<Self, String> {
        let mounted = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let parent = mounted
            .map(Path::new)
            .into_iter()
            .find(|parent| parent.join("cgroup.controllers").exists())
            .ok_or("no cgroup file system of version 2 is mounted")?;
        let path = parent.join(name);
        fs::create_dir(&path)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self { path })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves a process into it. What the process has already been charged for stays where it is.
    #[track_caller]
    pub fn add(&self, pid: u32) {
        let file = self.path.join("cgroup.procs");
        fs::write(&file, pid.to_string())
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    }
}

impl MemoryCgroup {
    /// The same command, run in this cgroup from its first instruction on.
    pub fn run(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(self.path.join("cgroup.procs"))
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// How many processes in it the kernel has killed for want of memory.
    #[track_caller]
    pub fn oom_kills(&self) -> u64 {
        let text = ["memory.oom_control", "memory.events"]
            .iter()
            .find_map(|file| fs::read_to_string(self.path.join(file)).ok())
            .unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
            .unwrap_or_else(|| panic!("{} says nothing of kills: {text}", self.path.display()))
    }

    /// The kernel's own memory that it is charged now (BPF maps too), bytes.
    #[track_caller]
    pub fn kernel_charge(&self) -> u64 {
        let read = |file: &str| fs::read_to_string(self.path.join(file)).ok();
        let first = || read("memory.kmem.usage_in_bytes")?.trim().parse().ok();
        let second = || {
            let text = read("memory.stat")?;
            text.lines()
                .find_map(|line| line.strip_prefix("kernel ")?.parse().ok())
        };
        first()
            .or_else(second)
            .unwrap_or_else(|| panic!("{} says nothing of the kernel", self.path.display()))
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // The last process may be on its way out still.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        eprintln!("could not remove {}", self.path.display());
    }
}

/// Files that set a limit, and whether they must be there.
type Limits = &'static [(&'static str, bool)];

/// Where memory cgroups can be made, and the files that limit one.
fn hierarchy() -> Result<(PathBuf, Limits), String> {
    let first = Path::new("/sys/fs/cgroup/memory");
    if first.join("memory.limit_in_bytes").exists() {
        return Ok((
            first.to_owned(),
            &[
                ("memory.limit_in_bytes", true),
                ("memory.memsw.limit_in_bytes", false),
            ],
        ));
    }
    let second = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_to_string(second.join("cgroup.controllers")).unwrap_or_default();
    if !controllers.split_whitespace().any(|name| name == "memory") {
        return Err("there is no memory controller, of version 1 or 2".to_owned());
    }
    // On by default wherever an init system uses it.
    let _ = fs::write(second.join("cgroup.subtree_control"), "+memory");
    Ok((
        second.to_owned(),
        &[("memory.max", true), ("memory.swap.max", false)],
    ))
}
