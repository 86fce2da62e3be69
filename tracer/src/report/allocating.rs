//! Functions that say by their name that they allocate for whoever called them: `xmalloc`, `jv_mem_alloc`, `sqlite3Malloc`,
//! `ztrymalloc_usable`. They are in the stacks of everything that a library holds, so that they tell nothing of who it is for.
//! A name that also says for what (`session_alloc`, `allocate_rows`) is not one of them.

/// How the telling word of such a name ends.
const VERBS: [&str; 12] = [
    "malloc",
    "mallocz",
    "calloc",
    "realloc",
    "reallocarray",
    "zalloc",
    "palloc",
    "valloc",
    "memalign",
    "strdup",
    "strndup",
    "memdup",
];

/// Words that may follow it.
const QUALIFIERS: [&str; 9] = [
    "usable", "internal", "impl", "aligned", "array", "atomic", "flags", "n", "or",
];

/// What may stand before a bare `alloc`.
const MEMORY: [&str; 8] = [
    "mem", "memory", "raw", "heap", "internal", "cleared", "zeroed", "aligned",
];

/// What may stand before a bare `memory`, at the beginning of a name of few words: `AcquireAlignedMemory`.
const TAKERS: [&str; 3] = ["acquire", "allocate", "resize"];

/// Whether the function allocates for others, by its name.
pub(super) fn allocates(function: &str) -> bool {
    let head = function.split(['(', '<', '[']).next().unwrap_or(function);
    let name = head.rsplit("::").next().unwrap_or(head);
    let words = words(name);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ends = |word: &str| VERBS.iter().any(|verb| word.ends_with(verb));
    let mut tail = words.as_slice();
    while let [rest @ .., last] = tail
        && QUALIFIERS.contains(last)
    {
        tail = rest;
    }
    match tail {
        ["alloc" | "allocate" | "reallocate"] => true,
        ["ngx", "alloc"] => true,
        [.., before, "alloc" | "allocate"] => MEMORY.contains(before),
        [first, "memory"] | [first, _, "memory"] => TAKERS.contains(first),
        [.., last] => ends(last),
        [] => false,
    }
}

/// The words of a name, in small letters and without the digits that they end in: `sqlite3Malloc` has `sqlite` and `malloc`.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut was_small = false;
    for c in name.chars() {
        if !c.is_alphanumeric() {
            words.push(String::new());
            was_small = false;
            continue;
        }
        if c.is_uppercase() && was_small || words.is_empty() {
            words.push(String::new());
        }
        was_small = !c.is_uppercase();
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    for word in &mut words {
        let kept = word.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        word.truncate(kept);
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_only_says_that_it_allocates_is_told_from_one_that_says_for_what() {
        for name in [
            "xmalloc",
            "g_malloc0",
            "g_strdup",
            "jv_mem_alloc",
            "sqlite3Malloc",
            "sqlite3Realloc",
            "CRYPTO_zalloc",
            "ztrymalloc_usable_internal",
            "PyMem_RawMalloc",
            "_PyObject_Malloc",
            "av_mallocz",
            "app::Pool::Allocate(unsigned long)",
            "ngx_palloc",
            "ngx_alloc",
            "ggc_internal_alloc(unsigned long, void (*)(void*), unsigned long, unsigned long)",
            "ggc_internal_cleared_alloc",
            "AcquireAlignedMemory",
            "ResizeMagickMemory",
        ] {
            assert!(allocates(name), "{name}");
        }
        for name in [
            "session_alloc",
            "alloc_session",
            "allocate_rows",
            "jv_array_sized",
            "sqlite3PcacheFetch",
            "main",
            "callocate_all",
            "free_memory",
            "acquire_lock_of_shared_memory",
            "app::Malloc::report()",
            "",
            "123",
        ] {
            assert!(!allocates(name), "{name}");
        }
    }
}
