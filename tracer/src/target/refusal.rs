//! Why a process must not, or cannot, be traced.

use super::{Target, TargetError, elf::Kind};

/// Why a process must not, or cannot, be traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No memory of its own.
    #[error(
        "it is a kernel thread, which has no memory of its own; trace a program instead (`pgrep -a NAME` finds its pid)"
    )]
    KernelThread,
    /// It has ended.
    #[error(
        "it has ended and only waits for its parent to take note, so that there is nothing left to trace; to trace it \
         from its start: `highwater record -- COMMAND`"
    )]
    Zombie,
    /// No shared allocator.
    #[error(
        "it is statically linked: its allocator is part of the program, where probes would not find it; link it \
         dynamically to trace it"
    )]
    Static,
    /// A 32-bit x86 program.
    #[error(
        "it is a 32-bit program, which passes arguments in other places than the probes look: every size would be wrong; \
         trace a 64-bit build of it"
    )]
    ThirtyTwoBit,
    /// x86-64 with 32-bit pointers.
    #[error(
        "it is an x32 program (64-bit code with 32-bit pointers), whose libc and stacks the probes would misread; trace \
         a 64-bit build of it"
    )]
    X32,
    /// Another machine's program.
    #[error("it is not an x86-64 program (ELF machine {0}), and no other machine is supported yet")]
    OtherMachine(u16),
    /// A program with Go's runtime.
    #[error(
        "it is a Go program: Go moves stacks while they are in use, so that a return address swapped by a return probe \
         would crash it, and its heap is not libc's; use Go's own profile (`go tool pprof`)"
    )]
    Go,
    /// musl instead of glibc.
    #[error(
        "it uses musl, and only glibc's allocator is supported yet; run it on a glibc system to trace it"
    )]
    Musl,
    /// No glibc, though it is dynamically linked.
    #[error(
        "it maps no glibc, whose allocator is the only one supported yet; if it has only just started, try again, or \
         trace it from its start: `highwater record -- COMMAND`"
    )]
    NoLibc,
    /// Its code runs from a copy, where no probe of the file is.
    #[error(
        "the code of its libc was copied to memory of no file (huge pages for program text do that), where no probe can be \
         placed; start it without that to trace it"
    )]
    CopiedCode,
    /// A handler that allocates inside an allocator call, on a stack above, dies of a return probe that cannot be skipped.
    #[error(
        "it handles signals on an alternate stack above its ordinary one, and a handler that allocates could die of a \
         return probe; only session links (Linux 6.13 and newer) can do without, and they do not work for it here"
    )]
    AlternateStack,
    /// Why: [`Findings::seccomp`](super::safety::Findings::seccomp).
    #[error(
        "it has a seccomp filter, and on this kernel a return probe is a system call that the filter would kill it for; \
         use a kernel that lets that call pass (6.10 and older, or 6.15 and newer), or run the program without the filter"
    )]
    Seccomp,
    /// Why: [`Findings::shadow_stack`](super::safety::Findings::shadow_stack).
    #[error(
        "it runs with a shadow stack, and on this kernel a return probe would look like an attack and kill it; use a \
         kernel of 6.11 or newer, or start the program with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off"
    )]
    ShadowStack,
}

impl Refusal {
    /// The error that says so of a process.
    pub fn of(self, target: &Target) -> TargetError {
        TargetError::Refused {
            pid: target.pid,
            command: target.command.clone(),
            refusal: self,
        }
    }

    /// Why a file of this kind cannot be traced, if it cannot.
    pub(super) const fn of_kind(kind: Kind) -> Option<Self> {
        match kind {
            Kind::X86_64 => None,
            Kind::I386 => Some(Self::ThirtyTwoBit),
            Kind::X32 => Some(Self::X32),
            Kind::Other(machine) => Some(Self::OtherMachine(machine)),
        }
    }
}
