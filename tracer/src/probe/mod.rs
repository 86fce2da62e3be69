//! Probes: where they go.

pub mod placement;
