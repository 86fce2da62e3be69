//! The gate before any probe goes in: what would harm the process, or could not work, is recognised from outside.

use super::{
    Target, TargetError,
    allocator::{self, Survey},
    elf::{self, Elf, ElfError},
    mapped_file,
    procfs::{self, STATUS_LIMIT},
    refusal::Refusal,
};

/// What is true of a process and dangerous only on some kernels: whether it is on this one, a test on a child of our own
/// must tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Some thread has a seccomp filter. Where return probes end in a system call that the filter does not know (6.11
    /// to about 6.14), it kills the process: [`Refusal::Seccomp`].
    pub seccomp: bool,
    /// Some thread runs with a user shadow stack. Where the kernel swaps the return address without telling the shadow
    /// stack (6.6 to 6.10), the return kills the process: [`Refusal::ShadowStack`].
    pub shadow_stack: bool,
}

/// Examines a process before any probe goes in.
///
/// # Errors
///
/// [`TargetError::Refused`] for what is dangerous or useless on every kernel; `Gone` and `NotPermitted` where we could
/// not look, in which case no probe may go in either.
pub fn examine(target: &Target) -> Result<Findings, TargetError> {
    let stat = target.stat()?;
    if stat.start_ticks != target.start_ticks {
        return Err(TargetError::Gone { pid: target.pid });
    }
    if stat.is_kernel_thread() {
        return Err(Refusal::KernelThread.of(target));
    }
    if !target.is_alive() {
        return Err(Refusal::Zombie.of(target));
    }
    let program = mapped_file::open_program(target)?;
    let elf_error = |source| TargetError::Elf {
        path: program.path.clone(),
        source,
    };
    if let Some(refusal) = Refusal::of_kind(elf::kind(&program.file).map_err(elf_error)?) {
        return Err(refusal.of(target));
    }
    let elf = Elf::open(&program.file).map_err(elf_error)?;
    if elf.is_go() {
        return Err(Refusal::Go.of(target));
    }
    // A program may lack an interpreter and yet have a libc: one started as `ld.so PROGRAM`.
    let survey = allocator::survey(target)?;
    if survey.glibc.is_none() {
        let refusal = match without_glibc(&survey) {
            Refusal::NoLibc if elf.is_static() => Refusal::Static,
            refusal => refusal,
        };
        return Err(refusal.of(target));
    }
    threads_findings(target)
}

/// Why a process in which no glibc was found cannot be traced.
pub(super) fn without_glibc(survey: &Survey) -> Refusal {
    if survey.musl {
        Refusal::Musl
    } else if survey.has_part_of_glibc {
        Refusal::CopiedCode
    } else {
        Refusal::NoLibc
    }
}

fn threads_findings(target: &Target) -> Result<Findings, TargetError> {
    let tasks = format!("/proc/{}/task", target.pid);
    let mut findings = Findings::default();
    let mut seen = 0;
    for tid in target.threads() {
        // Threads come and go.
        if let Ok(status) = procfs::read(format!("{tasks}/{tid}/status").as_ref(), STATUS_LIMIT) {
            let of_thread = parse_status(&status);
            findings.seccomp |= of_thread.seccomp;
            findings.shadow_stack |= of_thread.shadow_stack;
            seen += 1;
        }
    }
    // Nothing seen is not the same as nothing found.
    if seen == 0 || !target.is_alive() {
        return Err(TargetError::Gone { pid: target.pid });
    }
    Ok(findings)
}

/// What the `status` of a thread says. Without the lines (older kernels) the kernel has no such feature.
fn parse_status(status: &[u8]) -> Findings {
    let features = procfs::status_field(status, "x86_Thread_features").unwrap_or_default();
    Findings {
        seccomp: procfs::status_number(status, "Seccomp").is_some_and(|mode| mode != 0),
        shadow_stack: features
            .split(u8::is_ascii_whitespace)
            .any(|feature| feature == b"shstk"),
    }
}

/// Why a program that is not running yet could not be traced, if that can be told from its file.
pub(super) fn examine_program(elf: &Elf<'_>) -> Option<Refusal> {
    if elf.is_go() {
        return Some(Refusal::Go);
    }
    elf.is_static().then_some(Refusal::Static)
}

