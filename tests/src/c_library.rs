//! The C libraries that there are here: this machine's, Debian 13's, and that of the next Debian.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::profile_directory;

/// A C library that a program can be run with.
#[derive(Clone, Debug)]
pub struct CLibrary {
    /// What it is called.
    pub name: String,
    /// The root that it lies in, if that is not ours.
    root: Option<PathBuf>,
}

impl CLibrary {
    /// What runs a program with this library, by its own dynamic linker.
    pub fn command(&self, program: &Path) -> Command {
        let Some(root) = &self.root else {
            return Command::new(program);
        };
        let mut command = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(root.join("usr/lib/x86_64-linux-gnu"))
            .arg(program);
        command
    }
}

/// All of them; in a virtual machine, which has no others, its own alone. Panics if one is missing.
#[track_caller]
pub fn c_libraries() -> Vec<CLibrary> {
    let mut libraries = vec![CLibrary {
        name: "this machine's libc".to_owned(),
        root: None,
    }];
    if env::var_os("HIGHWATER_VICTIMS").is_some() {
        return libraries;
    }
    for (name, directory) in [
        ("Debian 13's libc", "debian-13"),
        ("the next Debian's libc", "newer-pythons"),
    ] {
        let root = profile_directory().join("..").join(directory).join("root");
        assert!(
            root.join("usr/lib/x86_64-linux-gnu/libc.so.6").exists(),
            "{} holds no libc; run `cargo xtask setup`",
            root.display()
        );
        libraries.push(CLibrary {
            name: name.to_owned(),
            root: Some(root),
        });
    }
    libraries
}
