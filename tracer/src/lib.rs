//! highwater attaches to a running process and shows who held the memory at its high-water mark.
//!
//! The modules are the pipeline, in the order in which data flows:
//!
//! ```text
//! probe ──► event ──► live set ──► peak ──► report
//! (kernel)  (ring)    (who holds)  (when     (flame graph, table,
//!                                   most)     JSON)
//! ```

pub mod event;
pub mod live;
pub mod peak;
pub mod probe;
pub mod record;
pub mod target;
