//! Lines of source text, read as their functions are first seen: the files may be others when the report is read.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::target::named_file::NamedFiles;

/// Longest source file that is read, bytes.
const MOST_FILE_BYTES: u64 = 4 << 20;
/// Most bytes of source files that are kept.
const MOST_BYTES: u64 = 64 << 20;
/// Most names of files that are kept, of files that could not be read too.
const MOST_FILES: usize = 1 << 16;
/// Longest line that is kept, bytes.
const MOST_LINE_BYTES: usize = 200;

/// Source files of traced processes.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// By process and name. `None`: there is no such file, or it is not read for that process.
    files: HashMap<(PathBuf, String), Option<Vec<u8>>>,
    bytes: u64,
}

impl Sources {
    /// A line of a file as a process names it, without the space around it. A file that is not the one that the running code was made
    /// of, or that the process may not read itself, has no lines.
    pub(super) fn line(
        &mut self,
        proc_dir: &Path,
        named: &NamedFiles,
        file: &str,
        line: u32,
    ) -> Option<String> {
        let key = (proc_dir.to_owned(), file.to_owned());
        if !self.files.contains_key(&key) {
            if self.files.len() >= MOST_FILES {
                return None;
            }
            let text = read(named, file, MOST_FILE_BYTES.min(MOST_BYTES - self.bytes));
            self.bytes += text.as_ref().map_or(0, |text| text.len() as u64);
            self.files.insert(key.clone(), text);
        }
        let text = self.files.get(&key)?.as_ref()?;
        let number = usize::try_from(line.checked_sub(1)?).ok()?;
        let line = text.split(|&byte| byte == b'\n').nth(number)?;
        let mut line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
        line.truncate(line.floor_char_boundary(MOST_LINE_BYTES));
        (!line.is_empty()).then_some(line)
    }

    /// A process has ended.
    pub(super) fn end(&mut self, proc_dir: &Path) {
        let mut freed = 0;
        self.files.retain(|(of, _), text| {
            let stays = of != proc_dir;
            if !stays {
                freed += text.as_ref().map_or(0, |text| text.len() as u64);
            }
            stays
        });
        self.bytes -= freed;
    }
}

fn read(named: &NamedFiles, file: &str, most: u64) -> Option<Vec<u8>> {
    // What has no file has a name in such brackets: `<string>`, `<frozen importlib._bootstrap>`.
    if file.starts_with('<') || file.is_empty() {
        return None;
    }
    named
        .read_text(Path::new(file), most)
        .inspect_err(|why| log::debug!("no source text of {file}: {why}"))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use super::*;

    #[test]
    fn lines_are_found_below_the_root_of_a_process_and_by_absolute_names_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("srv")).unwrap();
        fs::write(root.path().join("srv/app.py"), "import x\n  load()\n\n").unwrap();
        let named = NamedFiles::below(root.path(), SystemTime::now());
        let mut sources = Sources::default();
        let mut line = |file, number| sources.line(Path::new("/proc/7"), &named, file, number);
        assert_eq!(line("/srv/app.py", 2).as_deref(), Some("load()"));
        for (file, number) in [
            ("/srv/app.py", 0),
            ("/srv/app.py", 3),
            ("/srv/app.py", 9),
            ("/srv", 1),
            ("srv/app.py", 2),
            ("<string>", 1),
        ] {
            assert_eq!(line(file, number), None, "{file}:{number}");
        }
        sources.end(Path::new("/proc/7"));
        assert_eq!(sources.bytes, 0);
    }
}
