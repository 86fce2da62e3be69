//! The program images that a session follows: one execution of one program by one process, from fork or exec to exec or exit.

pub mod states;

pub use states::{Action, Fact, Images};
