//! What a recording's entries come to: the one place that reads them for what they say of memory.

pub mod feed;
pub mod losses;

pub use feed::Feed;
pub use losses::{Affects, Loss};
