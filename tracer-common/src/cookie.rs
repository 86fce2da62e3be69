//! Which allocator function a probe sits in, carried in the attach cookie.
//!
//! The cookie of a return by a perf link says whose calls the link is for, too: Linux before 6.12 runs the return programs of every perf
//! link in whatever process the function returns.

/// How far up in a cookie the process lies.
const PROCESS_SHIFT: u32 = 32;

/// The cookie for calls of one process only, by its number of the kernel's.
pub const fn of_process(cookie: u64, tgid: u32) -> u64 {
    cookie | (tgid as u64) << PROCESS_SHIFT
}

/// Whether a cookie is for calls of that process. A cookie that names none is for all that its link sees.
pub const fn is_for(cookie: u64, tgid: u32) -> bool {
    let process = (cookie >> PROCESS_SHIFT) as u32;
    process == 0 || process == tgid
}

/// An allocator entry point. The value is the attach cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Function {
    /// `malloc(size)`
    Malloc = 1,
    /// `calloc(count, size)`
    Calloc = 2,
    /// `realloc(block, size)`
    Realloc = 3,
    /// `reallocarray(block, count, size)`
    Reallocarray = 4,
    /// `posix_memalign(&block, alignment, size)`
    PosixMemalign = 5,
    /// `aligned_alloc(alignment, size)`
    AlignedAlloc = 6,
    /// `memalign(alignment, size)`
    Memalign = 7,
    /// `valloc(size)`
    Valloc = 8,
    /// `pvalloc(size)`
    Pvalloc = 9,
    /// `free(block)`
    Free = 10,
    /// `cfree(block)`
    Cfree = 11,
    /// `free_sized(block, size)`
    FreeSized = 12,
    /// `free_aligned_sized(block, alignment, size)`
    FreeAlignedSized = 13,
}

/// After such a pause on a processor, nanoseconds, little of what a call needs is in its caches any more.
pub const PAUSE_NS: u64 = 1_000_000;

impl Function {
    /// Every function, in the order of their cookies.
    pub const ALL: [Self; 13] = [
        Self::Malloc,
        Self::Calloc,
        Self::Realloc,
        Self::Reallocarray,
        Self::PosixMemalign,
        Self::AlignedAlloc,
        Self::Memalign,
        Self::Valloc,
        Self::Pvalloc,
        Self::Free,
        Self::Cfree,
        Self::FreeSized,
        Self::FreeAlignedSized,
    ];

    /// The symbol a libc exports it under.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Malloc => "malloc",
            Self::Calloc => "calloc",
            Self::Realloc => "realloc",
            Self::Reallocarray => "reallocarray",
            Self::PosixMemalign => "posix_memalign",
            Self::AlignedAlloc => "aligned_alloc",
            Self::Memalign => "memalign",
            Self::Valloc => "valloc",
            Self::Pvalloc => "pvalloc",
            Self::Free => "free",
            Self::Cfree => "cfree",
            Self::FreeSized => "free_sized",
            Self::FreeAlignedSized => "free_aligned_sized",
        }
    }

    /// Whether it hands blocks back, and so needs no return probe.
    pub const fn frees(self) -> bool {
        matches!(
            self,
            Self::Free | Self::Cfree | Self::FreeSized | Self::FreeAlignedSized
        )
    }

    /// How many of the argument registers (rdi, rsi, rdx) it takes.
    pub const fn arguments(self) -> u8 {
        match self {
            Self::Malloc | Self::Valloc | Self::Pvalloc => 1,
            Self::Free | Self::Cfree | Self::FreeSized | Self::FreeAlignedSized => 1,
            Self::Calloc | Self::Realloc | Self::AlignedAlloc | Self::Memalign => 2,
            Self::Reallocarray | Self::PosixMemalign => 3,
        }
    }

    /// Where the preflight counts calls that come after a pause of [`PAUSE_NS`] on their processor: the cookie of no function.
    pub const RARE: u32 = 0;
    /// ... and where it keeps when the latest call came.
    pub const LATEST: u32 = Self::ALL.len() as u32 + 1;

    /// The function whose cookie this is.
    pub const fn from_cookie(cookie: u64) -> Option<Self> {
        if cookie >= 1 && cookie <= Self::ALL.len() as u64 {
            // SAFETY: the values are 1 to the number of functions, without a gap. (A table would need a bounds proof
            // from the kernel's verifier.)
            Some(unsafe { core::mem::transmute::<u8, Self>(cookie as u8) })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_that_names_a_process_is_for_no_other() {
        let cookie = of_process(Function::Calloc as u64, 4_194_303);
        assert!(is_for(cookie, 4_194_303));
        assert!(!is_for(cookie, 4_194_302));
        assert!(is_for(Function::Calloc as u64, 1));
    }
}
