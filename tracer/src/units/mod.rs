//! How sizes and times read, and are read: the words that all of the program shares. Used by all, uses nothing.

pub mod size;
pub mod time;
