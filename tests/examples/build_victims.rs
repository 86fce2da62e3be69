//! Builds every victim, for `cargo xtask vm`, where there are no compilers. Prints the directory that they lie in.
//!
//! An example, so that cargo puts it one directory below its profile's, as it does with tests.

use highwater_tests::{try_victim_program, victim_names};

fn main() {
    let mut directory = None;
    for name in victim_names() {
        match try_victim_program(&name) {
            Ok(program) => directory = program.parent().map(ToOwned::to_owned),
            // Not every compiler can build all of them; the tests that need this one say so.
            Err(reason) => eprintln!("victim {name} was not built: {reason}"),
        }
    }
    let directory = directory.expect("there is a victim that can be built");
    println!("{}", directory.display());
}
