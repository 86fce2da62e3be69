//! highwater attaches to a running process and shows who held the memory at its high-water mark.
//!
//! The modules are the pipeline, in the order in which data flows; [`session`] ties them together.
//!
//! ```text
//! probe ──► event ──► live set ──► peak ──► report
//! (kernel)  (ring)    (who holds)  (when     (flame graph, table,
//!                                   most)     JSON)
//! ```
//!
//! [`unwind`] makes the tables that the kernel side walks stacks with.

pub mod cli;
pub mod session;

pub mod units;

pub mod target;

pub mod unwind;

mod own_memory;

mod priority;

pub mod words;

pub mod probe;

pub mod event;

pub mod live;

mod fork_map;

pub mod peak;

pub mod symbol;

pub mod record;

pub mod model;

pub mod follow;

pub mod report;

#[cfg(test)]
mod layers;
