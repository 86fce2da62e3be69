//! What was held, in the formats of other tools: one file each.

pub mod collapsed;
pub mod pprof;
