// Which sources made the committed BPF object: written by `cargo xtask ebpf`, held against the sources by `build.rs`.
//
// Both include this file by `#[path]`, because neither may depend on the other: xtask has to run while the package
// `highwater` cannot be built, and a published package carries no xtask.

use std::path::{Path, PathBuf};
use std::{fs, io};

use sha2::{Digest, Sha256};

/// What the object is made of, from the root of the repository: files, and folders with all that is in them.
pub(crate) const SOURCES: [&str; 4] = [
    "tracer-ebpf/Cargo.toml",
    "tracer-ebpf/Cargo.lock",
    "tracer-ebpf/src",
    "tracer-common/src",
];

/// The object, from the root of the repository.
pub(crate) const OBJECT: &str = "tracer/src/probe/highwater.bpf.o";

/// The seal on it: the hash of the sources that made it, and its own.
pub(crate) const SEAL: &str = "tracer/src/probe/highwater.bpf.sha256";

/// The seal that belongs on the sources and the object as they are now.
pub(crate) fn seal(repository: &Path) -> io::Result<String> {
    let object = read(&repository.join(OBJECT))?;
    Ok(format!(
        "{}  sources\n{}  highwater.bpf.o\n",
        hash_of_sources(repository)?,
        hexadecimal(Sha256::digest(&object).as_slice()),
    ))
}

/// Why the object cannot be trusted to be what the sources say, or `None` if it can.
pub(crate) fn staleness(repository: &Path) -> io::Result<Option<&'static str>> {
    if !repository.join(OBJECT).exists() {
        return Ok(Some("has not been built"));
    }
    if !repository.join(SEAL).exists() {
        return Ok(Some("has no record beside it of the sources that made it"));
    }
    let (wanted, found) = (
        seal(repository)?,
        fs::read_to_string(repository.join(SEAL))?,
    );
    Ok(if wanted == found {
        None
    } else if wanted.lines().next() != found.lines().next() {
        Some("is older than its sources")
    } else {
        Some("is not the one that was built from its sources")
    })
}

/// SHA-256 over the name and the content of every source, each led by its length so that no two trees hash alike.
fn hash_of_sources(repository: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(repository, Path::new(source), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let content = read(&repository.join(&file))?;
        for part in [file.as_os_str().as_encoded_bytes(), &content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hexadecimal(hash.finalize().as_slice()))
}

/// Adds the files at and below `path`, but for what editors leave lying about (hidden files, backups ending in `~`).
fn collect(repository: &Path, path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !repository.join(path).is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(repository.join(path))? {
        let name = entry?.file_name();
        let name_bytes = name.as_encoded_bytes();
        if !name_bytes.starts_with(b".") && !name_bytes.ends_with(b"~") {
            collect(repository, &path.join(name), files)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|e| io::Error::new(e.kind(), format!("read {}: {e}", path.display())))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with a sealed object.
    fn sealed() -> tempfile::TempDir {
        let repository = tempfile::tempdir().unwrap();
        for file in SOURCES.into_iter().chain([OBJECT]) {
            let file = repository.path().join(file);
            let file = if file.extension().is_some() {
                file
            } else {
                file.join("main.rs")
            };
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "content").unwrap();
        }
        fs::write(
            repository.path().join(SEAL),
            seal(repository.path()).unwrap(),
        )
        .unwrap();
        repository
    }

    fn is_fresh(repository: &tempfile::TempDir) -> bool {
        staleness(repository.path()).unwrap().is_none()
    }

    #[test]
    fn a_sealed_object_is_fresh() {
        assert!(is_fresh(&sealed()));
    }

    #[test]
    fn a_source_that_changed_came_or_went_makes_it_stale() {
        for source in [
            "tracer-ebpf/Cargo.lock",
            "tracer-common/src/main.rs",
            "tracer-ebpf/src/stack/new.rs",
        ] {
            let repository = sealed();
            let source = repository.path().join(source);
            fs::create_dir_all(source.parent().unwrap()).unwrap();
            fs::write(source, "changed").unwrap();
            assert!(!is_fresh(&repository));
        }
        let repository = sealed();
        fs::remove_file(repository.path().join("tracer-ebpf/src/main.rs")).unwrap();
        assert!(!is_fresh(&repository));
    }

    #[test]
    fn what_moved_from_one_file_to_another_makes_it_stale() {
        let repository = sealed();
        let sources = repository.path().join("tracer-ebpf/src");
        fs::rename(sources.join("main.rs"), sources.join("other.rs")).unwrap();
        assert!(!is_fresh(&repository));
    }

    #[test]
    fn what_an_editor_leaves_lying_about_does_not() {
        let repository = sealed();
        let sources = repository.path().join("tracer-ebpf/src");
        fs::write(sources.join(".main.rs.swp"), "").unwrap();
        fs::write(sources.join("main.rs~"), "").unwrap();
        assert!(is_fresh(&repository));
    }

    #[test]
    fn another_object_or_none_is_stale() {
        let repository = sealed();
        let object = repository.path().join(OBJECT);
        fs::write(&object, "another").unwrap();
        assert!(!is_fresh(&repository));
        fs::remove_file(&object).unwrap();
        assert!(!is_fresh(&repository));
    }
}
