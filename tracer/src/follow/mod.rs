//! The program images that a session follows: one execution of one program by one process, from fork or exec to exec or exit. And which
//! processes it follows at all.

pub mod facts;
pub mod scope;
pub mod states;

pub use facts::{Action, Fact};
pub use scope::Scope;
pub use states::Images;
