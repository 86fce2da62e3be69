//! `highwater man`: the manual pages, made from the command line's own definition.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use crate::words::say;
use anyhow::Context as _;
use clap::Args;

/// Write the manual: one page to standard output, or all of them into a directory
#[derive(Debug, Args)]
#[command(after_help = "To read it at once: highwater man | man -l -\n\
                  To install all pages: highwater man -o /usr/local/share/man/man1")]
pub(super) struct Arguments {
    /// The directory that gets highwater.1 and a page for each verb; it must be there
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let command = super::command();
    let Some(directory) = &arguments.output else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return Ok(io::stdout().lock().write_all(&page)?);
    };
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("cannot write manual pages into {}", directory.display()))?;
    say!(
        "wrote highwater.1 and a page for each verb into {}",
        directory.display()
    );
    Ok(())
}