/// The refusal that an ELF error amounts to, if it is for another machine.
pub(super) fn foreign(error: &ElfError) -> Option<Refusal> {
    match error {
        ElfError::Foreign(kind) => Refusal::of_kind(*kind),
        ElfError::NotElf | ElfError::Damaged(_) | ElfError::Io(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
        process::Command,
    };

    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

    use super::*;
    use crate::target::process::tests::{Running, compile, copy_program, leaderless};

    const READY: &str = r#"
        #include <unistd.h>
        int main(void) { char c; write(1, "ready\n", 6); return read(0, &c, 1); }"#;

    fn run(program: &Path) -> Running {
        let mut running = Running::start(&mut Command::new(program));
        assert_eq!(running.line(), "ready");
        running
    }

    fn refusal(running: &Running) -> Refusal {
        match examine(&running.target()) {
            Err(TargetError::Refused { refusal, .. }) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ordinary_process_passes() {
        assert_eq!(
            examine(&Running::cat().target()).unwrap(),
            Findings::default()
        );
        let (_dir, running) = leaderless();
        assert_eq!(examine(&running.target()).unwrap(), Findings::default());
    }

    #[test]
    fn a_program_started_through_the_dynamic_linker_is_not_static() {
        let mut cat = Running::start(Command::new("/lib64/ld-linux-x86-64.so.2").arg("/bin/cat"));
        cat.say("ready");
        assert_eq!(cat.line(), "ready");
        examine(&cat.target()).unwrap();
    }

    #[test]
    fn static_programs_are_refused() {
        for flag in ["-static", "-static-pie"] {
            let (_dir, program) = compile(READY, &[flag]);
            assert_eq!(refusal(&run(&program)), Refusal::Static, "{flag}");
        }
    }

    #[test]
    fn programs_without_a_libc_are_refused() {
        let source = r#"
            static long call(long number, long a, const void *b, long c) {
                long result;
                __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
                return result;
            }
            void _start(void) { char c; call(1, 1, "ready\n", 6); call(0, 0, &c, 1); call(60, 0, 0, 0); }"#;
        let (_dir, program) = compile(
            source,
            &[
                "-nostdlib",
                "-pie",
                "-fPIE",
                "-Wl,--dynamic-linker=/lib64/ld-linux-x86-64.so.2",
            ],
        );
        assert_eq!(refusal(&run(&program)), Refusal::NoLibc);
    }

    #[test]
    fn go_programs_are_refused() {
        let source = format!(
            "__attribute__((section(\".go.buildinfo\"), used)) static int info = 1;\n{READY}"
        );
        let (_dir, program) = compile(&source, &[]);
        assert_eq!(refusal(&run(&program)), Refusal::Go);
    }

    #[test]
    fn a_process_that_maps_musl_and_no_glibc_is_refused() {
        let survey = Survey {
            musl: true,
            ..Survey::default()
        };
        assert_eq!(without_glibc(&survey), Refusal::Musl);
    }

    #[test]
    fn kernel_threads_are_refused() {
        // Within a pid namespace of its own a test sees none.
        let is_kthreadd = fs::read("/proc/2/comm").is_ok_and(|name| name == b"kthreadd\n");
        if !is_kthreadd {
            return;
        }
        let target = Target::open(2).unwrap();
        assert_eq!(target.command, "[kthreadd]");
        let error = examine(&target).unwrap_err().to_string();
        assert!(
            error.contains("process 2 ([kthreadd])") && error.contains("kernel thread"),
            "{error}"
        );
    }

    #[test]
    fn a_zombie_is_refused() {
        let mut cat = Running::cat();
        drop(cat.0.stdin.take());
        while cat.target().stat().unwrap().state != b'Z' {
            std::thread::yield_now();
        }
        assert_eq!(refusal(&cat), Refusal::Zombie);
    }

    #[test]
    fn a_process_that_ends_while_we_look_is_gone() {
        let cat = Running::cat();
        let target = cat.target();
        drop(cat);
        assert!(matches!(examine(&target), Err(TargetError::Gone { .. })));
        assert!(matches!(
            allocator::find(&target),
            Err(TargetError::Gone { .. })
        ));
    }

    #[test]
    fn a_seccomp_filter_of_any_thread_is_found() {
        let source = r#"
            #include <pthread.h>
            #include <sys/prctl.h>
            #include <linux/filter.h>
            #include <linux/seccomp.h>
            #include <unistd.h>
            static void *run(void *unused) {
                struct sock_filter allow = { BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW };
                struct sock_fprog program = { 1, &allow };
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
                write(1, "ready\n", 6);
                pause();
                return unused;
            }
            int main(void) { pthread_t thread; pthread_create(&thread, 0, run, 0); pthread_join(thread, 0); }"#;
        let (_dir, program) = compile(source, &["-pthread"]);
        let found = examine(&run(&program).target()).unwrap();
        assert_eq!(
            found,
            Findings {
                seccomp: true,
                shadow_stack: false
            }
        );
    }

    #[test]
    fn shadow_stacks_are_read_from_the_thread_features() {
        let with = |line: &str| {
            parse_status(format!("Name:\tx\n{line}\nSeccomp:\t0\n").as_bytes()).shadow_stack
        };
        assert!(with("x86_Thread_features:\tshstk wrss "));
        assert!(!with("x86_Thread_features:\t"));
        assert!(!with("x86_Thread_features_locked:\tshstk wrss "));
    }

    /// Runs with no capability in a thread of its own. As root, other users' files stay readable, but not processes that
    /// have more capabilities.
    fn without_capabilities<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let held = capabilities(None).unwrap();
                let none = CapabilitySets {
                    effective: CapabilitySet::empty(),
                    ..held
                };
                set_capabilities(None, none).unwrap();
                run()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn what_is_not_permitted_names_the_capability_and_the_command() {
        if !rustix::process::geteuid().is_root() || capabilities(None).unwrap().effective.is_empty()
        {
            return;
        }
        let cat = Running::cat();
        let target = cat.target();
        for error in [
            without_capabilities(|| examine(&target)).unwrap_err(),
            without_capabilities(|| allocator::find(&target)).unwrap_err(),
        ] {
            assert!(error.is_permission(), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("CAP_SYS_PTRACE"), "{text}");
            assert!(
                text.contains(&format!("sudo highwater record -p {}", target.pid)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_program_whose_file_is_gone_is_examined_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let program: PathBuf = dir.path().join("gone");
        copy_program("/bin/cat", &program);
        let mut running = Running::start(&mut Command::new(&program));
        running.say("ready");
        running.line();
        fs::remove_file(&program).unwrap();
        examine(&running.target()).unwrap();
    }
}
