//! What the kernel side and the user side say to each other, byte by byte.
//!
//! No logic lives here but what both compute alike; only layouts, their sizes (asserted) and limits. The kernel object is
//! compiled from the same files, and the seal beside it says so.
#![no_std]

pub mod config;
pub mod cookie;
pub mod counter;
pub mod event;
pub mod hash;
pub mod loss;
pub mod mark;
pub mod process;
pub mod python;
pub mod sampling;
pub mod stack;
pub mod stranger;
pub mod unwind;
