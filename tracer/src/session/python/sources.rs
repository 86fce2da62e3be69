//! Lines of source text, read as their functions are first seen: the files may be others when the report is read.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::target::mapped_file;

/// Longest source file that is read, bytes.
const MOST_FILE_BYTES: u64 = 4 << 20;
/// Most bytes of source files that are kept.
const MOST_BYTES: u64 = 64 << 20;
/// Longest line that is kept, bytes.
const MOST_LINE_BYTES: usize = 200;

/// Source files of traced processes.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// By process and name. `None`: there is no such file, or it cannot be read.
    files: HashMap<(PathBuf, String), Option<Vec<u8>>>,
    bytes: u64,
}

impl Sources {
    /// A line of a file as a process names it, without the space around it.
    pub(super) fn line(&mut self, proc_dir: &Path, file: &str, line: u32) -> Option<String> {
        let key = (proc_dir.to_owned(), file.to_owned());
        if !self.files.contains_key(&key) {
            let text = read(proc_dir, file, MOST_FILE_BYTES.min(MOST_BYTES - self.bytes));
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

fn read(proc_dir: &Path, file: &str, most: u64) -> Option<Vec<u8>> {
    // What has no file has a name in such brackets: `<string>`, `<frozen importlib._bootstrap>`.
    if file.starts_with('<') || file.is_empty() {
        return None;
    }
    let name = Path::new(file);
    let path = match name.strip_prefix("/") {
        Ok(absolute) => proc_dir.join("root").join(absolute),
        Err(_) => proc_dir.join("cwd").join(name),
    };
    mapped_file::read_regular(&path, most).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_are_found_below_the_root_and_the_working_directory_of_a_process() {
        let process = tempfile::tempdir().unwrap();
        for part in ["root/srv", "cwd"] {
            fs::create_dir_all(process.path().join(part)).unwrap();
        }
        fs::write(
            process.path().join("root/srv/app.py"),
            "import x\n  load()\n\n",
        )
        .unwrap();
        fs::write(process.path().join("cwd/tool.py"), "run()").unwrap();
        let mut sources = Sources::default();
        let mut line = |file, number| sources.line(process.path(), file, number);
        assert_eq!(line("/srv/app.py", 2).as_deref(), Some("load()"));
        assert_eq!(line("tool.py", 1).as_deref(), Some("run()"));
        for (file, number) in [
            ("/srv/app.py", 0),
            ("/srv/app.py", 3),
            ("/srv/app.py", 9),
            ("/srv", 1),
            ("<string>", 1),
        ] {
            assert_eq!(line(file, number), None, "{file}:{number}");
        }
        sources.end(process.path());
        assert_eq!(sources.bytes, 0);
    }
}
