use std::os::unix::fs::{MetadataExt, PermissionsExt};

use proptest::prelude::*;

use super::*;
use crate::target::process::tests::compile;

fn write(dir: &Path, name: &str, content: &str, mode: u32) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn resolve(name: &str, path_env: &str, cwd: &Path) -> Result<PathBuf, u8> {
    resolve_command(OsStr::new(name), Some(OsStr::new(path_env)), cwd)
        .map_err(|error| error.exit_code())
}

#[test]
fn commands_are_found_as_env_finds_them() {
    let dir = tempfile::tempdir().unwrap();
    let cwd = dir.path();
    fs::create_dir_all(cwd.join("first/tool")).unwrap();
    fs::create_dir(cwd.join("second")).unwrap();
    fs::create_dir(cwd.join("third")).unwrap();
    let plain = write(&cwd.join("second"), "tool", "", 0o644);
    let good = write(&cwd.join("third"), "tool", "", 0o755);
    let here = write(cwd, "here", "", 0o755);

    assert_eq!(
        resolve("tool", "first:second:none:third", cwd),
        Ok(good),
        "the first that can be run"
    );
    assert_eq!(
        resolve("tool", "first:second", cwd),
        Err(126),
        "found, but nothing to run"
    );
    assert_eq!(resolve("tool", "none", cwd), Err(127));
    assert_eq!(
        resolve("here", "none:", cwd),
        Ok(here.clone()),
        "an empty entry is here"
    );
    assert_eq!(resolve("./here", "none", cwd), Ok(cwd.join("./here")));
    assert_eq!(resolve(here.to_str().unwrap(), "none", cwd), Ok(here));
    assert_eq!(resolve("./none", "", cwd), Err(127));
    assert_eq!(resolve("", "", cwd), Err(127));
    assert_eq!(resolve("./first", "", cwd), Err(126), "a directory");
    assert_eq!(resolve("./here/below", "", cwd), Err(126), "below a file");
    assert_eq!(resolve(plain.to_str().unwrap(), "", cwd), Err(126));
    let cat = resolve_command(OsStr::new("cat"), None, cwd).unwrap();
    assert_eq!(cat, Path::new("/bin/cat"), "without PATH");
}

#[test]
fn each_failure_is_the_one_that_env_reports() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "plain", "", 0o644);
    for name in [
        "./plain",
        "./none",
        "plain",
        "none",
        "./plain/x",
        "/etc",
        ".",
    ] {
        let status = std::process::Command::new("env")
            .arg(name)
            .env("PATH", "/usr/bin:.")
            .current_dir(dir.path())
            .output()
            .unwrap()
            .status;
        let ours = resolve(name, "/usr/bin:.", dir.path());
        assert_eq!(
            ours.map_err(i32::from),
            Err(status.code().unwrap()),
            "{name}"
        );
    }
}

/// The libc that this very process maps.
fn our_libc() -> u64 {
    let maps = crate::target::maps::read(Path::new("/proc/self")).unwrap();
    maps.iter()
        .find(|map| matches!(&map.path, crate::target::maps::MappingName::File(path, _) if path.ends_with("libc.so.6")))
        .unwrap()
        .inode
}

#[test]
fn the_predicted_libc_is_the_one_that_gets_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let script = write(dir.path(), "script", "#! /bin/sh -e\nexit 0\n", 0o755);
    let second = write(
        dir.path(),
        "second",
        &format!("#!{}\n", script.display()),
        0o755,
    );
    let bare = write(dir.path(), "bare", "exit 0\n", 0o755);
    for command in [
        Path::new("/bin/cat"),
        &script,
        &second,
        &bare,
        Path::new("/usr/bin/env"),
    ] {
        let libc = predict_libc(command).unwrap();
        assert_eq!(
            fs::metadata(&libc).unwrap().ino(),
            our_libc(),
            "{}",
            command.display()
        );
        assert_eq!(libc, fs::canonicalize(&libc).unwrap());
    }
}

#[test]
fn what_cannot_be_traced_is_told_before_it_runs() {
    let source = "int main(void) { return 0; }";
    let refusal = |path: &Path| match predict_libc(path) {
        Err(LaunchError::Refused { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    };
    let (dir, program) = compile(source, &["-static"]);
    assert_eq!(refusal(&program), Refusal::Static);
    let script = write(
        dir.path(),
        "script",
        &format!("#!{}\n", program.display()),
        0o755,
    );
    assert_eq!(refusal(&script), Refusal::Static);
    let (_dir, program) = compile(source, &["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"]);
    assert_eq!(refusal(&program), Refusal::Musl);
    let mut content = fs::read("/bin/cat").unwrap();
    content[4] = 1;
    let foreign = dir.path().join("foreign");
    fs::write(&foreign, content).unwrap();
    assert_eq!(refusal(&foreign), Refusal::X32);
}

#[test]
fn scripts_that_never_end_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ouroboros");
    fs::write(&path, format!("#!{}\n", path.display())).unwrap();
    let error = predict_libc(&path).unwrap_err();
    assert!(matches!(error, LaunchError::TooManyInterpreters { .. }));
    assert_eq!(error.exit_code(), 126);
    assert_eq!(
        predict_libc(Path::new("/none")).unwrap_err().exit_code(),
        127
    );
    let lost = write(dir.path(), "lost", "#!/none\n", 0o755);
    let error = predict_libc(&lost).unwrap_err();
    assert!(
        error.to_string().contains("/none"),
        "the interpreter is what is missing: {error}"
    );
}

#[test]
fn the_line_of_a_script_is_read_as_the_kernel_reads_it() {
    let interpreter =
        |line: &[u8]| script_interpreter(line).map(|path| path.to_str().unwrap().to_owned());
    assert_eq!(interpreter(b"#!/bin/sh\n").unwrap(), "/bin/sh");
    assert_eq!(
        interpreter(b"#! \t/usr/bin/env python3 -u\nprint()").unwrap(),
        "/usr/bin/env"
    );
    assert_eq!(interpreter(b"#!\n/bin/sh"), None);
    assert_eq!(interpreter(b"# !/bin/sh"), None);
}

proptest! {
    #[test]
    fn reading_a_script_line_never_panics(start: Vec<u8>) {
        script_interpreter(&start);
        script_interpreter(&[b"#!", start.as_slice()].concat());
    }
}
