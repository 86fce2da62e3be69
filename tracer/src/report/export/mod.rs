//! What was held, in the formats of other tools: one file each.

pub mod collapsed;
pub mod csv;
pub mod firefox;
pub mod heaptrack;
pub mod lines;
pub mod pprof;
pub mod speedscope;

use super::flamegraph::TRUNCATED;
