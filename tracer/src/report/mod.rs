//! Reports: what a recording says, one sink a file.
//!
//! [`Profile::replay`] runs a recording's entries through the live set and keeps what a report needs: who held what at
//! the peak and at the end, what the kernel says of the same moments, and what is missing. The sinks only write it down:
//!
//! - [`text`]: the first screen, for a person;
//! - [`json`]: everything, for programs;
//! - [`flamegraph`]: the holders as a picture;
//! - [`html`]: the holders of any moment, as a page;
//! - [`check`]: whether budgets hold.
//!
//! [`question`] is what may be asked of it, [`answer`] the holders that this comes to, [`rows`] sums them up.
//!
//! They agree on words because [`name`] says what a frame is called, [`size`](crate::units::size) how a size reads, [`time`](crate::units::time) how a moment
//! does, and [`memory`] how traced memory and the kernel's own count add up.

mod allocating;
pub mod answer;
mod arenas;
mod asked;
pub mod budget;
pub mod check;
pub mod course;
pub mod difference;
mod error;
pub mod export;
mod family;
pub mod fit;
pub mod flamegraph;
mod growth;
pub mod html;
mod javascript;
pub mod joined;
pub mod json;
pub mod makeup;
mod mark;
pub mod memory;
mod model;
pub mod name;
pub mod owner;
pub mod package;
pub mod question;
mod replay;
pub mod rows;
#[cfg(test)]
mod script;
pub mod spans;
mod stacks;
pub mod statistics;
pub mod telling;
mod temporary;
pub mod text;
mod thinned;
pub mod tree;
pub mod view;

pub use error::ReplayError;
pub use mark::Mark;
pub use model::{Completion, ProcessProfile, Profile};
pub use replay::Threads;
