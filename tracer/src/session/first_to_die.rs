//! Where memory runs out, the recorder is to be killed before the program that it traces.

use std::{fs, io, sync::OnceLock};

/// How ready the kernel is to kill this process, of -1000 to 1000.
const FILE: &str = "/proc/self/oom_score_adj";

/// What that was before we changed it.
static ORIGINAL: OnceLock<i32> = OnceLock::new();

/// From here on the kernel kills this process, and those that it makes, before all others where memory runs out. Every process may
/// ask for that.
pub(super) fn volunteer() {
    ORIGINAL.get_or_init(|| {
        let original = fs::read_to_string(FILE).ok();
        if let Err(error) = fs::write(FILE, "1000") {
            log::warn!("the recorder cannot be made the first to be killed when memory runs out ({FILE}: {error})");
        }
        original.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    });
}

/// What a command that we launch has to be given back; as it was before [`volunteer`].
pub(super) fn original() -> Option<i32> {
    ORIGINAL.get().copied()
}

/// In the child that is to become the command: what it would have had without us.
pub(super) fn restore(original: i32) -> io::Result<()> {
    fs::write(FILE, original.to_string())
}
