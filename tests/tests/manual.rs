//! What the command line says of itself: completions and manual pages.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use highwater_tests::{highwater, run, scratch};

/// The verbs that `--help` lists, without `help` itself.
fn verbs() -> Vec<String> {
    let help = run(highwater().arg("--help")).stdout;
    let verbs = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help");
    let verbs: Vec<String> = verbs.map(str::to_owned).collect();
    assert!(verbs.len() > 10, "{help}");
    verbs
}

#[test]
fn there_is_a_manual_page_for_each_verb() {
    let directory = scratch();
    let output = directory.path().to_str().expect("a path in UTF-8");
    run(highwater().args(["man", "-o", output])).assert_says(0, &["a page for each verb", output]);
    let mut expected = vec!["highwater.1".to_owned()];
    expected.extend(verbs().iter().map(|verb| format!("highwater-{verb}.1")));
    expected.sort();
    let entries = fs::read_dir(directory.path()).expect("the directory can be read");
    let mut pages: Vec<String> = entries
        .map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.into_string().expect("a name in UTF-8")
        })
        .collect();
    pages.sort();
    assert_eq!(pages, expected);
    for page in pages {
        let text = fs::read_to_string(directory.path().join(&page)).expect("the page can be read");
        let has = |section: &str| {
            text.lines()
                .any(|line| line == format!(".SH \"{section}\""))
        };
        assert!(text.contains(".SH NAME"), "{page}: {text}");
        for section in ["EXIT STATUS", "FILES", "ENVIRONMENT", "SEE ALSO"] {
            assert!(has(section), "{section} of {page}: {text}");
        }
        // Of completions, the notes are examples.
        assert!(has("EXAMPLES") || has("NOTES"), "{page}: {text}");
    }
}

#[test]
fn man_shows_each_page_without_a_warning_and_with_its_examples() {
    let directory = scratch();
    run(highwater().arg("man").arg("-o").arg(directory.path())).assert_says(0, &[]);
    for verb in verbs().into_iter().filter(|verb| verb != "completions") {
        let page = directory.path().join(format!("highwater-{verb}.1"));
        let groff = run(Command::new("groff")
            .args(["-man", "-Tascii", "-ww", "-P-cbou", "-rLL=200n"])
            .arg(page));
        groff.assert_says(0, &[]);
        assert_eq!(groff.stderr, "", "{verb}");
        let examples = groff.stdout.split("EXAMPLES").nth(1).unwrap_or_default();
        assert!(
            examples.contains(&format!("highwater {verb}")),
            "{verb}: {}",
            groff.stdout
        );
    }
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    run(highwater().args(["man", "-o", "/nonexistent/pages"]))
        .assert_says(1, &["manual pages", "/nonexistent/pages", "No such file"]);
}

#[test]
fn bash_takes_the_completions_and_completes_every_verb() {
    let script = run(highwater().args(["completions", "bash"])).stdout;
    let mut bash = Command::new("bash")
        .args(["--noprofile", "--norc"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash starts");
    let ask = "\nCOMP_WORDS=(highwater '')\nCOMP_CWORD=1\n_highwater highwater '' highwater\n\
               printf '%s\\n' \"${COMPREPLY[@]}\"\n";
    let mut input = bash.stdin.take().expect("a pipe");
    input
        .write_all((script + ask).as_bytes())
        .expect("bash reads");
    drop(input);
    let output = bash.wait_with_output().expect("bash ends");
    let words = String::from_utf8(output.stdout).expect("words in UTF-8");
    for verb in verbs() {
        assert!(words.lines().any(|word| word == verb), "{verb}: {words}");
    }
}
