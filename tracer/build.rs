//! Refuses to build on a BPF object that is older than its sources.
//!
//! The object is committed, so that building needs stable Rust and nothing else. In a published package it is all there
//! is, and nothing is checked; in the repository its sources lie beside it.

use std::path::Path;

#[path = "build/source_hash.rs"]
mod source_hash;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Build scripts run in the root of their package.
    let repository = Path::new("..");
    if !repository.join(source_hash::SOURCES[0]).exists() {
        return;
    }
    let watched = source_hash::SOURCES.iter();
    for path in watched.chain([&source_hash::OBJECT, &source_hash::SEAL]) {
        println!(
            "cargo::rerun-if-changed={}",
            repository.join(path).display()
        );
    }
    match source_hash::staleness(repository) {
        Ok(None) => {}
        Ok(Some(why)) => println!(
            "cargo::error=the BPF object {} {why}; run `cargo xtask ebpf` to build it (`cargo xtask setup` once before, \
             for the toolchain)",
            source_hash::OBJECT
        ),
        Err(error) => println!(
            "cargo::error=comparing the BPF object with its sources failed: {error}; `cargo xtask ebpf` builds it anew"
        ),
    }
}
